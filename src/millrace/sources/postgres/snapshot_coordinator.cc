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
// A table of fewer pages than two of this is read by one reader.
constexpr uint64_t kPiecePagesMin = 128;
// A snapshot of this age is good enough to tell what every later one sees.
constexpr milliseconds kNewestAge{20};
constexpr seconds kQuestionWait{10};

bool IsSameStart(const KeyRange& a, const KeyRange& b) {
  return a.includes_lo == b.includes_lo && a.lo.has_value() == b.lo.has_value() &&
         (!a.lo.has_value() || a.lo->encoded == b.lo->encoded);
}

}  // namespace

SnapshotCoordinator::SnapshotCoordinator(PostgresSourceConfig config, telemetry::Logger log,
                                         OpenFn open, std::function<void()> beat)
    : config_(std::move(config)),
      log_(std::move(log)),
      open_(std::move(open)),
      beat_(std::move(beat)) {}

Status SnapshotCoordinator::Start(const std::vector<SourceTable>& tables, const TableRoles& roles,
                                  const std::map<std::string, std::string, std::less<>>& notes) {
  roles_ = roles;
  if (const auto note = notes.find(kOrdinalsNoteName); note != notes.end()) {
    MR_ASSIGN_OR_RETURN(ordinals_, DecodeOrdinals(note->second));
  }
  for (const SourceTable& source : tables) {
    MR_ASSIGN_OR_RETURN(TableProgress progress,
                        DecodeProgress(notes.at(ProgressNoteName(*source.table))));
    readings_.push_back({.table = source.table->FullName(),
                         .state = TableReading::State::kDone,
                         .rows = progress.rows});
    if (!progress.is_done) {
      MR_RETURN_IF_ERROR(AddTable(source, std::move(progress)));
    }
  }
  if (tables_.empty()) {
    return Status::Ok();
  }
  MR_RETURN_IF_ERROR(RefreshNewest());
  StartReaders();
  log_.Info("Tables are read beside the stream", {{"tables", tables_.size()}});
  return Status::Ok();
}

Status SnapshotCoordinator::ReadAgain(const SourceTable& source, bool has_gap) {
  MR_RETURN_IF_ERROR(Connect());
  newest_at_ = {};
  MR_RETURN_IF_ERROR(RefreshNewest());
  TableProgress progress;
  progress.oid = source.table->oid;
  progress.is_again = true;
  progress.keeps_changes = !has_gap;
  for (const FullXid xid : newest_.running) {
    progress.ledger.MustSee(xid);
  }
  if (std::none_of(readings_.begin(), readings_.end(), [&](const TableReading& reading) {
        return reading.table == source.table->FullName();
      })) {
    readings_.push_back({.table = source.table->FullName()});
  }
  MR_RETURN_IF_ERROR(AddTable(source, std::move(progress)));
  StartReaders();
  log_.Info("Table is read again", {{"table", source.table->FullName()}});
  return Status::Ok();
}

Status SnapshotCoordinator::Connect() {
  if (connection_ == nullptr) {
    MR_ASSIGN_OR_RETURN(connection_, open_());
  }
  return Status::Ok();
}

Status SnapshotCoordinator::AddTable(const SourceTable& source, TableProgress progress) {
  MR_RETURN_IF_ERROR(Connect());
  const TablePtr& table = source.table;
  const std::string name = table->FullName();
  MR_ASSIGN_OR_RETURN(const std::vector<Result<KeyOrder>> orders,
                      LoadKeyOrders(*connection_, {source}));
  TableEntry entry;
  entry.source = source;
  entry.progress = std::move(progress);
  entry.is_new = true;
  entry.chunk_rows = config_.snapshot_chunk_rows;
  entry.is_lookup =
      std::find(roles_.lookups.begin(), roles_.lookups.end(), name) != roles_.lookups.end();
  if (const auto found = roles_.joined_by.find(name); found != roles_.joined_by.end()) {
    entry.waits_for = found->second;
  }
  if (orders[0].ok()) {
    entry.keyed = std::make_unique<KeyedSnapshot>(
        table, *orders[0],
        entry.progress.keeps_changes ? KeyedSnapshot::Mode::kAgain : KeyedSnapshot::Mode::kFirst,
        entry.progress.ledger);
  } else {
    log_.Info("Table is read in one piece",
              {{"table", name}, {"because", "it " + orders[0].status().message()}});
    entry.staged = std::make_unique<StagedSnapshot>(table, config_.staging_directory,
                                                    entry.progress.ledger.must_see());
  }
  TableReading& reading = ReadingOf(entry);
  reading.state = TableReading::State::kWaiting;
  reading.is_again = entry.progress.is_again;
  reading.rows = entry.progress.rows;
  MR_RETURN_IF_ERROR(LoadEstimate(entry));
  tables_.push_back(std::move(entry));
  return Status::Ok();
}

TableReading& SnapshotCoordinator::ReadingOf(const TableEntry& table) {
  const auto found = std::find_if(
      readings_.begin(), readings_.end(),
      [&](const TableReading& reading) { return reading.table == table.source.table->FullName(); });
  MR_CHECK(found != readings_.end());
  return *found;
}

Status SnapshotCoordinator::LoadEstimate(const TableEntry& table) {
  // Partitions count for their root.
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult row,
      connection_->Exec(
          fmt::format("SELECT coalesce(greatest(0, sum(c.reltuples)), 0)::bigint FROM pg_class c "
                      "WHERE c.oid = {0} OR c.oid IN (SELECT relid FROM "
                      "pg_partition_tree({0}::oid::regclass))",
                      table.source.table->oid),
          kQuestionWait));
  const std::string_view text = row.Text(0, 0);
  std::from_chars(text.data(), text.data() + text.size(), ReadingOf(table).rows_estimated);
  return Status::Ok();
}

