// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/heartbeat.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <pthread.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/sources/postgres/pgoutput_decoder.h"
#include "millrace/sources/postgres/slot.h"

namespace millrace::sources::postgres {
namespace {

constexpr std::chrono::milliseconds kReadingInterval{10'000};
constexpr std::chrono::milliseconds kStatementTimeout{5'000};
constexpr std::chrono::milliseconds kCutCheckInterval{1'000};

// The server has ended the connection: what arrives between statements is its farewell.
bool IsCut(pg::Connection* connection) {
  return connection != nullptr && !connection->WaitReadable(std::chrono::milliseconds(0)).ok();
}

Result<std::unique_ptr<pg::Connection>> Connect(const std::string& url, bool is_replication,
                                                const std::stop_token& stop) {
  return pg::Connection::Connect(url,
                                 {.replication = is_replication,
                                  .application_name = "millrace heartbeat",
                                  .statement_timeout = kStatementTimeout,
                                  .lock_timeout = kStatementTimeout},
                                 stop);
}

}  // namespace

Heartbeat::Heartbeat(Options options, telemetry::Logger log)
    : options_(std::move(options)), log_(std::move(log)) {
  thread_ = std::jthread([this](std::stop_token stop) { Run(std::move(stop)); });
}

Heartbeat::~Heartbeat() {
  thread_.request_stop();
  {
    MutexLock lock(mu_);
    wakes_early_ = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

void Heartbeat::StartMessages() {
  writes_messages_ = true;
  MutexLock lock(mu_);
  wakes_early_ = true;
  wake_.NotifyAll();
}

void Heartbeat::BeatNow() {
  MutexLock lock(mu_);
  is_wanted_ = true;
  wakes_early_ = true;
  wake_.NotifyAll();
}

Heartbeat::Reading Heartbeat::reading() const {
  MutexLock lock(mu_);
  return reading_;
}

void Heartbeat::Run(std::stop_token stop) {
  pthread_setname_np(pthread_self(), "mr-heartbeat");
  const auto interval =
      options_.interval > std::chrono::milliseconds(0) ? options_.interval : kReadingInterval;
  while (!stop.stop_requested()) {
    const auto next = std::chrono::steady_clock::now() + interval;
    Status status = ReadServer(stop);
    const bool is_cut = !status.ok() && connection_ != nullptr;
    const bool is_refused = !status.ok() && !is_cut && was_cut_;
    was_cut_ = !status.ok() && (was_cut_ || is_cut);
    if (status.ok()) {
      status = WriteMessage(stop);
    }
    if (stop.stop_requested()) {
      return;
    }
    if (!status.ok()) {
      connection_.reset();
      message_connection_.reset();
      log_.Warn("Heartbeat failed, will retry", {{"error", status}});
    }
    {
      MutexLock lock(mu_);
      reading_.last_error = status.ok() ? "" : "heartbeat: " + status.message();
      reading_.is_refused = is_refused;
    }
    Wait(is_cut ? std::min(next, std::chrono::steady_clock::now() + kCutCheckInterval) : next);
  }
}

void Heartbeat::Wait(std::chrono::steady_clock::time_point next) {
  for (;;) {
    {
      const auto slice = std::min(next, std::chrono::steady_clock::now() + kCutCheckInterval);
      MutexLock lock(mu_);
      while (!wakes_early_ && wake_.WaitUntil(mu_, slice)) {
      }
      if (std::exchange(wakes_early_, false)) {
        return;
      }
    }
    if (IsCut(message_connection_.get())) {
      message_connection_.reset();
      return;
    }
    if (IsCut(connection_.get())) {
      was_cut_ = true;
      connection_.reset();
      return;
    }
    if (std::chrono::steady_clock::now() >= next) {
      return;
    }
  }
}

Status Heartbeat::ReadServer(const std::stop_token& stop) {
  if (connection_ == nullptr) {
    MR_ASSIGN_OR_RETURN(connection_, Connect(options_.url, options_.is_standby, stop));
  }
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult row,
      connection_->Exec("SELECT CASE WHEN pg_is_in_recovery() THEN coalesce("
                        "pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_lsn() END"));
  MR_ASSIGN_OR_RETURN(const Lsn server_lsn, ParseLsn(row.Text(0, 0)));
  MR_ASSIGN_OR_RETURN(const std::optional<SlotInfo> slot, ReadSlot(*connection_, options_.slot));
  std::string instance;
  uint32_t timeline = 0;
  if (options_.is_standby) {
    MR_ASSIGN_OR_RETURN(instance, ReadInstance(*connection_));
    MR_ASSIGN_OR_RETURN(const SystemInfo system, IdentifySystem(*connection_));
    timeline = system.timeline;
  }
  MutexLock lock(mu_);
  reading_.instance = std::move(instance);
  reading_.timeline = timeline;
  reading_.server_lsn = server_lsn;
  reading_.retained_wal_bytes = slot ? slot->retained_wal_bytes : 0;
  reading_.wal_status = slot ? slot->wal_status : "";
  return Status::Ok();
}

Status Heartbeat::WriteMessage(const std::stop_token& stop) {
  bool is_wanted = writes_messages_ && options_.interval > std::chrono::milliseconds(0);
  {
    MutexLock lock(mu_);
    is_wanted |= std::exchange(is_wanted_, false);
  }
  if (!is_wanted || (options_.is_standby && options_.message_url.empty())) {
    return Status::Ok();
  }
  std::unique_ptr<pg::Connection>& writer =
      options_.message_url.empty() ? connection_ : message_connection_;
  if (writer == nullptr) {
    MR_ASSIGN_OR_RETURN(writer, Connect(options_.message_url, false, stop));
  }
  return writer
      ->Exec(fmt::format("SELECT pg_logical_emit_message(true, {}, {})",
                         pg::QuoteLiteral(kHeartbeatPrefix), pg::QuoteLiteral(options_.slot)))
      .status();
}

}  // namespace millrace::sources::postgres
