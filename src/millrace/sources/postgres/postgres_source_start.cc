// SPDX-License-Identifier: Apache-2.0
//
// How PostgresSource starts: the slot, the publications, and what is to be read.
#include <algorithm>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/common/failpoint.h"
#include "millrace/sources/postgres/ddl_capture.h"
#include "millrace/sources/postgres/postgres_source.h"
#include "millrace/sources/postgres/publication.h"
#include "millrace/sources/postgres/server_check.h"

namespace millrace::sources::postgres {
namespace {

// More than can be left over at the server at one time.
constexpr size_t kOwnSendersMax = 64;

using std::chrono::milliseconds;

// How long an old connection of ours may still hold a slot that is to be dropped.
constexpr milliseconds kDropSlotWait{5'000};
constexpr milliseconds kLockTimeout{10'000};
// How long a standby may take to replay the publication before it is asked again from the start.
constexpr milliseconds kReplayWait{3'000};
constexpr milliseconds kReplayLook{50};
constexpr milliseconds kHurryInterval{1'000};

}  // namespace

Result<std::unique_ptr<pg::Connection>> PostgresSource::Open(bool is_replication) const {
  return pg::Connection::Connect(config_.url, {.replication = is_replication,
                                               .application_name = "millrace " + config_.slot,
                                               .lock_timeout = kLockTimeout});
}

Result<std::vector<SourceTable>> PostgresSource::TablesInOrder() const {
  std::vector<SourceTable> tables;
  for (const std::string& name : roles_.snapshot_order) {
    if (left_out_.contains(name)) {
      continue;
    }
    const auto found =
        std::find_if(source_tables_.begin(), source_tables_.end(),
                     [&](const SourceTable& table) { return table.table->FullName() == name; });
    if (found == source_tables_.end()) {
      return InvalidArgument(
          fmt::format("{} is to be read, which is no table of the source", name));
    }
    if (found->paused.empty()) {
      tables.push_back(*found);
    }
  }
  return tables;
}

Status PostgresSource::Start(const SourceState& state, SourceStateStore& store,
                             const TableRoles& roles) {
  MR_CHECK(phase_ == Phase::kConnected);
  const Status status = [&]() -> Status {
    store_ = &store;
    roles_ = roles;
    if (!roles.left_out.empty()) {
      LeaveOut(roles.left_out);
    }
    registry_.SetNeverAgain(config_.snapshot_mode == SnapshotMode::kNever ? roles.snapshot_order
                                                                          : roles.append_only);
    if (state.position.has_value()) {
      MR_RETURN_IF_ERROR(registry_.LookForAttached());
      TakeTables();
    }
    notes_ = state.notes;
    MR_ASSIGN_OR_RETURN(replication_, Open(true));
    MR_ASSIGN_OR_RETURN(system_, IdentifySystem(*replication_));
    MR_ASSIGN_OR_RETURN(instance_, ReadInstance(*replication_));
    MR_RETURN_IF_ERROR(PrepareDdlCapture());
    paused_changes_ += reader_ == nullptr ? 0 : reader_->paused_changes();
    reader_ = std::make_unique<TransactionReader>(
        TransactionReader::Options{.resolver = &registry_,
                                   .slot = config_.slot,
                                   .lookups = roles.lookups,
                                   .takes_commands = config_.capture_ddl,
                                   .staging_directory = config_.staging_directory,
                                   .batch_rows_max = config_.batch_rows_max,
                                   .batch_bytes_max = config_.batch_bytes_max});
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

// Our own walsender may hold the slot until the server notices that its connection is gone.
Status PostgresSource::CheckSlotIsStillOurs(const SlotInfo& slot) const {
  const bool is_taken =
      slot.is_active && !own_senders_.empty() &&
      std::find(own_senders_.begin(), own_senders_.end(), slot.active_pid) == own_senders_.end();
  if (!is_taken) {
    return Status::Ok();
  }
  return Fenced(fmt::format(
      "replication slot '{}' was ours and is streamed from by another process now (PID {} of the "
      "server): stop one of them, and give each pipeline a slot and a data_dir of its own",
      config_.slot, slot.active_pid));
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
    if (slot.has_value()) {
      MR_RETURN_IF_ERROR(CheckSlotIsStillOurs(*slot));
    }
    return JudgeSlot(config_.slot, slot, system_, state);
  };
  MR_ASSIGN_OR_RETURN(SlotVerdict verdict, judge());
  if (state.slot_pending && verdict.fault != SlotFault::kForeign) {
    return StartOver(state);  // an earlier run had begun to
  }
  const Status status = ResumeFrom(state, verdict);
  if (verdict.fault != SlotFault::kNone || status.ok() || status.code() == Code::kUnavailable) {
    return status;
  }
  // The server refuses to stream from it: it may have been lost after it was judged.
  MR_ASSIGN_OR_RETURN(verdict, judge());
  return verdict.fault == SlotFault::kLost ? ResumeFrom(state, verdict) : status;
}

Status PostgresSource::ResumeFrom(const SourceState& state, const SlotVerdict& verdict) {
  if (verdict.fault == SlotFault::kLost && (config_.on_slot_lost == OnSlotLost::kSnapshot ||
                                            config_.snapshot_mode == SnapshotMode::kWhenNeeded)) {
    if (!roles_.append_only.empty()) {
      return FailedPrecondition(
          fmt::format("{} (on_slot_lost: snapshot would show every row of table {} twice, because "
                      "a stream of it "
                      "is append_only)",
                      verdict.status.message(), roles_.append_only.front()));
    }
    log_.Warn("The slot is lost", {{"error", verdict.status}});
    return StartOver(state);
  }
  MR_RETURN_IF_ERROR(verdict.status);
  if (system_.timeline != state.timeline) {
    log_.Info("The server was promoted, its timeline is followed",
              {{"from", state.timeline}, {"to", system_.timeline}});
    MR_RETURN_IF_ERROR(
        store_->FollowServer(system_.system_identifier, system_.timeline, std::nullopt, {}));
  }
  MR_RETURN_IF_ERROR(PreparePublications());
  return StartStreaming(*state.position, false);
}

Result<std::unique_ptr<pg::Connection>> PostgresSource::OpenPrimary() const {
  MR_ASSIGN_OR_RETURN(std::unique_ptr<pg::Connection> primary,
                      pg::Connection::Connect(config_.heartbeat_url,
                                              {.application_name = "millrace " + config_.slot,
                                               .lock_timeout = kLockTimeout}));
  MR_RETURN_IF_ERROR(CheckIsPrimaryOf(*primary, system_.system_identifier));
  return primary;
}

Status PostgresSource::PrepareDdlCapture() {
  registry_.CaptureCommands({}, {});
  MR_ASSIGN_OR_RETURN(const DdlCaptureState state, LookAtDdlCapture(*control_));
  if (!config_.capture_ddl) {
    if (state.has_triggers) {
      log_.Info(
          "Event triggers of source.capture_ddl are in the database, and this pipeline does not "
          "use them; once none does, a superuser removes them",
          {{"sql", kDropDdlCapture}});
    }
    return Status::Ok();
  }
  std::string key;
  if (!is_standby_) {
    MR_ASSIGN_OR_RETURN(key, EnsureDdlCapture(*control_));
  } else if (state.is_complete && state.can_read_key) {
    MR_ASSIGN_OR_RETURN(key, ReadDdlKey(*control_));
  } else if (config_.heartbeat_url.empty()) {
    return FailedPrecondition(
        "source.capture_ddl takes event triggers, which cannot be made on a standby: set "
        "source.heartbeat_url to the primary");
  } else {
    MR_ASSIGN_OR_RETURN(const std::unique_ptr<pg::Connection> primary, OpenPrimary());
    MR_RETURN_IF_ERROR(EnsureDdlCapture(*primary).status());
    return Unavailable("the standby has not replayed the event triggers of its primary");
  }
  registry_.CaptureCommands(std::move(key), {config_.publication, config_.InsertsPublication()});
  return Status::Ok();
}

Status PostgresSource::PreparePublications() {
  if (!is_standby_) {
    return PublishTaken(*control_);
  }
  const auto deadline = std::chrono::steady_clock::now() + kReplayWait;
  for (;;) {
    MR_ASSIGN_OR_RETURN(PublicationPlan plan,
                        PlanPublications(*control_, config_, PresentTables()));
    if (plan.statements.empty()) {
      publications_ = std::move(plan.names);
      return Status::Ok();
    }
    if (config_.heartbeat_url.empty()) {
      return FailedPrecondition(fmt::format(
          "publication '{}' is not what source.tables needs, and cannot be made on a standby: set "
          "source.heartbeat_url to the primary, or make it there",
          config_.publication));
    }
    if (primary_ == nullptr) {
      MR_ASSIGN_OR_RETURN(primary_, OpenPrimary());
      MR_RETURN_IF_ERROR(PublishTaken(*primary_));
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
  }
  return MakeSlot(Epoch(0), /*reads_all_again=*/false);
}

Status PostgresSource::StartOver(const SourceState& state) {
  // What became of their columns meanwhile is not known: they are read as they are now.
  for (const SourceTable& table : PresentTables()) {
    MR_RETURN_IF_ERROR(registry_.ReadAgain(table.table->FullName(), !is_standby_).status());
  }
  TakeTables();
  log_.Warn("All tables are read again, over a slot that is made again",
            {{"position", FormatLsn(state.position->end_lsn)}});
  return MakeSlot(state.position->epoch, /*reads_all_again=*/true);
}

Status PostgresSource::MakeSlot(Epoch epoch, bool reads_all_again) {
  // Every refusal comes before the slot that is there is dropped.
  MR_RETURN_IF_ERROR(PreparePublications());
  if (reads_all_again || config_.snapshot_mode != SnapshotMode::kNever) {
    MR_RETURN_IF_ERROR(CheckCanRead());
  }
  MR_RETURN_IF_ERROR(DropSlot(*control_, config_.slot, kDropSlotWait));
  epoch_ = epoch;
  reads_all_again_ = reads_all_again;
  // A crash from here on leaves a slot that the next start drops and makes again.
  MR_RETURN_IF_ERROR(store_->BeginSlot(system_.system_identifier, system_.timeline));
  MR_FAILPOINT("source.before_slot_created");
  MR_RETURN_IF_ERROR(replication_->Send(
      CreateSlotCommand(config_.slot, replication_->server_version(), is_standby_)));
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
    Result<std::unique_ptr<pg::Connection>> primary = OpenPrimary();
    if (!primary.ok()) {
      return log_.Warn("The primary cannot be reached, the slot waits for it",
                       {{"error", primary.status()}});
    }
    primary_ = *std::move(primary);
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
  if (row.value().row_count() != 1 || row.value().column_count() < 2) {
    return Internal("CREATE_REPLICATION_SLOT gave no row");
  }
  MR_ASSIGN_OR_RETURN(const Lsn consistent_point, ParseLsn(row.value().Text(0, 1)));
  return StartStreaming({epoch_, consistent_point}, true);
}

Status PostgresSource::CheckCanRead() const {
  if (is_standby_ && config_.heartbeat_url.empty()) {
    return FailedPrecondition(
        "a standby cannot tell which transactions a snapshot sees, so that tables are read from "
        "its primary: set source.heartbeat_url to that, or source.snapshot.mode: never");
  }
  return Status::Ok();
}

Result<std::unique_ptr<pg::Connection>> PostgresSource::OpenToRead() const {
  MR_RETURN_IF_ERROR(CheckCanRead());
  return is_standby_ ? OpenPrimary() : Open(false);
}

Result<std::vector<SourceNote>> PostgresSource::PlanReading(bool is_fresh) const {
  const bool reads_all_again = is_fresh && reads_all_again_;
  const auto plan = [&](const XidSnapshot& now) -> Result<std::vector<SourceNote>> {
    if (reads_all_again) {
      return PlanReadingAgain(source_tables_, now);
    }
    return PlanProgress(notes_, source_tables_, config_.snapshot_mode, now);
  };
  MR_ASSIGN_OR_RETURN(std::vector<SourceNote> unread, plan(XidSnapshot()));
  if (unread.empty() || (config_.snapshot_mode == SnapshotMode::kNever && !reads_all_again)) {
    return unread;
  }
  MR_ASSIGN_OR_RETURN(const std::unique_ptr<pg::Connection> connection, OpenToRead());
  MR_ASSIGN_OR_RETURN(const pg::QueryResult row, connection->Exec("SELECT pg_current_snapshot()"));
  MR_ASSIGN_OR_RETURN(const XidSnapshot now, XidSnapshot::Parse(row.Text(0, 0)));
  return plan(now);
}

Status PostgresSource::StartStreaming(SourcePosition start, bool is_fresh) {
  MR_ASSIGN_OR_RETURN(std::vector<SourceNote> plan, PlanReading(is_fresh));
  if (is_fresh || !plan.empty()) {
    // What is read anew, and what it looks like, become durable together.
    for (SourceNote& note : registry_.TakeNotes()) {
      plan.push_back(std::move(note));
    }
    MR_RETURN_IF_ERROR(store_->BeginStreaming(start, plan));
    for (const SourceNote& note : plan) {
      if (note.text.has_value()) {
        notes_.insert_or_assign(note.name, *note.text);
      } else {
        notes_.erase(note.name);
      }
    }
  }
  if (open_failed_at_ && start.end_lsn > *open_failed_at_) {
    open_failed_at_.reset();
  }
  auto stream = std::make_shared<ReplicationStream>(
      StreamOptions{.slot = config_.slot,
                    .publications = publications_,
                    .heartbeat_age_max = 3 * config_.heartbeat_interval,
                    // In a stream block a message does not say its subtransaction (pgoutput of 14
                    // to 18 writes the top-level one), and so not whether it was rolled back.
                    .streams_open_transactions = !config_.capture_ddl && !open_failed_at_},
      *reader_);
  // Only what was confirmed of this server's WAL counts, and no more than was handed over.
  const Lsn known(std::max(is_fresh ? 0 : start.end_lsn.value(), confirmed_.load()));
  own_senders_.push_back(replication_->backend_pid());
  if (own_senders_.size() > kOwnSendersMax) {
    own_senders_.pop_front();
  }
  MR_RETURN_IF_ERROR(stream->Start(std::move(replication_), start, known));
  control_.reset();
  primary_.reset();
  unconfirmed_since_.reset();
  phase_ = Phase::kStreaming;
  {
    MutexLock lock(mu_);
    stream_ = std::move(stream);
    can_read_ = CheckCanRead();
  }
  // One that came while the stream was not there yet.
  stream_->Confirm(Lsn(confirmed_.load()));
  heartbeat_->StartMessages();
  MR_ASSIGN_OR_RETURN(const std::vector<SourceTable> tables, TablesInOrder());
  PostgresSourceConfig reading = config_;
  reading.url = is_standby_ ? config_.heartbeat_url : config_.url;
  snapshot_ = std::make_unique<SnapshotCoordinator>(
      std::move(reading), log_, [this] { return OpenToRead(); }, [this] { heartbeat_->BeatNow(); });
  MR_RETURN_IF_ERROR(snapshot_->Start(tables, roles_, notes_));
  log_.Info("Streaming", {{"position", FormatLsn(start.end_lsn)}});
  return Status::Ok();
}

}  // namespace millrace::sources::postgres
