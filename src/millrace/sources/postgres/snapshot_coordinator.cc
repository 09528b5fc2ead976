// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/snapshot_coordinator.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/common/failpoint.h"

namespace millrace::sources::postgres {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

// Rows that were read and have not joined; beyond it readers wait.
constexpr size_t kWaitingBytesMax = size_t{16} << 20;
// A piece in key order holds its transaction open no longer: what is left of it is a piece of its
// own.
constexpr seconds kChunkTimeMax{10};
constexpr uint64_t kChunkRowsMin = 64;
// Transactions that the next snapshot must see; with more, one is taken to forget them.
constexpr size_t kMustSeeMax = 1000;
// A snapshot of this age is good enough to tell what every later one sees.
constexpr milliseconds kNewestAge{20};
constexpr seconds kQuestionWait{10};

// Moves what `from` has behind what `to` has.
void AppendChanges(TableChanges from, TableChanges& to) {
  const auto new_base = static_cast<uint32_t>(to.new_rows.row_count());
  const auto old_base = static_cast<uint32_t>(to.old_rows.row_count());
  if (to.changes.empty() && new_base == 0 && old_base == 0) {
    to = std::move(from);
    return;
  }
  to.new_rows.AppendRange(from.new_rows, 0, from.new_rows.row_count());
  to.old_rows.AppendRange(from.old_rows, 0, from.old_rows.row_count());
  for (Change change : from.changes) {
    change.new_row += change.new_row == kNoRow ? 0 : new_base;
    change.old_row += change.old_row == kNoRow ? 0 : old_base;
    to.changes.push_back(change);
  }
  for (const UnchangedToast& toast : from.unchanged_toast) {
    to.unchanged_toast.push_back({toast.new_row + new_base, toast.column});
  }
}

TableChanges& ChangesOf(const TablePtr& table, ChangeBatch& batch) {
  for (TableChanges& changes : batch.tables) {
    if (changes.table->oid == table->oid) {
      return changes;
    }
  }
  return batch.tables.emplace_back(table);
}

bool IsSameStart(const KeyRange& a, const KeyRange& b) {
  return a.includes_lo == b.includes_lo && a.lo.has_value() == b.lo.has_value() &&
         (!a.lo.has_value() || a.lo->encoded == b.lo->encoded);
}

}  // namespace

SnapshotCoordinator::SnapshotCoordinator(PostgresSourceConfig config, telemetry::Logger log,
                                         std::function<void()> beat)
    : config_(std::move(config)), log_(std::move(log)), beat_(std::move(beat)) {}

Status SnapshotCoordinator::Start(const std::vector<SourceTable>& tables, const TableRoles& roles,
                                  const std::map<std::string, std::string, std::less<>>& notes,
                                  std::unique_ptr<pg::Connection> connection) {
  connection_ = std::move(connection);
  if (const auto note = notes.find(kOrdinalsNoteName); note != notes.end()) {
    MR_ASSIGN_OR_RETURN(ordinals_, DecodeOrdinals(note->second));
  }
  std::vector<SourceTable> incomplete;
  for (const SourceTable& source : tables) {
    const std::string name = source.table->FullName();
    MR_ASSIGN_OR_RETURN(TableProgress progress,
                        DecodeProgress(notes.at(ProgressNoteName(*source.table))));
    readings_.push_back(
        {.table = name,
         .state = progress.is_done ? TableReading::State::kDone : TableReading::State::kWaiting,
         .is_again = progress.is_again,
         .rows = progress.rows});
    if (progress.is_done) {
      continue;
    }
    incomplete.push_back(source);
    TableEntry& entry = tables_.emplace_back();
    entry.source = source;
    entry.progress = std::move(progress);
    entry.chunk_rows = config_.snapshot_chunk_rows;
    entry.is_lookup =
        std::find(roles.lookups.begin(), roles.lookups.end(), name) != roles.lookups.end();
    if (const auto found = roles.joined_by.find(name); found != roles.joined_by.end()) {
      entry.waits_for = found->second;
    }
  }
  if (tables_.empty()) {
    connection_.reset();
    return Status::Ok();
  }
  MR_ASSIGN_OR_RETURN(const std::vector<Result<KeyOrder>> orders,
                      LoadKeyOrders(*connection_, incomplete));
  for (size_t i = 0; i < tables_.size(); ++i) {
    TableEntry& entry = tables_[i];
    const TablePtr& table = entry.source.table;
    if (orders[i].ok()) {
      entry.keyed = std::make_unique<KeyedSnapshot>(
          table, *orders[i],
          entry.progress.keeps_changes ? KeyedSnapshot::Mode::kAgain : KeyedSnapshot::Mode::kFirst,
          entry.progress.ledger);
    } else {
      log_.Info("Table is read in one piece",
                {{"table", table->FullName()}, {"because", "it " + orders[i].status().message()}});
      entry.staged = std::make_unique<StagedSnapshot>(table, config_.staging_directory,
                                                      entry.progress.ledger.must_see());
    }
  }
  MR_RETURN_IF_ERROR(LoadEstimates());
  MR_RETURN_IF_ERROR(RefreshNewest());
  for (int i = 0; i < config_.snapshot_parallelism; ++i) {
    ReaderEntry& entry = readers_.emplace_back();
    entry.reader =
        std::make_unique<ChunkReader>(ChunkReader::Options{.config = config_, .number = i + 1});
  }
  log_.Info("Tables are read beside the stream", {{"tables", tables_.size()}});
  return Status::Ok();
}

