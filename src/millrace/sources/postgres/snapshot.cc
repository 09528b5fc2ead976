// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/snapshot.h"

#include <charconv>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/common/failpoint.h"
#include "millrace/sources/postgres/copy_text.h"
#include "millrace/sources/postgres/row_size.h"

namespace millrace::sources::postgres {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr size_t kPollBytesMax = size_t{4} << 20;
constexpr size_t kColumnOverhead = 8;

std::string QuotedName(const SourceTable& table) {
  return pg::QuoteQualified(table.table->schema, table.table->name);
}

std::string CopyCommand(const SourceTable& table) {
  std::vector<std::string> columns;
  for (const Field& field : *table.table->columns) {
    columns.push_back(pg::QuoteIdentifier(field.name));
  }
  if (!table.is_partitioned && !table.has_generated_column && table.row_filter.empty()) {
    return fmt::format("COPY {} ({}) TO STDOUT", QuotedName(table), fmt::join(columns, ", "));
  }
  return fmt::format("COPY (SELECT {} FROM {}{}{}) TO STDOUT", fmt::join(columns, ", "),
                     FromClause(table), table.row_filter.empty() ? "" : " WHERE ",
                     table.row_filter);
}

}  // namespace

SnapshotReader::SnapshotReader(Options options) : options_(std::move(options)) {
  batch_ = NewBatch();
}

std::unique_ptr<ChangeBatch> SnapshotReader::NewBatch() const {
  auto batch = std::make_unique<ChangeBatch>();
  batch->is_snapshot = true;
  batch->end = options_.position;
  batch->transactions.push_back(
      {.end_lsn = options_.position.end_lsn, .commit_ts = commit_ts_, .xid = Xid(0)});
  return batch;
}

std::string SnapshotReader::table_name() const {
  return in_copy_ ? table().table->FullName() : std::string();
}

bool SnapshotReader::IsFull() const {
  return batch_->row_count >= options_.batch_rows_max ||
         batch_->byte_size >= options_.batch_bytes_max || batch_->snapshot_complete;
}

Status SnapshotReader::Begin(std::unique_ptr<pg::Connection> connection,
                             const std::string& snapshot) {
  connection_ = std::move(connection);
  if (options_.tables.empty()) {
    return StartNextTable();
  }
  Result<pg::QueryResult> row = connection_->Exec(
      fmt::format("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; "
                  "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
                  pg::QuoteLiteral(snapshot)));
  if (!row.ok()) {
    // The exporting connection broke, most likely; a new start makes another.
    return Unavailable(fmt::format("import the slot's snapshot: {}", row.status().message()));
  }
  const std::string_view micros = row.value().Text(0, 0);
  std::from_chars(micros.data(), micros.data() + micros.size(), commit_ts_);
  batch_ = NewBatch();
  MR_RETURN_IF_ERROR(LockTables());
  return StartNextTable();
}

Status SnapshotReader::LockTables() {
  std::vector<std::string> names;
  std::vector<uint32_t> oids;
  for (const SourceTable& table : options_.tables) {
    names.push_back(FromClause(table));
    if (!table.is_partitioned) {
      oids.push_back(table.table->oid);
    }
    oids.insert(oids.end(), table.partitions.begin(), table.partitions.end());
  }
  const Result<pg::QueryResult> locked =
      connection_->Exec(fmt::format("LOCK TABLE {} IN ACCESS SHARE MODE", fmt::join(names, ", ")));
  if (!locked.ok()) {
    const Code code = locked.status().code();
    return Status(code == Code::kNotFound ? Code::kUnavailable : code,
                  fmt::format("lock the tables for the snapshot: {}", locked.status().message()));
  }
  if (oids.empty()) {
    return Status::Ok();
  }
  // An old snapshot sees a table as empty that was rewritten after it was taken.
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult rewritten,
      connection_->Exec(fmt::format("SELECT c.relname FROM pg_class c WHERE c.oid IN ({}) AND "
                                    "c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)",
                                    fmt::join(oids, ", "))));
  if (rewritten.row_count() != 0) {
    return Unavailable(fmt::format("table '{}' was rewritten or truncated as the snapshot began",
                                   rewritten.Text(0, 0)));
  }
  return Status::Ok();
}

