// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/postgres_source.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/server_check.h"

namespace millrace::sources::postgres {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSampleInterval{100};
constexpr size_t kSamplesMax = 4096;
// How long a server that stops waits for us before its stream is let go.
constexpr milliseconds kLetGoWait{2'000};
// How often the catalog is compared where no heartbeats are written.
constexpr milliseconds kCompareInterval{10'000};
// The stream is not read meanwhile. Less than deadlock_timeout (1 s): the application's statements
// never wait for ours long enough to be given up.
constexpr milliseconds kCatalogTimeout{3'000};
constexpr milliseconds kCatalogLockTimeout{300};
// How long the stream is waited for while rows may arrive beside it.
constexpr milliseconds kSnapshotPoll{5};

}  // namespace

PostgresSource::PostgresSource(PostgresSourceConfig config, telemetry::Logger log)
    : config_(std::move(config)),
      log_(log.With("slot", config_.slot)),
      registry_([this](const auto& tables) { return ReadCatalog(tables); }, log_) {
  MutexLock lock(mu_);
  status_.slot = config_.slot;
}

PostgresSource::~PostgresSource() { Close(); }

Result<CatalogMoment> PostgresSource::ReadCatalog(const std::vector<SourceTablePtr>& tables) {
  if (catalog_ == nullptr) {
    MR_ASSIGN_OR_RETURN(catalog_, pg::Connection::Connect(
                                      config_.url, {.application_name = "millrace " + config_.slot,
                                                    .statement_timeout = kCatalogTimeout,
                                                    .lock_timeout = kCatalogLockTimeout,
                                                    .answer_wait = kCatalogTimeout}));
  }
  Result<CatalogMoment> moment = LoadMoment(*catalog_, config_, tables);
  if (!moment.ok()) {
    catalog_.reset();
  }
  return moment;
}

Status PostgresSource::CompareCatalog() {
  const auto now = std::chrono::steady_clock::now();
  const bool is_due = now >= next_compare_;
  if (is_due) {
    next_compare_ = now + (config_.heartbeat_interval.count() > 0 ? config_.heartbeat_interval
                                                                  : kCompareInterval);
    if (const Status read = registry_.ReadCatalog(); !read.ok()) {
      log_.Warn("The catalog cannot be compared, will try again", {{"error", read}});
    }
  }
  if (!reader_->is_within() && !reader_->has_large() &&
      registry_.PassedCatalog(stream_->decoded_end())) {
    reader_->ForgetResolutions();
  }
  if (is_due && config_.discover) {
    const Result<std::string> found = LookForTables();
    if (!found.ok()) {
      catalog_.reset();
      log_.Warn("New tables cannot be looked for, will try again", {{"error", found.status()}});
    } else if (!found->empty()) {
      return Unavailable(fmt::format("new tables are taken in: {}", *found));
    }
  }
  return Status::Ok();
}

void PostgresSource::TakeTables() {
  source_tables_.clear();
  for (const SourceTablePtr& table : registry_.tables()) {
    source_tables_.push_back(*table);
  }
}

void PostgresSource::PublishTables() {
  std::vector<TablePtr> tables;
  for (const SourceTablePtr& table : registry_.tables()) {
    tables.push_back(table->table);
  }
  std::vector<std::string> candidates;
  for (const auto& [name, candidate] : candidates_) {
    candidates.push_back(name);
  }
  MutexLock lock(mu_);
  tables_ = std::move(tables);
  candidate_names_ = std::move(candidates);
}

Status PostgresSource::Connect(const SourceState& state) {
  Close();
  const Status status = [&]() -> Status {
    MR_ASSIGN_OR_RETURN(control_, Open(false));
    MR_ASSIGN_OR_RETURN(const pg::QueryResult now, control_->Exec("SELECT pg_current_snapshot()"));
    MR_ASSIGN_OR_RETURN(const XidSnapshot seen, XidSnapshot::Parse(now.Text(0, 0)));
    // At the first start everything is to fit.
    const bool may_leave_out = config_.discover && state.position.has_value();
    const std::set<std::string> taken =
        may_leave_out ? TakenTables(state) : std::set<std::string>();
    MR_ASSIGN_OR_RETURN(ServerReport report,
                        InspectServer(*control_, config_, may_leave_out ? &taken : nullptr));
    if (!report.errors.empty()) {
      return report.errors.front();
    }
    is_standby_ = report.is_standby;
    std::vector<SourceTable> in_catalog;
    candidates_.clear();
    for (CatalogTable& entry : report.catalog.tables) {
      const std::string name = entry.source.table->FullName();
      if (may_leave_out && !entry.is_exact && !taken.contains(name)) {
        candidates_[name] = {FormatTableNote(entry.source), entry.is_published};
      }
      in_catalog.push_back(std::move(entry.source));
    }
    MR_RETURN_IF_ERROR(registry_.Load(std::move(in_catalog), state, AwaitedTables(taken), seen));
    SetLeftOut(std::move(report.left_out));
    TakeTables();
    PublishTables();
    phase_ = Phase::kConnected;
    return Status::Ok();
  }();
  PublishStatus(status);
  return status;
}

std::vector<TablePtr> PostgresSource::Tables() const {
  MutexLock lock(mu_);
  return tables_;
}

Status PostgresSource::Step(milliseconds wait) {
  switch (phase_) {
    case Phase::kMakingSlot:
      return PollSlot(wait);
    case Phase::kStreaming:
      MR_RETURN_IF_ERROR(PollStream(snapshot_->is_active() ? std::min(wait, kSnapshotPoll) : wait));
      if (must_start_again_) {
        return Unavailable("a table has other columns now, and is read on with them");
      }
      if (is_held_) {
        return Status::Ok();
      }
      MR_RETURN_IF_ERROR(CompareCatalog());
      MR_RETURN_IF_ERROR(BeginReadingAgain());
      return snapshot_->Poll();
    case Phase::kClosed:
    case Phase::kConnected:
      break;
  }
  return Unavailable("the source is not started");
}

Status PostgresSource::PollStream(milliseconds wait) {
  if (const Status polled = is_held_ ? stream_->KeepAlive() : stream_->Poll(wait); !polled.ok()) {
    if (stream_->failed_within_open()) {
      open_failed_at_ = stream_->received();
      log_.Warn(
          "The server fails to send a transaction that is open: it is to send them once they "
          "have committed",
          {{"at", FormatLsn(*open_failed_at_)}});
    }
    return polled;
  }
  SampleLag();
  const auto now = std::chrono::steady_clock::now();
  const Heartbeat::Reading reading = heartbeat_->reading();
  if (stream_->confirmed() >= stream_->received()) {
    unconfirmed_since_.reset();
  } else if (!unconfirmed_since_.has_value()) {
    unconfirmed_since_ = now;
  }
  if (reading.is_refused && unconfirmed_since_.has_value() &&
      now - *unconfirmed_since_ >= kLetGoWait) {
    // It would wait for as long as the engine does.
    return Unavailable("the server stops, and its stream is let go so that it can");
  }
  // A standby changes its timeline under the stream: with its primary, or when it is promoted.
  if (reading.timeline > system_.timeline && reading.instance == instance_) {
    log_.Info("The standby has another timeline, it is followed",
              {{"from", system_.timeline}, {"to", reading.timeline}});
    MR_RETURN_IF_ERROR(
        store_->FollowServer(system_.system_identifier, reading.timeline, std::nullopt, {}));
    system_.timeline = reading.timeline;
  }
  return Status::Ok();
}

Status PostgresSource::Poll(milliseconds wait) {
  const Status status = Step(wait);
  PublishStatus(status);
  return status;
}

bool PostgresSource::HasSnapshotRows() const {
  return snapshot_->is_active() && !reader_->has_large() && !reader_->batch().part.has_value() &&
         snapshot_->HasRowsFor(std::max(reader_->end_lsn(), stream_->taken()));
}

Source::PendingBatch PostgresSource::Pending() const {
  PendingBatch pending;
  if (phase_ != Phase::kStreaming) {
    return pending;
  }
  const ChangeBatch& batch = reader_->batch();
  pending = {.rows = batch.row_count,
             .bytes = batch.byte_size,
             .transactions = batch.transactions.size(),
             .can_take = reader_->can_take(),
             .is_full = reader_->is_full(),
             .since = stream_->pending_since()};
  if (snapshot_ != nullptr && (snapshot_->has_part() || HasSnapshotRows())) {
    pending.can_take = true;
    pending.since = {};  // readers wait for it
  } else if (const bool has_news = registry_.has_news() && !reader_->has_large();
             pending.rows == 0 && (has_news || stream_->idle_position().has_value())) {
    pending.can_take = true;
    pending.position_only = !has_news;
    pending.since = std::chrono::steady_clock::now();
  }
  return pending;
}

Result<std::unique_ptr<ChangeBatch>> PostgresSource::Take() {
  MR_CHECK(phase_ == Phase::kStreaming);
  if (snapshot_->has_part()) {
    return snapshot_->NextPart();
  }
  const std::optional<Lsn> idle = stream_->idle_position();
  std::unique_ptr<ChangeBatch> batch = reader_->Take();
  if (batch->row_count == 0 && idle.has_value()) {
    batch->end.end_lsn = *idle;
  }
  // A part that is not the last has the position before its transaction, which may be an idle one.
  batch->end.end_lsn = std::max(batch->end.end_lsn, stream_->taken());
  must_start_again_ |=
      registry_.HasNewsOf([this](const std::string& table) { return snapshot_->IsReading(table); });
  MR_RETURN_IF_ERROR(snapshot_->Finish(*batch, /*joins=*/!must_start_again_));
  if (registry_.Complete(*batch)) {
    PublishTables();
  }
  stream_->Taken(batch->end.end_lsn);
  return batch;
}

void PostgresSource::Confirm(Lsn durable) {
  uint64_t current = confirmed_.load();
  while (current < durable.value() && !confirmed_.compare_exchange_weak(current, durable.value())) {
  }
  MutexLock lock(mu_);
  if (stream_ != nullptr) {
    stream_->Confirm(durable);
  }
}

void PostgresSource::SampleLag() {
  const Lsn confirmed = stream_->confirmed();
  while (!unconfirmed_.empty() && unconfirmed_.front().end_lsn <= confirmed) {
    unconfirmed_.pop_front();
  }
  const ReadSample sample{reader_->end_lsn(), reader_->last_commit_ts(),
                          std::chrono::steady_clock::now()};
  if (sample.commit_ts == 0 || sample.end_lsn <= confirmed ||
      (!unconfirmed_.empty() &&
       (sample.end_lsn <= unconfirmed_.back().end_lsn ||
        sample.taken_at - unconfirmed_.back().taken_at < kSampleInterval))) {
    return;
  }
  if (unconfirmed_.size() == kSamplesMax) {
    unconfirmed_.pop_back();
  }
  unconfirmed_.push_back(sample);
}

Status PostgresSource::ReadAgain(const std::string& table) {
  MutexLock lock(mu_);
  MR_RETURN_IF_ERROR(can_read_);
  for (const PausedTable& paused : status_.paused_tables) {
    if (paused.table == table || paused.table == "public." + table) {
      read_again_.insert(paused.table);
      return Status::Ok();
    }
  }
  for (const TableReading& reading : status_.readings) {
    if (reading.table != table && reading.table != "public." + table) {
      continue;
    }
    if (reading.state != TableReading::State::kDone || read_again_.contains(reading.table)) {
      return FailedPrecondition(
          fmt::format("table {} is being read already: wait until it is complete", reading.table));
    }
    read_again_.insert(reading.table);
    return Status::Ok();
  }
  if (status_.readings.empty()) {
    return FailedPrecondition("the source is not streaming yet: try again when it is");
  }
  return NotFound(fmt::format(
      "'{}' is no table of source.tables: write it as schema.table, as the file has it", table));
}

Status PostgresSource::BeginReadingAgain() {
  if (snapshot_->is_within_transaction() || reader_->is_within() || reader_->has_large()) {
    return Status::Ok();
  }
  if (const auto anew = registry_.Mendable(Mend::kTakeUp); !anew.empty()) {
    return Unavailable(fmt::format("table {} was made anew, and is taken up", anew.front()));
  }
  std::set<std::string> names;
  {
    MutexLock lock(mu_);
    names.swap(read_again_);
  }
  if (std::chrono::steady_clock::now() >= next_mend_) {
    for (std::string& name : registry_.Mendable(Mend::kReadAgain)) {
      if (std::find(roles_.append_only.begin(), roles_.append_only.end(), name) ==
          roles_.append_only.end()) {
        names.insert(std::move(name));
      }
    }
  }
  for (const std::string& name : names) {
    if (snapshot_->IsReading(name)) {
      continue;  // it has just been paused: the source starts again
    }
    const auto found =
        std::find_if(registry_.tables().begin(), registry_.tables().end(),
                     [&](const SourceTablePtr& table) { return table->table->FullName() == name; });
    if (found == registry_.tables().end()) {
      continue;  // it was asked for, and has left since
    }
    SourceTablePtr table = *found;
    const bool has_gap = !table->paused.empty();
    if (has_gap) {
      Result<SourceTablePtr> taken_up = registry_.ReadAgain(name, !is_standby_);
      if (!taken_up.ok()) {
        log_.Error("Table cannot be read again", {{"error", taken_up.status()}});
        next_mend_ = std::chrono::steady_clock::now() + kCompareInterval;
        continue;
      }
      table = *std::move(taken_up);
      reader_->ForgetResolutions();
    }
    MR_RETURN_IF_ERROR(snapshot_->ReadAgain(*table, has_gap));
    registry_.Mended(name);
  }
  return Status::Ok();
}

void PostgresSource::PublishStatus(const Status& status) {
  std::vector<PausedTable> paused;
  for (auto& [table, reason] : registry_.Paused()) {
    paused.push_back({std::move(table), std::move(reason)});
  }
  MutexLock lock(mu_);
  status_.paused_tables = std::move(paused);
  status_.connected = phase_ != Phase::kClosed && phase_ != Phase::kConnected && status.ok();
  if (snapshot_ != nullptr) {
    status_.snapshot_running = false;
    status_.snapshot_rows = snapshot_->rows_joined();
    status_.readings = snapshot_->GetReadings();
    for (const TableReading& reading : status_.readings) {
      status_.snapshot_running |= reading.state != TableReading::State::kDone && !reading.is_again;
    }
  }
  if (stream_ != nullptr) {
    status_.received_lsn = std::max(status_.received_lsn, stream_->received());
    status_.keepalive_seen = stream_->keepalive_seen();
    status_.heartbeat_seen = stream_->heartbeat_seen();
    status_.paused_changes = paused_changes_ + reader_->paused_changes();
    status_.unconfirmed_commit_ts = unconfirmed_.empty() ? 0 : unconfirmed_.front().commit_ts;
  }
  Heartbeat::Reading reading;
  if (heartbeat_ != nullptr) {
    reading = heartbeat_->reading();
    status_.server_lsn = std::max(reading.server_lsn, status_.received_lsn);
    status_.retained_wal_bytes = reading.retained_wal_bytes;
    status_.wal_status = reading.wal_status;
  }
  if (!status.ok()) {
    status_.last_error = status.message();
  } else if (phase_ == Phase::kStreaming) {
    status_.last_error = std::move(reading.last_error);
  }
}

SourceStatus PostgresSource::GetStatus() const {
  MutexLock lock(mu_);
  SourceStatus status = status_;
  if (stream_ != nullptr) {
    status.confirmed_lsn = stream_->confirmed();
  }
  return status;
}

void PostgresSource::Close() {
  heartbeat_.reset();
  if (phase_ == Phase::kMakingSlot && replication_ != nullptr) {
    // The server would go on waiting for its transactions, and keep a slot that nobody reads.
    replication_->Cancel();
  }
  if (stream_ != nullptr) {
    stream_->Stop();
  }
  snapshot_.reset();
  replication_.reset();
  control_.reset();
  catalog_.reset();
  primary_.reset();
  store_ = nullptr;
  unconfirmed_.clear();
  reads_all_again_ = false;
  must_start_again_ = false;
  phase_ = Phase::kClosed;
  confirmed_ = 0;
  MutexLock lock(mu_);
  if (stream_ != nullptr) {
    status_.confirmed_lsn = stream_->confirmed();
  }
  stream_.reset();
  reader_.reset();  // what it has staged is sent again
  status_.readings.clear();
  status_.connected = false;
}

std::unique_ptr<Source> MakePostgresSource(PostgresSourceConfig config, telemetry::Logger log) {
  return std::make_unique<PostgresSource>(std::move(config), std::move(log));
}

}  // namespace millrace::sources::postgres