Status SnapshotCoordinator::LoadEstimates() {
  for (const TableEntry& entry : tables_) {
    // Partitions count for their root.
    MR_ASSIGN_OR_RETURN(
        const pg::QueryResult row,
        connection_->Exec(
            fmt::format(
                "SELECT greatest(0, sum(c.reltuples))::bigint FROM pg_class c WHERE c.oid = "
                "{0} OR c.oid IN (SELECT relid FROM pg_partition_tree({0}::oid::regclass))",
                entry.source.table->oid),
            kQuestionWait));
    for (TableReading& reading : readings_) {
      if (reading.table == entry.source.table->FullName()) {
        const std::string_view text = row.Text(0, 0);
        std::from_chars(text.data(), text.data() + text.size(), reading.rows_estimated);
      }
    }
  }
  return Status::Ok();
}

SnapshotCoordinator::TableEntry* SnapshotCoordinator::Find(uint32_t oid) {
  for (TableEntry& entry : tables_) {
    if (entry.source.table->oid == oid) {
      return &entry;
    }
  }
  return nullptr;
}

// ------------------------------------------------------------------------------------ the readers

Status SnapshotCoordinator::RefreshNewest() {
  if (Clock::now() - newest_at_ < kNewestAge) {
    return Status::Ok();
  }
  MR_ASSIGN_OR_RETURN(const pg::QueryResult row,
                      connection_->Exec("SELECT pg_current_snapshot()", kQuestionWait));
  MR_ASSIGN_OR_RETURN(XidSnapshot snapshot, XidSnapshot::Parse(row.Text(0, 0)));
  SetNewest(std::move(snapshot));
  return Status::Ok();
}

void SnapshotCoordinator::SetNewest(XidSnapshot snapshot) {
  newest_ = std::move(snapshot);
  newest_at_ = Clock::now();
  for (TableEntry& entry : tables_) {
    if (entry.keyed != nullptr) {
      entry.keyed->ledger().Forget(newest_);
    } else {
      entry.staged->Forget(newest_);
    }
  }
}

size_t SnapshotCoordinator::WaitingBytes() const {
  size_t bytes = 0;
  for (const TableEntry& entry : tables_) {
    bytes += entry.keyed != nullptr ? entry.keyed->waiting_bytes() : 0;
  }
  return bytes;
}

bool SnapshotCoordinator::MayBeRead(const TableEntry& table) const {
  for (const TableEntry& other : tables_) {
    if (&other == &table) {
      return true;  // what stands behind it, it does not wait for: streams may join in a circle
    }
    if (std::find(table.waits_for.begin(), table.waits_for.end(), other.source.table->FullName()) !=
        table.waits_for.end()) {
      return false;
    }
  }
  return true;
}

Status SnapshotCoordinator::Poll() {
  for (const TableEntry& entry : tables_) {
    if (entry.must_see().size() > kMustSeeMax) {
      MR_RETURN_IF_ERROR(RefreshNewest());
    }
  }
  for (ReaderEntry& entry : readers_) {
    MR_RETURN_IF_ERROR(PollReader(entry));
  }
  return Status::Ok();
}