Status SnapshotReader::StartNextTable() {
  in_copy_ = false;
  if (next_table_ == options_.tables.size()) {
    batch_->snapshot_complete = true;
    connection_.reset();
    return Status::Ok();
  }
  MR_FAILPOINT("source.before_snapshot_table");
  ++next_table_;
  parsers_.clear();
  for (const Field& field : *table().table->columns) {
    parsers_.push_back(ValueParserFor(field.type));
  }
  MR_RETURN_IF_ERROR(connection_->StartCopyOut(CopyCommand(table()))
                         .WithContext(fmt::format("read table {}", table().table->FullName())));
  in_copy_ = true;
  return Status::Ok();
}

Status SnapshotReader::Poll(milliseconds wait) {
  const Clock::time_point deadline = Clock::now() + wait;
  size_t bytes = 0;
  while (!IsFull() && bytes < kPollBytesMax) {
    const pg::CopyRead read = connection_->TryReadCopy();
    if (read.state == pg::CopyState::kMessage) {
      bytes += read.bytes.size();
      MR_RETURN_IF_ERROR(AppendLine(read.bytes));
      continue;
    }
    if (read.state == pg::CopyState::kEnd) {
      MR_RETURN_IF_ERROR(connection_->FinishCopy().WithContext(
          fmt::format("read table {}", table().table->FullName())));
      MR_RETURN_IF_ERROR(StartNextTable());
      continue;
    }
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    const milliseconds slice = bytes != 0 ? milliseconds(0) : std::max(left, milliseconds(0));
    MR_ASSIGN_OR_RETURN(const bool has_bytes, connection_->WaitReadable(slice));
    if (!has_bytes) {
      break;
    }
  }
  return Status::Ok();
}

Status SnapshotReader::AppendLine(std::string_view line) {
  const Table& table = *this->table().table;
  const Schema& schema = *table.columns;
  if (batch_->tables.empty() || batch_->tables.back().table.get() != &table) {
    batch_->tables.emplace_back(this->table().table);
  }
  TableChanges& changes = batch_->tables.back();
  const auto row = static_cast<uint32_t>(changes.new_rows.row_count());
  CopyLine fields(line);
  for (size_t i = 0; i < schema.size(); ++i) {
    std::string_view text;
    if (fields.AtEnd()) {
      return Corruption(fmt::format("table {}: a row of too few columns", table.FullName()));
    }
    const CopyLine::Field field = fields.Next(text);
    if (field == CopyLine::Field::kNull) {
      if (!schema[i].nullable) {
        return Corruption(fmt::format("table {}: a NULL in column '{}', which is NOT NULL",
                                      table.FullName(), schema[i].name));
      }
      changes.new_rows.column(i).AppendNull();
      continue;
    }
    if (field == CopyLine::Field::kMalformed) {
      return Corruption(fmt::format("table {}, column '{}': an escape that COPY does not write",
                                    table.FullName(), schema[i].name));
    }
    if (const ValueError* error = parsers_[i](text, changes.new_rows.column(i))) {
      return Status(error->code, fmt::format("table {}, column '{}': {}", table.FullName(),
                                             schema[i].name, error->reason));
    }
  }
  if (!fields.AtEnd()) {
    return Corruption(fmt::format("table {}: a row of too many columns", table.FullName()));
  }
  MR_RETURN_IF_ERROR(CheckRowSize(table, changes.new_rows, row, line.size()));
  if (batch_->row_count == 0) {
    pending_since_ = Clock::now();
  }
  changes.changes.push_back({.ordinal = kSnapshotOrdinalBase + rows_read_++,
                             .transaction = 0,
                             .new_row = row,
                             .old_row = kNoRow,
                             .op = ChangeOp::kRead});
  ++batch_->row_count;
  batch_->byte_size += line.size() + sizeof(Change) + schema.size() * kColumnOverhead;
  return Status::Ok();
}

std::unique_ptr<ChangeBatch> SnapshotReader::Take() {
  is_done_ = batch_->snapshot_complete;
  return std::exchange(batch_, NewBatch());
}

}  // namespace millrace::sources::postgres
