// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/postgres_source.h"

#include <algorithm>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/common/failpoint.h"
#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/publication.h"
#include "millrace/sources/postgres/server_check.h"

namespace millrace::sources::postgres {
namespace {

using std::chrono::milliseconds;

// How long an old connection of ours may still hold a slot that is to be dropped.
constexpr milliseconds kDropSlotWait{5'000};
constexpr milliseconds kLockTimeout{10'000};
// How long a standby may take to replay the publication before it is asked again from the start.
constexpr milliseconds kReplayWait{3'000};
constexpr milliseconds kReplayLook{50};
constexpr milliseconds kHurryInterval{1'000};
constexpr milliseconds kSampleInterval{100};
constexpr size_t kSamplesMax = 4096;
// How long a server that stops waits for us before its stream is let go.
constexpr milliseconds kLetGoWait{2'000};

}  // namespace

PostgresSource::PostgresSource(PostgresSourceConfig config, telemetry::Logger log)
    : config_(std::move(config)), log_(log.With("slot", config_.slot)) {
  MutexLock lock(mu_);
  status_.slot = config_.slot;
}

PostgresSource::~PostgresSource() { Close(); }

Result<std::unique_ptr<pg::Connection>> PostgresSource::Open(bool is_replication) const {
  return pg::Connection::Connect(config_.url, {.replication = is_replication,
                                               .application_name = "millrace " + config_.slot,
                                               .lock_timeout = kLockTimeout});
}

Status PostgresSource::Connect(const SourceState&) {
  Close();
  const Status status = [&]() -> Status {
    MR_ASSIGN_OR_RETURN(control_, Open(false));
    MR_ASSIGN_OR_RETURN(ServerReport report, InspectServer(*control_, config_));
    if (!report.errors.empty()) {
      return report.errors.front();
    }
    is_standby_ = report.is_standby;
    source_tables_.clear();
    std::vector<TablePtr> tables;
    for (CatalogTable& entry : report.catalog.tables) {
      tables.push_back(entry.source.table);
      source_tables_.push_back(std::move(entry.source));
    }
    phase_ = Phase::kConnected;
    MutexLock lock(mu_);
    tables_ = std::move(tables);
    return Status::Ok();
  }();
  PublishStatus(status);
  return status;
}

std::vector<TablePtr> PostgresSource::Tables() const {
  MutexLock lock(mu_);
  return tables_;
}

Status PostgresSource::OrderTables(const std::vector<std::string>& snapshot_order) {
  snapshot_tables_.clear();
  for (const std::string& name : snapshot_order) {
    const auto found =
        std::find_if(source_tables_.begin(), source_tables_.end(),
                     [&](const SourceTable& table) { return table.table->FullName() == name; });
    if (found == source_tables_.end()) {
      return InvalidArgument(
          fmt::format("the snapshot is to read {}, which is no table of the source", name));
    }
    snapshot_tables_.push_back(*found);
  }
  return Status::Ok();
}

Status PostgresSource::Start(const SourceState& state, SourceStateStore& store,
                             const TableRoles& roles) {
  MR_CHECK(phase_ == Phase::kConnected);
  const Status status = [&]() -> Status {
    MR_RETURN_IF_ERROR(OrderTables(roles.snapshot_order));
    MR_ASSIGN_OR_RETURN(replication_, Open(true));
    MR_ASSIGN_OR_RETURN(system_, IdentifySystem(*replication_));
    MR_ASSIGN_OR_RETURN(instance_, ReadInstance(*replication_));
    store_ = &store;
    decoder_ = std::make_unique<PgOutputDecoder>(source_tables_, config_.slot);
    heartbeat_ =
        std::make_unique<Heartbeat>(Heartbeat::Options{.url = config_.url,
                                                       .message_url = config_.heartbeat_url,
                                                       .slot = config_.slot,
                                                       .is_standby = is_standby_,
                                                       .interval = config_.heartbeat_interval},
                                    log_);
    return state.position.has_value() ? Resume(state) : StartFresh(state);
  }();
  PublishStatus(status);
  return status;
}

Status PostgresSource::Resume(const SourceState& state) {
  TimelineHistory history;
  if (system_.timeline > state.timeline) {
    MR_ASSIGN_OR_RETURN(history, ReadTimelineHistory(*replication_, system_.timeline));
  }
  MR_RETURN_IF_ERROR(CheckServerIsOurs(system_, history, state));
  const auto judge = [&]() -> Result<SlotVerdict> {
    MR_ASSIGN_OR_RETURN(const std::optional<SlotInfo> slot, ReadSlot(*control_, config_.slot));
    if (slot.has_value() && slot->wal_status == "unreserved") {
      log_.Warn("The server is about to remove WAL that the slot needs",
                {{"retained_wal_bytes", slot->retained_wal_bytes}});
    }
    return JudgeSlot(config_.slot, slot, system_, state);
  };
  MR_ASSIGN_OR_RETURN(SlotVerdict verdict, judge());
  const Status status = ResumeFrom(state, verdict);
  if (verdict.fault != SlotFault::kNone || status.ok() || status.code() == Code::kUnavailable) {
    return status;
  }
  // The server refuses to stream from it: it may have been lost after it was judged.
  MR_ASSIGN_OR_RETURN(verdict, judge());
  return verdict.fault == SlotFault::kLost ? ResumeFrom(state, verdict) : status;
}

Status PostgresSource::ResumeFrom(const SourceState& state, const SlotVerdict& verdict) {
  if (verdict.fault == SlotFault::kLost && config_.on_slot_lost == OnSlotLost::kSnapshot) {
    return FailedPrecondition(
        verdict.status.message() +
        " (source.on_slot_lost: snapshot is not carried out by this version)");
  }
  MR_RETURN_IF_ERROR(verdict.status);
  if (system_.timeline != state.timeline) {
    log_.Info("The server was promoted, its timeline is followed",
              {{"from", state.timeline}, {"to", system_.timeline}});
    MR_RETURN_IF_ERROR(
        store_->FollowServer(system_.system_identifier, system_.timeline, std::nullopt, {}));
  }
  MR_RETURN_IF_ERROR(PreparePublications(true));
  return StartStreaming(*state.position, state.position->end_lsn);
}

Status PostgresSource::ConnectPrimary() {
  if (config_.heartbeat_url.empty()) {
    return FailedPrecondition(fmt::format(
        "publication '{}' is not what source.tables needs, and cannot be made on a standby: set "
        "source.heartbeat_url to the primary, or make it there",
        config_.publication));
  }
  MR_ASSIGN_OR_RETURN(primary_,
                      pg::Connection::Connect(config_.heartbeat_url,
                                              {.application_name = "millrace " + config_.slot,
                                               .lock_timeout = kLockTimeout}));
  return CheckIsPrimaryOf(*primary_, system_.system_identifier);
}

Status PostgresSource::PreparePublications(bool is_resuming) {
  if (!is_standby_) {
    MR_ASSIGN_OR_RETURN(publications_,
                        EnsurePublications(*control_, config_, source_tables_, is_resuming));
    return Status::Ok();
  }
  const auto deadline = std::chrono::steady_clock::now() + kReplayWait;
  for (;;) {
    MR_ASSIGN_OR_RETURN(PublicationPlan plan, PlanPublications(*control_, config_, source_tables_));
    if (plan.statements.empty()) {
      publications_ = std::move(plan.names);
      return Status::Ok();
    }
    if (primary_ == nullptr) {
      MR_RETURN_IF_ERROR(ConnectPrimary());
      MR_RETURN_IF_ERROR(
          EnsurePublications(*primary_, config_, source_tables_, is_resuming).status());
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return Unavailable(fmt::format("the standby has not replayed publication '{}' of its primary",
                                     config_.publication));
    }
    std::this_thread::sleep_for(kReplayLook);
  }
}

Status PostgresSource::StartFresh(const SourceState& state) {
  MR_ASSIGN_OR_RETURN(const std::optional<SlotInfo> slot, ReadSlot(*control_, config_.slot));
  if (slot.has_value()) {
    if (!state.slot_pending || state.system_identifier != system_.system_identifier) {
      return FailedPrecondition(fmt::format(
          "replication slot '{}' exists, and data_dir knows nothing of it: start with the data_dir "
          "that it belongs to, restore a backup of it, or drop the slot ({} on the server)",
          config_.slot, DropSlotStatement(config_.slot)));
    }
    MR_RETURN_IF_ERROR(JudgeSlotKind(config_.slot, *slot, system_).status);
    log_.Info("Dropping the slot that an unfinished start left behind");
    MR_RETURN_IF_ERROR(DropSlot(*control_, config_.slot, kDropSlotWait));
  }
  MR_RETURN_IF_ERROR(PreparePublications(false));
  MR_RETURN_IF_ERROR(store_->BeginSnapshot(system_.system_identifier, system_.timeline));
  MR_FAILPOINT("source.before_slot_created");
  MR_RETURN_IF_ERROR(replication_->Send(CreateSlotCommand(
      config_.slot, replication_->server_version(), is_standby_, /*exports_snapshot=*/true)));
  phase_ = Phase::kMakingSlot;
  next_hurry_ = std::chrono::steady_clock::now();
  log_.Info("Making the replication slot");
  return Status::Ok();
}

// A standby's slot waits for the primary's next list of running transactions.
void PostgresSource::HurrySlot() {
  const auto now = std::chrono::steady_clock::now();
  if (!is_standby_ || config_.heartbeat_url.empty() || now < next_hurry_) {
    return;
  }
  next_hurry_ = now + kHurryInterval;
  if (primary_ == nullptr) {
    if (const Status status = ConnectPrimary(); !status.ok()) {
      primary_.reset();
      return log_.Warn("The primary cannot be reached, the slot waits for it", {{"error", status}});
    }
  }
  if (primary_->Exec("SELECT pg_log_standby_snapshot()").ok()) {
    return;
  }
  // Without the privilege: the primary writes the list within 15 s of a change.
  const Result<pg::QueryResult> change = primary_->Exec(
      fmt::format("SELECT pg_logical_emit_message(true, {}, {})",
                  pg::QuoteLiteral(kHeartbeatPrefix), pg::QuoteLiteral(config_.slot)));
  if (!change.ok()) {
    primary_.reset();
  }
}

Status PostgresSource::PollSlot(milliseconds wait) {
  MR_ASSIGN_OR_RETURN(const bool is_done, replication_->WaitAnswer(wait));
  if (!is_done) {
    HurrySlot();
    return Status::Ok();  // it waits for the transactions that ran when it began
  }
  Result<pg::QueryResult> row = replication_->TakeAnswer();
  if (!row.ok()) {
    return row.status().WithContext(fmt::format("make replication slot '{}'", config_.slot));
  }
  MR_FAILPOINT("source.after_slot_created");
  if (row.value().row_count() != 1 || row.value().column_count() < 3) {
    return Internal("CREATE_REPLICATION_SLOT gave no row");
  }
  MR_ASSIGN_OR_RETURN(const Lsn consistent_point, ParseLsn(row.value().Text(0, 1)));
  start_ = {Epoch(0), consistent_point};
  return BeginSnapshot(std::string(row.value().Text(0, 2)));
}

Status PostgresSource::BeginSnapshot(const std::string& snapshot) {
  const bool reads_rows = config_.snapshot_mode != SnapshotMode::kNever;
  snapshot_ = std::make_unique<SnapshotReader>(
      SnapshotReader::Options{.tables = reads_rows ? snapshot_tables_ : std::vector<SourceTable>(),
                              .position = start_,
                              .batch_rows_max = config_.batch_rows_max,
                              .batch_bytes_max = config_.batch_bytes_max});
  MR_ASSIGN_OR_RETURN(std::unique_ptr<pg::Connection> reader, Open(false));
  MR_RETURN_IF_ERROR(snapshot_->Begin(std::move(reader), snapshot));
  // The tables are locked: what the catalog says of them now holds until they are read.
  MR_ASSIGN_OR_RETURN(const Catalog catalog, LoadCatalog(*control_, config_));
  for (const SourceTable& known : source_tables_) {
    const auto found = std::find_if(
        catalog.tables.begin(), catalog.tables.end(),
        [&](const CatalogTable& entry) { return entry.source.table->oid == known.table->oid; });
    if (found == catalog.tables.end() || !IsSameTable(found->source, known)) {
      return Unavailable(fmt::format("table {} was altered or dropped as the snapshot began",
                                     known.table->FullName()));
    }
  }
  // Ends the exporting transaction: the reader holds the snapshot.
  MR_RETURN_IF_ERROR(IdentifySystem(*replication_).status());
  phase_ = Phase::kSnapshot;
  log_.Info("Snapshot begins",
            {{"tables", snapshot_tables_.size()}, {"position", FormatLsn(start_.end_lsn)}});
  return Status::Ok();
}

Status PostgresSource::StartStreaming(SourcePosition start, Lsn confirmed) {
  auto stream = std::make_shared<ReplicationStream>(
      StreamOptions{.slot = config_.slot,
                    .publications = publications_,
                    .batch_rows_max = config_.batch_rows_max,
                    .batch_bytes_max = config_.batch_bytes_max,
                    .heartbeat_age_max = 3 * config_.heartbeat_interval},
      *decoder_);
  // Only what was confirmed of this server's WAL counts, and no more than was handed over.
  const Lsn known(std::max(confirmed.value(), confirmed_.load()));
  MR_RETURN_IF_ERROR(stream->Start(std::move(replication_), start, known));
  snapshot_.reset();
  control_.reset();
  primary_.reset();
  unconfirmed_since_.reset();
  phase_ = Phase::kStreaming;
  {
    MutexLock lock(mu_);
    stream_ = std::move(stream);
  }
  // One that came while the stream was not there yet.
  stream_->Confirm(Lsn(confirmed_.load()));
  heartbeat_->StartMessages();
  log_.Info("Streaming", {{"position", FormatLsn(start.end_lsn)}});
  return Status::Ok();
}

Status PostgresSource::Step(milliseconds wait) {
  switch (phase_) {
    case Phase::kMakingSlot:
      return PollSlot(wait);
    case Phase::kSnapshot:
      return snapshot_->is_done() ? StartStreaming(start_, Lsn(0)) : snapshot_->Poll(wait);
    case Phase::kStreaming:
      return PollStream(wait);
    case Phase::kClosed:
    case Phase::kConnected:
      break;
  }
  return Unavailable("the source is not started");
}

Status PostgresSource::PollStream(milliseconds wait) {
  MR_RETURN_IF_ERROR(stream_->Poll(wait));
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

Source::PendingBatch PostgresSource::Pending() const {
  PendingBatch pending;
  if (phase_ == Phase::kSnapshot && !snapshot_->is_done()) {
    const ChangeBatch& batch = snapshot_->batch();
    pending = {.rows = batch.row_count,
               .bytes = batch.byte_size,
               .transactions = 1,
               .can_take = snapshot_->can_take(),
               .since = snapshot_->pending_since()};
  } else if (phase_ == Phase::kStreaming) {
    pending = {.rows = decoder_->pending_rows(),
               .bytes = decoder_->pending_bytes(),
               .transactions = decoder_->batch().transactions.size(),
               .can_take = decoder_->can_take(),
               .since = stream_->pending_since()};
    if (pending.rows == 0 && stream_->idle_position().has_value()) {
      pending.can_take = true;
      pending.position_only = true;
      pending.since = std::chrono::steady_clock::now();
    }
  }
  return pending;
}

std::unique_ptr<ChangeBatch> PostgresSource::Take() {
  if (phase_ == Phase::kSnapshot) {
    MR_CHECK(snapshot_->can_take());
    return snapshot_->Take();
  }
  MR_CHECK(phase_ == Phase::kStreaming && !decoder_->in_transaction());
  const std::optional<Lsn> idle = stream_->idle_position();
  std::unique_ptr<ChangeBatch> batch = decoder_->Take();
  if (batch->row_count == 0 && idle.has_value()) {
    batch->end.end_lsn = *idle;
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
  const ReadSample sample{decoder_->end_lsn(), decoder_->last_commit_ts(),
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

void PostgresSource::PublishStatus(const Status& status) {
  MutexLock lock(mu_);
  status_.connected = phase_ != Phase::kClosed && phase_ != Phase::kConnected && status.ok();
  status_.snapshot_running = phase_ == Phase::kMakingSlot || phase_ == Phase::kSnapshot;
  if (snapshot_ != nullptr) {
    status_.snapshot_rows = snapshot_->rows_read();
    status_.snapshot_table = snapshot_->table_name();
  } else {
    status_.snapshot_table.clear();
  }
  if (stream_ != nullptr) {
    status_.received_lsn = std::max(status_.received_lsn, stream_->received());
    status_.keepalive_seen = stream_->keepalive_seen();
    status_.heartbeat_seen = stream_->heartbeat_seen();
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
  primary_.reset();
  store_ = nullptr;
  unconfirmed_.clear();
  phase_ = Phase::kClosed;
  confirmed_ = 0;
  MutexLock lock(mu_);
  if (stream_ != nullptr) {
    status_.confirmed_lsn = stream_->confirmed();
  }
  stream_.reset();
  status_.connected = false;
  status_.snapshot_running = false;
}

std::unique_ptr<Source> MakePostgresSource(PostgresSourceConfig config, telemetry::Logger log) {
  return std::make_unique<PostgresSource>(std::move(config), std::move(log));
}

}  // namespace millrace::sources::postgres