Status SnapshotCoordinator::PollReader(ReaderEntry& entry) {
  using State = ChunkReader::State;
  ChunkReader& reader = *entry.reader;
  const State state = reader.state();
  const TableEntry* table = Find(entry.oid);
  const bool is_in_order = table != nullptr && table->keyed != nullptr;
  if (state == State::kReading && is_in_order && !entry.was_stopped &&
      Clock::now() - entry.begun > kChunkTimeMax) {
    reader.Stop();
    entry.was_stopped = true;
  }
  if (part_pass_.has_value()) {
    return Status::Ok();  // both passes decide by what there is
  }
  switch (state) {
    case State::kIdle:
      return GiveWork(entry);
    case State::kPreparing:
      return Status::Ok();
    case State::kPrepared:
      return BeginPiece(entry);
    case State::kReading:
      return TakeRows(entry);
    case State::kEnded:
      MR_RETURN_IF_ERROR(TakeRows(entry));
      return reader.has_rows() ? Status::Ok() : EndPiece(entry);
  }
  return Status::Ok();
}

bool SnapshotCoordinator::HasWork(TableEntry& table, ReadTask& task) const {
  if (table.is_claimed || !MayBeRead(table)) {
    return false;
  }
  if (table.staged != nullptr) {
    return table.staged->state() == StagedSnapshot::State::kUnread;
  }
  const std::optional<KeyRange> unread = table.keyed->FirstUnread();
  if (!unread.has_value()) {
    return false;
  }
  task.order = table.keyed->order();
  task.range = *unread;
  task.rows = table.chunk_rows;
  return true;
}

Status SnapshotCoordinator::GiveWork(ReaderEntry& entry) {
  if (Clock::now() < entry.not_before || WaitingBytes() >= kWaitingBytesMax) {
    return Status::Ok();
  }
  for (TableEntry& table : tables_) {
    ReadTask task;
    task.table = table.source;
    if (!HasWork(table, task)) {
      continue;
    }
    if (!table.must_see().empty()) {
      MR_RETURN_IF_ERROR(RefreshNewest());
      if (!table.must_see().empty()) {
        continue;  // somebody's commit is not visible yet
      }
    }
    table.is_claimed = true;
    entry.oid = table.source.table->oid;
    entry.was_stopped = false;
    entry.reader->Prepare(std::move(task));
    return Status::Ok();
  }
  return Status::Ok();
}

Status SnapshotCoordinator::BeginPiece(ReaderEntry& entry) {
  ChunkReader& reader = *entry.reader;
  TableEntry* table = Find(entry.oid);
  if (table == nullptr) {
    reader.Abandon();
    return Status::Ok();
  }
  table->is_claimed = false;
  if (table->keyed != nullptr) {
    // The table may have been truncated meanwhile.
    const std::optional<KeyRange> unread = table->keyed->FirstUnread();
    if (!unread.has_value() || !IsSameStart(*unread, reader.range())) {
      reader.Abandon();
      return Status::Ok();
    }
  }
  Result<TakenSnapshot> taken = reader.TakeSnapshot(false);
  if (!taken.ok()) {
    return Status::Ok();  // End() says why
  }
  SetNewest(taken->xids);
  auto snapshot = std::make_shared<const XidSnapshot>(std::move(taken->xids));
  bool has_begun = false;
  if (table->keyed != nullptr) {
    has_begun = table->keyed->Begin(last_chunk_ + 1, reader.range(), std::move(snapshot),
                                    taken->wal_insert_lsn, taken->taken_at);
  } else {
    MR_ASSIGN_OR_RETURN(has_begun, table->staged->Begin(std::move(snapshot), taken->wal_insert_lsn,
                                                        taken->taken_at));
  }
  if (!has_begun) {
    reader.Abandon();
    return Status::Ok();
  }
  entry.chunk = ++last_chunk_;
  entry.begun = Clock::now();
  ++table->chunks;
  reader.Read();
  beat_();
  return Status::Ok();
}

Status SnapshotCoordinator::TakeRows(ReaderEntry& entry) {
  ChunkReader& reader = *entry.reader;
  TableEntry* table = Find(entry.oid);
  const bool is_wanted =
      table != nullptr &&
      (table->keyed != nullptr ? table->keyed->IsBeingRead(entry.chunk)
                               : table->staged->state() == StagedSnapshot::State::kReading);
  if (!is_wanted) {
    if (!entry.was_stopped) {
      reader.Stop();
      entry.was_stopped = true;
    }
    while (reader.TakeRows().has_value()) {
    }
    return Status::Ok();
  }
  while (WaitingBytes() < kWaitingBytesMax) {
    std::optional<ChunkRows> rows = reader.TakeRows();
    if (!rows.has_value()) {
      break;
    }
    if (table->keyed != nullptr) {
      MR_ASSIGN_OR_RETURN(const bool goes_on, table->keyed->AddRows(entry.chunk, std::move(*rows)));
      MR_CHECK(goes_on);
    } else {
      MR_RETURN_IF_ERROR(table->staged->AddRows(std::move(rows->rows)));
    }
  }
  return Status::Ok();
}

