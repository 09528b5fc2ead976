// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/heartbeat.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>
#include <pthread.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/sources/postgres/pgoutput_decoder.h"

namespace millrace::sources::postgres {
namespace {

constexpr std::chrono::milliseconds kReadingInterval{10'000};
constexpr std::chrono::milliseconds kStatementTimeout{5'000};

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
    const Status status = Beat(stop);
    if (stop.stop_requested()) {
      return;
    }
    if (!status.ok()) {
      connection_.reset();
      log_.Warn("Heartbeat failed, will retry", {{"error", status}});
    }
    MutexLock lock(mu_);
    reading_.last_error = status.ok() ? "" : "heartbeat: " + status.message();
    while (!wakes_early_ && wake_.WaitUntil(mu_, next)) {
    }
    wakes_early_ = false;
  }
}

Status Heartbeat::Beat(const std::stop_token& stop) {
  if (connection_ == nullptr) {
    MR_ASSIGN_OR_RETURN(connection_,
                        pg::Connection::Connect(options_.url,
                                                {.application_name = "millrace heartbeat",
                                                 .statement_timeout = kStatementTimeout,
                                                 .lock_timeout = kStatementTimeout},
                                                stop));
  }
  bool is_wanted = false;
  {
    MutexLock lock(mu_);
    is_wanted = std::exchange(is_wanted_, false);
  }
  if (is_wanted || (writes_messages_ && options_.interval > std::chrono::milliseconds(0))) {
    MR_ASSIGN_OR_RETURN(const pg::QueryResult written,
                        connection_->Exec(fmt::format(
                            "SELECT pg_logical_emit_message(true, {}, {})",
                            pg::QuoteLiteral(kHeartbeatPrefix), pg::QuoteLiteral(options_.slot))));
  }
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult row,
      connection_->Exec("SELECT pg_current_wal_lsn(), coalesce((SELECT greatest(0, "
                        "pg_current_wal_lsn() - restart_lsn) FROM pg_replication_slots WHERE "
                        "slot_name = " +
                        pg::QuoteLiteral(options_.slot) + "), 0)"));
  MR_ASSIGN_OR_RETURN(const Lsn server_lsn, ParseLsn(row.Text(0, 0)));
  uint64_t retained = 0;
  const std::string_view text = row.Text(0, 1);
  std::from_chars(text.data(), text.data() + text.size(), retained);
  MutexLock lock(mu_);
  reading_.server_lsn = server_lsn;
  reading_.retained_wal_bytes = retained;
  return Status::Ok();
}

}  // namespace millrace::sources::postgres