void SnapshotCoordinator::StartReaders() {
  while (readers_.size() < static_cast<size_t>(config_.snapshot_parallelism)) {
    ReaderEntry& entry = readers_.emplace_back();
    entry.reader = std::make_unique<ChunkReader>(
        ChunkReader::Options{.config = config_, .number = static_cast<int>(readers_.size())});
  }
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
                      connection_->Exec("SELECT pg_current_snapshot(), (extract(epoch FROM "
                                        "clock_timestamp()) * 1000000)::bigint",
                                        kQuestionWait));
  const std::string_view micros = row.Text(0, 1);
  std::from_chars(micros.data(), micros.data() + micros.size(), newest_taken_at_);
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
    const bool is_begun = table.IsBeingStaged(table.attempt) && !table.pages.empty();
    if (is_begun) {
      task.pages = table.pages.back();
      task.imported = table.exported;
    }
    return is_begun || table.staged->state() == StagedSnapshot::State::kUnread;
  }
  const std::optional<KeyRange> unread = table.keyed->FirstUnread();
  if (!unread.has_value() || table.NeedsBegin()) {
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
  if (reader.has_imported()) {
    // The changes are decided since the snapshot was exported.
    if (!table->IsBeingStaged(table->attempt) || table->pages.empty()) {
      reader.Abandon();
      return Status::Ok();
    }
    table->pages.pop_back();
    BeginReading(*table, entry);
    reader.Read();
    return Status::Ok();
  }
  Result<TakenSnapshot> taken =
      reader.TakeSnapshot(table->staged != nullptr && config_.snapshot_parallelism > 1);
  if (!taken.ok()) {
    return Status::Ok();  // End() says why
  }
  SetNewest(taken->xids);
  if (table->staged != nullptr) {
    return BeginStaged(*table, entry, *std::move(taken));
  }
  if (!table->keyed->Begin(last_chunk_ + 1, reader.range(),
                           std::make_shared<const XidSnapshot>(std::move(taken->xids)),
                           taken->wal_insert_lsn, taken->taken_at)) {
    reader.Abandon();
    return Status::Ok();
  }
  BeginReading(*table, entry);
  reader.Read();
  beat_();
  return Status::Ok();
}

void SnapshotCoordinator::BeginReading(TableEntry& table, ReaderEntry& entry) {
  entry.chunk = ++last_chunk_;
  entry.attempt = table.attempt;
  entry.begun = Clock::now();
  ++table.chunks;
}

// Takes the first piece of a table without a key order; others are read in its snapshot.
Status SnapshotCoordinator::BeginStaged(TableEntry& table, ReaderEntry& entry,
                                        TakenSnapshot taken) {
  ChunkReader& reader = *entry.reader;
  MR_ASSIGN_OR_RETURN(
      const bool has_begun,
      table.staged->Begin(std::make_shared<const XidSnapshot>(std::move(taken.xids)),
                          taken.wal_insert_lsn, taken.taken_at));
  if (!has_begun) {
    reader.Abandon();
    return Status::Ok();
  }
  const auto pieces = std::min<uint64_t>(static_cast<uint64_t>(config_.snapshot_parallelism),
                                         std::max<uint64_t>(1, taken.pages / kPiecePagesMin));
  table.attempt = table.staged->attempt();
  table.exported = std::move(taken.exported);
  table.pieces_left = pieces;
  table.pages.clear();
  for (uint64_t i = 0; i < pieces; ++i) {
    PageRange& pages = table.pages.emplace_back();
    pages.begin = taken.pages * i / pieces;
    if (i + 1 < pieces) {
      pages.end = taken.pages * (i + 1) / pieces;
    }
  }
  const PageRange pages = table.pages.back();
  table.pages.pop_back();
  BeginReading(table, entry);
  reader.ReadPages(pages, !table.pages.empty());
  beat_();
  return Status::Ok();
}

bool SnapshotCoordinator::IsWanted(const TableEntry* table, const ReaderEntry& entry) {
  return table != nullptr && (table->keyed != nullptr ? table->keyed->IsBeingRead(entry.chunk)
                                                      : table->IsBeingStaged(entry.attempt));
}

Status SnapshotCoordinator::TakeRows(ReaderEntry& entry) {
  ChunkReader& reader = *entry.reader;
  TableEntry* table = Find(entry.oid);
  if (!IsWanted(table, entry)) {
    if (!entry.was_stopped) {
      reader.Stop();
      entry.was_stopped = true;
    }
    while (reader.TakeRows().has_value()) {
    }
    return Status::Ok();
  }
  if (table->staged != nullptr && table->pages.empty()) {
    reader.ReleaseSnapshot();  // all that were to import it have
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
  if (TableEntry* table = Find(entry.oid); table != nullptr && entry.chunk == 0) {
    table->is_claimed = false;
  } else if (table != nullptr) {
    --table->chunks;
    const bool is_wanted = IsWanted(table, entry);
    if (table->keyed != nullptr && status.ok() && is_wanted) {
      table->keyed->Finish(entry.chunk);
      table->chunk_rows = std::min(table->chunk_rows * 2, config_.snapshot_chunk_rows);
    } else if (table->keyed != nullptr) {
      // The next one is smaller, so that it ends before what ended this one comes again.
      table->keyed->Cut(entry.chunk);
      table->chunk_rows =
          std::min(table->chunk_rows, std::max(kChunkRowsMin, table->chunk_rows / 4));
    } else if (is_wanted && !status.ok()) {
      table->staged->GiveUp();
    } else if (is_wanted && --table->pieces_left == 0) {
      table->staged->Finish();
    }
  }
  entry.oid = 0;
  entry.chunk = 0;
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

}  // namespace millrace::sources::postgres