Status SnapshotCoordinator::EndPiece(ReaderEntry& entry) {
  const Status status = entry.reader->End();
  TableEntry* table = Find(std::exchange(entry.oid, 0));
  const ChunkId chunk = std::exchange(entry.chunk, 0);
  if (table != nullptr && chunk == 0) {
    table->is_claimed = false;
  } else if (table != nullptr) {
    --table->chunks;
    if (table->keyed != nullptr) {
      const bool is_wanted = table->keyed->IsBeingRead(chunk);
      if (status.ok() && is_wanted) {
        table->keyed->Finish(chunk);
        table->chunk_rows = std::min(table->chunk_rows * 2, config_.snapshot_chunk_rows);
      } else {
        // The next one is smaller, so that it ends before what ended this one comes again.
        table->keyed->Cut(chunk);
        table->chunk_rows =
            std::min(table->chunk_rows, std::max(kChunkRowsMin, table->chunk_rows / 4));
      }
    } else if (status.ok()) {
      table->staged->Finish();
    } else {
      table->staged->GiveUp();
    }
  }
  if (status.ok() || status.code() == Code::kCancelled) {
    entry.backoff.Reset();
    return Status::Ok();
  }
  if (status.code() != Code::kUnavailable && status.code() != Code::kTimedOut) {
    return status;
  }
  const milliseconds wait = entry.backoff.NextWait();
  entry.not_before = Clock::now() + wait;
  log_.Warn("Reading a table broke off, will try again",
            {{"wait_ms", wait.count()}, {"error", status}});
  return Status::Ok();
}

// --------------------------------------------------------------------------------- the batches

bool SnapshotCoordinator::HasRowsFor(Lsn at) const {
  return !part_pass_.has_value() &&
         std::any_of(tables_.begin(), tables_.end(), [&](const TableEntry& entry) {
           return entry.keyed != nullptr ? entry.keyed->HasRowsFor(at)
                                         : entry.staged->HasRowsFor(at);
         });
}

bool SnapshotCoordinator::IsReading(const std::string& full_name) const {
  return std::any_of(tables_.begin(), tables_.end(), [&](const TableEntry& entry) {
    return entry.source.table->FullName() == full_name;
  });
}

Status SnapshotCoordinator::Finish(ChangeBatch& batch, bool joins) {
  if (!is_active()) {
    return Status::Ok();
  }
  MR_RETURN_IF_ERROR(Filter(batch));
  if (part_pass_.has_value()) {
    return Status::Ok();
  }
  if (joins && !batch.part.has_value()) {
    Join(batch);
    MR_RETURN_IF_ERROR(JoinStaged(batch));
  }
  AddNotes(batch);
  DropCompleteTables();
  return Status::Ok();
}

Status SnapshotCoordinator::Filter(ChangeBatch& batch) {
  if (batch.part.has_value()) {
    for (TableEntry& entry : tables_) {
      if (entry.keyed != nullptr && batch.part->is_first) {
        entry.keyed->Remember();
      } else if (entry.keyed != nullptr && part_pass_ != batch.part->pass) {
        entry.keyed->Recall();
      }
    }
    part_pass_ = batch.part->pass;
  }
  std::vector<FullXid> xids;
  for (const Transaction& transaction : batch.transactions) {
    xids.push_back(newest_.Widen(transaction.xid));
  }
  for (TableChanges& changes : batch.tables) {
    TableEntry* entry = Find(changes.table->oid);
    if (entry == nullptr) {
      continue;
    }
    const size_t before = changes.changes.size();
    if (entry->keyed != nullptr) {
      entry->keyed->Filter(xids, newest_, changes);
    } else {
      MR_RETURN_IF_ERROR(entry->staged->Filter(
          xids, newest_, part_pass_ == TransactionPart::Pass::kLookups, changes));
    }
    batch.row_count -= before - changes.changes.size();
  }
  std::erase_if(batch.tables, [](const TableChanges& changes) { return changes.changes.empty(); });
  if (batch.part.has_value() && batch.part->is_last) {
    part_pass_.reset();
  }
  return Status::Ok();
}

void SnapshotCoordinator::AddMark(ChangeOp op, uint32_t transaction, uint64_t& ordinal,
                                  TableChanges& to) {
  to.changes.push_back({.ordinal = ordinal++, .transaction = transaction, .op = op});
}

void SnapshotCoordinator::Join(ChangeBatch& batch) {
  const Lsn at = batch.end.end_lsn;
  for (TableEntry& entry : tables_) {
    if (entry.keyed == nullptr) {
      continue;
    }
    while (entry.keyed->HasRowsFor(at) && batch.row_count < config_.batch_rows_max &&
           batch.byte_size < config_.batch_bytes_max) {
      MR_FAILPOINT("source.before_chunk_joins");
      TableChanges& changes = ChangesOf(entry.source.table, batch);
      const auto index = static_cast<uint32_t>(batch.transactions.size());
      uint64_t& ordinal = ordinals_.At(at);
      const size_t changes_before = changes.changes.size();
      const size_t waiting_before = entry.keyed->waiting_bytes();
      if (entry.progress.is_again && !std::exchange(entry.progress.has_begun, true)) {
        AddMark(ChangeOp::kReadAgainBegin, index, ordinal, changes);
      }
      TimestampMicros taken_at = 0;
      const size_t joined = entry.keyed->JoinRows(at, index, ordinal, taken_at, changes);
      if (entry.progress.is_again && entry.keyed->is_complete()) {
        AddMark(ChangeOp::kReadAgainEnd, index, ordinal, changes);
      }
      entry.progress.rows += joined;
      rows_joined_ += joined;
      ordinals_changed_ = true;
      batch.byte_size += waiting_before - entry.keyed->waiting_bytes();
      if (changes.changes.size() == changes_before) {
        if (changes.changes.empty()) {
          batch.tables.pop_back();
        }
        continue;
      }
      batch.row_count += changes.changes.size() - changes_before;
      batch.transactions.push_back({.end_lsn = at, .commit_ts = taken_at, .xid = Xid(0)});
    }
  }
}

// One that fits joins in this batch, a larger one in parts behind it.
Status SnapshotCoordinator::JoinStaged(ChangeBatch& batch) {
  const Lsn at = batch.end.end_lsn;
  for (TableEntry& entry : tables_) {
    if (entry.staged == nullptr || !entry.staged->HasRowsFor(at)) {
      continue;
    }
    MR_FAILPOINT("source.before_chunk_joins");
    StagedSnapshot& staged = *entry.staged;
    const Transaction transaction{.end_lsn = at, .commit_ts = staged.taken_at(), .xid = Xid(0)};
    uint64_t& ordinal = ordinals_.At(at);
    ordinals_changed_ = true;
    staged.Rewind();
    const bool fits = staged.change_count() <= config_.batch_rows_max &&
                      staged.byte_size() <= config_.batch_bytes_max;
    if (!fits) {
      emission_ = {.oid = entry.source.table->oid,
                   .transaction = transaction,
                   .position = batch.end,
                   .pass = entry.is_lookup ? TransactionPart::Pass::kLookups
                                           : TransactionPart::Pass::kChanges,
                   .first_ordinal = ordinal};
      return Status::Ok();
    }
    TableChanges& changes = ChangesOf(entry.source.table, batch);
    const auto index = static_cast<uint32_t>(batch.transactions.size());
    const size_t changes_before = changes.changes.size();
    if (entry.progress.is_again) {
      AddMark(ChangeOp::kReadAgainBegin, index, ordinal, changes);
    }
    while (!staged.AtEnd()) {
      MR_ASSIGN_OR_RETURN(TableChanges next, staged.Next());
      for (Change& change : next.changes) {
        change.transaction = index;
        change.ordinal = ordinal++;
      }
      AppendChanges(std::move(next), changes);
    }
    if (entry.progress.is_again) {
      AddMark(ChangeOp::kReadAgainEnd, index, ordinal, changes);
    }
    batch.transactions.push_back(transaction);
    batch.row_count += changes.changes.size() - changes_before;
    batch.byte_size += staged.byte_size();
    entry.progress.rows += staged.change_count();
    rows_joined_ += staged.change_count();
    staged.Finished();
    if (changes.changes.empty()) {
      batch.tables.pop_back();
    }
  }
  return Status::Ok();
}

Result<std::unique_ptr<ChangeBatch>> SnapshotCoordinator::NextPart() {
  using Pass = TransactionPart::Pass;
  Emission& emission = *emission_;
  TableEntry& entry = *Find(emission.oid);
  StagedSnapshot& staged = *entry.staged;
  auto batch = std::make_unique<ChangeBatch>();
  batch->end = emission.position;
  batch->transactions.push_back(emission.transaction);
  TableChanges changes(entry.source.table);
  uint64_t& ordinal = ordinals_.At(emission.position.end_lsn);
  if (entry.progress.is_again && ordinal == emission.first_ordinal) {
    AddMark(ChangeOp::kReadAgainBegin, 0, ordinal, changes);
  }
  while (!staged.AtEnd() && changes.changes.size() < config_.batch_rows_max &&
         changes.new_rows.byte_size() + changes.old_rows.byte_size() < config_.batch_bytes_max) {
    MR_ASSIGN_OR_RETURN(TableChanges next, staged.Next());
    for (Change& change : next.changes) {
      change.ordinal = ordinal++;
    }
    AppendChanges(std::move(next), changes);
  }
  const bool pass_ends = staged.AtEnd();
  if (pass_ends && entry.progress.is_again) {
    AddMark(ChangeOp::kReadAgainEnd, 0, ordinal, changes);
  }
  batch->row_count = changes.changes.size();
  batch->byte_size = changes.new_rows.byte_size() + changes.old_rows.byte_size();
  batch->tables.push_back(std::move(changes));
  const bool is_last = pass_ends && emission.pass == Pass::kChanges;
  batch->part = {.pass = emission.pass,
                 .is_first = std::exchange(emission.is_first, false),
                 .is_last = is_last};
  if (pass_ends && !is_last) {
    emission.pass = Pass::kChanges;
    ordinal = emission.first_ordinal;
    staged.Rewind();
  }
  if (is_last) {
    entry.progress.rows += staged.change_count();
    rows_joined_ += staged.change_count();
    staged.Finished();
    emission_.reset();
    AddNotes(*batch);
    DropCompleteTables();
  }
  return batch;
}

void SnapshotCoordinator::AddNotes(ChangeBatch& batch) {
  for (TableEntry& entry : tables_) {
    if (!(entry.keyed != nullptr ? entry.keyed->has_changed() : entry.staged->has_changed())) {
      continue;
    }
    entry.progress.is_done = entry.is_complete();
    if (entry.keyed != nullptr) {
      entry.progress.ledger = entry.keyed->ledger();
      entry.keyed->set_saved();
    } else {
      entry.progress.ledger = ChunkLedger();
      for (const FullXid xid : entry.must_see()) {
        entry.progress.ledger.MustSee(xid);
      }
      entry.staged->set_saved();
    }
    if (entry.progress.is_done) {
      entry.progress.is_again = entry.progress.keeps_changes = entry.progress.has_begun = false;
    }
    batch.notes.push_back({ProgressNoteName(*entry.source.table), EncodeProgress(entry.progress)});
  }
  if (std::exchange(ordinals_changed_, false)) {
    batch.notes.push_back({std::string(kOrdinalsNoteName), EncodeOrdinals(ordinals_)});
  }
}

void SnapshotCoordinator::DropCompleteTables() {
  for (TableReading& reading : readings_) {
    for (const TableEntry& entry : tables_) {
      if (entry.source.table->FullName() == reading.table) {
        reading.rows = entry.progress.rows;
        reading.state = entry.is_complete() ? TableReading::State::kDone
                        : entry.chunks != 0 || entry.progress.rows != 0
                            ? TableReading::State::kReading
                            : TableReading::State::kWaiting;
      }
    }
  }
  std::erase_if(tables_, [&](const TableEntry& entry) {
    if (!entry.is_complete()) {
      return false;
    }
    log_.Info("Table is complete",
              {{"table", entry.source.table->FullName()}, {"rows", entry.progress.rows}});
    return true;
  });
  if (tables_.empty()) {
    readers_.clear();
    connection_.reset();
    log_.Info("All tables are complete");
  }
}

std::vector<TableReading> SnapshotCoordinator::GetReadings() const { return readings_; }

}  // namespace millrace::sources::postgres
