// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/pgoutput_decoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "millrace/common/coding.h"
#include "millrace/sources/postgres/relation_message.h"

namespace millrace::sources::postgres {
namespace {

// PostgreSQL counts from 2000-01-01.
constexpr TimestampMicros kPostgresEpoch = 946'684'800'000'000;
// What a row costs in memory beyond its text, for bounds: a fixed value or an end, and validity.
constexpr size_t kColumnOverhead = 8;

Status Cut() { return Corruption("a pgoutput message is shorter than it says"); }

bool SameValue(const Column& a, size_t a_row, const Column& b, size_t b_row) {
  if (a.IsNull(a_row) || b.IsNull(b_row)) {
    return a.IsNull(a_row) && b.IsNull(b_row);
  }
  if (const size_t width = a.type().width(); width != 0) {
    return std::memcmp(a.ValueBytes(a_row), b.ValueBytes(b_row), width) == 0;
  }
  // Lists count as different: the row is then kept, which is never wrong.
  return !a.type().is_list() && a.Text(a_row) == b.Text(b_row);
}

}  // namespace

// Reads a message from left to right. Every read checks the length; false means that it is cut.
class PgOutputDecoder::Cursor {
 public:
  explicit Cursor(std::string_view bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  template <std::unsigned_integral T>
  bool Read(T& value) {
    if (static_cast<size_t>(end_ - at_) < sizeof(T)) [[unlikely]] {
      return false;
    }
    value = LoadBigEndian<T>(at_);
    at_ += sizeof(T);
    return true;
  }
  bool Read(char& value) {
    uint8_t byte = 0;
    const bool is_there = Read(byte);
    value = static_cast<char>(byte);
    return is_there;
  }
  bool ReadLsn(Lsn& lsn) {
    uint64_t value = 0;
    const bool is_there = Read(value);
    lsn = Lsn(value);
    return is_there;
  }
  bool ReadBytes(size_t n, std::string_view& bytes) {
    if (static_cast<size_t>(end_ - at_) < n) [[unlikely]] {
      return false;
    }
    bytes = {at_, n};
    at_ += n;
    return true;
  }
  bool ReadCString(std::string_view& text) {
    const void* zero = at_ == end_ ? nullptr : std::memchr(at_, 0, static_cast<size_t>(end_ - at_));
    if (zero == nullptr) {
      return false;
    }
    text = {at_, static_cast<size_t>(static_cast<const char*>(zero) - at_)};
    at_ += text.size() + 1;
    return true;
  }
  bool AtEnd() const { return at_ == end_; }

 private:
  const char* at_;
  const char* end_;
};

PgOutputDecoder::PgOutputDecoder(std::vector<SourceTable> tables, std::string slot)
    : tables_(std::move(tables)),
      slot_(std::move(slot)),
      batch_(std::make_unique<ChangeBatch>()),
      batch_table_(tables_.size(), -1) {}

void PgOutputDecoder::StartStream(SourcePosition start) {
  start_ = start;
  end_lsn_ = start.end_lsn;
  relations_.clear();
  last_relation_ = nullptr;
  in_transaction_ = false;
  open_rows_ = 0;
  open_bytes_ = 0;
  batch_ = std::make_unique<ChangeBatch>();
  std::fill(batch_table_.begin(), batch_table_.end(), -1);
}

std::unique_ptr<ChangeBatch> PgOutputDecoder::Take() {
  MR_CHECK(!in_transaction_);
  batch_->end = {start_.epoch, end_lsn_};
  std::fill(batch_table_.begin(), batch_table_.end(), -1);
  return std::exchange(batch_, std::make_unique<ChangeBatch>());
}

void PgOutputDecoder::RollBackOpenTransaction() {
  if (!in_transaction_) {
    return;
  }
  in_transaction_ = false;
  open_rows_ = 0;
  open_bytes_ = 0;
  const auto open = static_cast<uint32_t>(batch_->transactions.size());
  for (TableChanges& table : batch_->tables) {
    // Rows are appended in the order of the changes; also those of a change that was cut off.
    uint32_t new_rows = 0;
    uint32_t old_rows = 0;
    while (!table.changes.empty() && table.changes.back().transaction == open) {
      table.changes.pop_back();
    }
    for (auto change = table.changes.rbegin(); change != table.changes.rend(); ++change) {
      new_rows = std::max(new_rows, change->new_row == kNoRow ? 0 : change->new_row + 1);
      old_rows = std::max(old_rows, change->old_row == kNoRow ? 0 : change->old_row + 1);
    }
    while (!table.unchanged_toast.empty() && table.unchanged_toast.back().new_row >= new_rows) {
      table.unchanged_toast.pop_back();
    }
    table.new_rows.Truncate(new_rows);
    table.old_rows.Truncate(old_rows);
  }
}

Status PgOutputDecoder::Decode(std::string_view message) {
  Status status = DecodeMessage(message);
  if (!status.ok()) [[unlikely]] {
    RollBackOpenTransaction();
  }
  return status;
}

Status PgOutputDecoder::DecodeMessage(std::string_view message) {
  if (message.empty()) {
    return Cut();
  }
  Cursor in(message.substr(1));
  const char type = message.front();
  Status status;
  switch (type) {
    case 'I':
      status = DecodeInsert(in, message.size());
      break;
    case 'U':
      status = DecodeUpdate(in, message.size());
      break;
    case 'D':
      status = DecodeDelete(in, message.size());
      break;
    case 'B':
      status = DecodeBegin(in);
      break;
    case 'C':
      status = DecodeCommit(in);
      break;
    case 'R':
      return DecodeRelation(message.substr(1));
    case 'T':
      status = DecodeTruncate(in);
      break;
    case 'M':
      status = DecodeLogicalMessage(in);
      break;
    case 'O': {  // Origin: where the transaction was made first
      Lsn lsn;
      std::string_view name;
      status = in.ReadLsn(lsn) && in.ReadCString(name) ? Status::Ok() : Cut();
      break;
    }
    case 'Y': {  // Type: a name for people
      uint32_t oid = 0;
      std::string_view name;
      status = in.Read(oid) && in.ReadCString(name) && in.ReadCString(name) ? Status::Ok() : Cut();
      break;
    }
    case 'A': {
      // Stream Abort. PostgreSQL 18 sends it for a rolled-back transaction that it had spilled to
      // disk, although nothing of it was ever sent (seen with 18.4).
      uint32_t xid = 0;
      uint32_t subxid = 0;
      status = in.Read(xid) && in.Read(subxid) ? Status::Ok() : Cut();
      break;
    }
    default:
      return Corruption(
          fmt::format("pgoutput message of unknown type {:#04x}", static_cast<uint8_t>(type)));
  }
  if (status.ok() && !in.AtEnd()) [[unlikely]] {
    return Corruption(fmt::format("a pgoutput message '{}' is longer than it says", type));
  }
  return status;
}

Status PgOutputDecoder::DecodeBegin(Cursor& in) {
  uint64_t commit_ts = 0;
  uint32_t xid = 0;
  if (!in.ReadLsn(commit_lsn_) || !in.Read(commit_ts) || !in.Read(xid)) {
    return Cut();
  }
  if (in_transaction_) {
    return Corruption("a transaction begins within another");
  }
  in_transaction_ = true;
  // The server starts at the position that it was told; this keeps a repeated one out all the same.
  skips_transaction_ = commit_lsn_ < start_.end_lsn;
  has_heartbeat_ = false;
  open_ = {.commit_ts = static_cast<TimestampMicros>(commit_ts) + kPostgresEpoch, .xid = Xid(xid)};
  ordinal_ = 0;
  return Status::Ok();
}

Status PgOutputDecoder::DecodeCommit(Cursor& in) {
  uint8_t flags = 0;
  uint64_t commit_ts = 0;
  Lsn commit_lsn;
  Lsn end_lsn;
  // Looked at before the rows count as committed.
  if (!in.Read(flags) || !in.ReadLsn(commit_lsn) || !in.ReadLsn(end_lsn) || !in.Read(commit_ts) ||
      !in.AtEnd()) {
    return Corruption("a Commit message is not of its length");
  }
  if (!in_transaction_ || commit_lsn != commit_lsn_ || end_lsn <= commit_lsn) {
    return Corruption("a transaction ends that did not begin");
  }
  if (!skips_transaction_) {
    if (end_lsn <= end_lsn_) {
      return Corruption(fmt::format("a transaction ends at {}, before {} of an earlier one",
                                    FormatLsn(end_lsn), FormatLsn(end_lsn_)));
    }
    end_lsn_ = end_lsn;
    open_.end_lsn = end_lsn;
    last_commit_ts_ = open_.commit_ts;
    heartbeats_ += has_heartbeat_;
    if (open_rows_ != 0) {
      batch_->transactions.push_back(open_);
      batch_->row_count += open_rows_;
      batch_->byte_size += open_bytes_;
    }
  }
  in_transaction_ = false;
  open_rows_ = 0;
  open_bytes_ = 0;
  return Status::Ok();
}

Status PgOutputDecoder::DecodeRelation(std::string_view body) {
  MR_ASSIGN_OR_RETURN(const RelationMessage message, ParseRelationMessage(body));
  Relation relation;
  for (size_t i = 0; i < tables_.size(); ++i) {
    const Table& table = *tables_[i].table;
    if (table.oid != message.oid &&
        (table.schema != message.schema || table.name != message.name)) {
      continue;
    }
    MR_RETURN_IF_ERROR(CheckSameShape(tables_[i], message));
    relation.table = &tables_[i];
    relation.table_index = i;
    for (const Field& field : *table.columns) {
      relation.parsers.push_back(ValueParserFor(field.type));
    }
    relation.names_row.resize(table.columns->size());
    for (const uint32_t column :
         table.OldImagesLackKey() ? table.identity_index : table.primary_key) {
      relation.names_row[column] = true;
    }
    break;
  }
  for (const RelationMessage::Column& column : message.columns) {
    relation.is_key.push_back(column.is_key);
  }
  last_relation_ = nullptr;
  relations_.insert_or_assign(message.oid, std::move(relation));
  return Status::Ok();
}

const PgOutputDecoder::Relation* PgOutputDecoder::FindRelation(Cursor& in, Status& error) {
  uint32_t oid = 0;
  if (!in.Read(oid)) [[unlikely]] {
    error = Cut();
    return nullptr;
  }
  if (!in_transaction_) [[unlikely]] {
    error = Corruption("a row change stands outside of a transaction");
    return nullptr;
  }
  if (last_relation_ != nullptr && oid == last_oid_) [[likely]] {
    return last_relation_;
  }
  const auto found = relations_.find(oid);
  if (found == relations_.end()) {
    error = Corruption(fmt::format("a row change of relation {}, which was not described", oid));
    return nullptr;
  }
  last_oid_ = oid;
  last_relation_ = &found->second;
  return last_relation_;
}

TableChanges& PgOutputDecoder::ChangesOf(const Relation& relation) {
  int& index = batch_table_[relation.table_index];
  if (index < 0) {
    index = static_cast<int>(batch_->tables.size());
    batch_->tables.emplace_back(relation.table->table);
  }
  return batch_->tables[static_cast<size_t>(index)];
}

void PgOutputDecoder::AddChange(TableChanges& changes, ChangeOp op, uint32_t new_row,
                                uint32_t old_row, size_t bytes) {
  changes.changes.push_back({.ordinal = ++ordinal_,
                             .transaction = static_cast<uint32_t>(batch_->transactions.size()),
                             .new_row = new_row,
                             .old_row = old_row,
                             .op = op});
  ++open_rows_;
  open_bytes_ += bytes + sizeof(Change) + changes.table->columns->size() * kColumnOverhead;
}

Status PgOutputDecoder::ReadValue(Cursor& in, const Relation& relation, TupleKind kind,
                                  size_t column, Column& to) {
  uint32_t length = 0;
  std::string_view text;
  if (!in.Read(length) || !in.ReadBytes(length, text)) [[unlikely]] {
    return Cut();
  }
  const ValueError* error = relation.parsers[column](text, to);
  if (error != nullptr) [[unlikely]] {
    const Table& table = *relation.table->table;
    return Status(
        error->code,
        fmt::format("table {}, column '{}'{}: {}", table.FullName(), (*table.columns)[column].name,
                    kind == TupleKind::kNew ? "" : " (old row)", error->reason));
  }
  return Status::Ok();
}

// A value that was not sent because it did not change: the old image may have it. False if not.
bool PgOutputDecoder::ReadUnchanged(const Relation& relation, TupleKind old_kind, uint32_t old_row,
                                    size_t column, TableChanges& changes) {
  // What is out of line is no NULL: the old image of a partition may hold its key alone.
  if (old_row == kNoRow || (old_kind == TupleKind::kOldKey && !relation.is_key[column]) ||
      changes.old_rows.column(column).IsNull(old_row)) {
    return false;
  }
  changes.new_rows.column(column).AppendFrom(changes.old_rows.column(column), old_row);
  return true;
}

Status PgOutputDecoder::ReadTuple(Cursor& in, const Relation& relation, TupleKind kind,
                                  TupleKind old_kind, uint32_t old_row, TableChanges& changes) {
  const Schema& schema = *changes.table->columns;
  RowBatch& rows = kind == TupleKind::kNew ? changes.new_rows : changes.old_rows;
  const auto row = static_cast<uint32_t>(rows.row_count());
  uint16_t count = 0;
  if (!in.Read(count)) [[unlikely]] {
    return Cut();
  }
  if (count != schema.size()) [[unlikely]] {
    return Corruption(fmt::format("table {}: a row of {} columns, described with {}",
                                  changes.table->FullName(), count, schema.size()));
  }
  for (size_t i = 0; i < count; ++i) {
    char state = 0;
    if (!in.Read(state)) [[unlikely]] {
      return Cut();
    }
    if (state == 't') [[likely]] {
      MR_RETURN_IF_ERROR(ReadValue(in, relation, kind, i, rows.column(i)));
    } else if (state == 'n') {
      if (kind == TupleKind::kNew && !schema[i].nullable) [[unlikely]] {
        return FailedPrecondition(fmt::format(
            "table {}: column '{}' was NOT NULL when the pipeline started and holds a NULL: "
            "restart the pipeline",
            changes.table->FullName(), schema[i].name));
      }
      if (kind != TupleKind::kNew && relation.names_row[i]) [[unlikely]] {
        return FailedPrecondition(fmt::format(
            "table {}: an old row came without key column '{}': a partition with another replica "
            "identity than the table's, or a row older than the column; give the partition REPLICA "
            "IDENTITY DEFAULT or FULL, and set the pipeline up again",
            changes.table->FullName(), schema[i].name));
      }
      rows.column(i).AppendNull();
    } else if (state == 'u' && kind == TupleKind::kNew) {
      if (!ReadUnchanged(relation, old_kind, old_row, i, changes)) {
        rows.column(i).AppendNull();
        changes.unchanged_toast.push_back({row, static_cast<uint32_t>(i)});
      }
    } else {
      return Corruption(fmt::format("table {}: a value of unknown form {:#04x}",
                                    changes.table->FullName(), static_cast<uint8_t>(state)));
    }
  }
  return Status::Ok();
}

Status PgOutputDecoder::DecodeInsert(Cursor& in, size_t size) {
  Status error;
  const Relation* relation = FindRelation(in, error);
  if (relation == nullptr) [[unlikely]] {
    return error;
  }
  if (relation->table == nullptr || skips_transaction_) {
    in = Cursor({});
    SkipChange();
    return Status::Ok();
  }
  char marker = 0;
  if (!in.Read(marker)) [[unlikely]] {
    return Cut();
  }
  if (marker != 'N') [[unlikely]] {
    return Corruption("an Insert message without a new row");
  }
  TableChanges& changes = ChangesOf(*relation);
  const auto row = static_cast<uint32_t>(changes.new_rows.row_count());
  MR_RETURN_IF_ERROR(ReadTuple(in, *relation, TupleKind::kNew, TupleKind::kNew, kNoRow, changes));
  AddChange(changes, ChangeOp::kInsert, row, kNoRow, size);
  return Status::Ok();
}

Status PgOutputDecoder::DecodeUpdate(Cursor& in, size_t size) {
  Status error;
  const Relation* relation = FindRelation(in, error);
  if (relation == nullptr) [[unlikely]] {
    return error;
  }
  if (relation->table == nullptr || skips_transaction_) {
    in = Cursor({});
    SkipChange();
    return Status::Ok();
  }
  char marker = 0;
  if (!in.Read(marker)) [[unlikely]] {
    return Cut();
  }
  TableChanges& changes = ChangesOf(*relation);
  const auto row = static_cast<uint32_t>(changes.new_rows.row_count());
  uint32_t old_row = kNoRow;
  TupleKind old_kind = TupleKind::kOldKey;
  if (marker == 'K' || marker == 'O') {
    old_kind = marker == 'K' ? TupleKind::kOldKey : TupleKind::kOldFull;
    old_row = static_cast<uint32_t>(changes.old_rows.row_count());
    MR_RETURN_IF_ERROR(ReadTuple(in, *relation, old_kind, old_kind, kNoRow, changes));
    if (!in.Read(marker)) [[unlikely]] {
      return Cut();
    }
  }
  if (marker != 'N') [[unlikely]] {
    return Corruption("an Update message without a new row");
  }
  MR_RETURN_IF_ERROR(ReadTuple(in, *relation, TupleKind::kNew, old_kind, old_row, changes));
  if (old_row != kNoRow && old_kind == TupleKind::kOldKey) {
    // A key that is stored out of line is sent even where it did not change.
    bool is_same_key = true;
    for (size_t i = 0; i < relation->is_key.size() && is_same_key; ++i) {
      is_same_key = !relation->is_key[i] ||
                    SameValue(changes.old_rows.column(i), old_row, changes.new_rows.column(i), row);
    }
    if (is_same_key) {
      changes.old_rows.Truncate(old_row);
      old_row = kNoRow;
    }
  }
  AddChange(changes, ChangeOp::kUpdate, row, old_row, size);
  return Status::Ok();
}

Status PgOutputDecoder::DecodeDelete(Cursor& in, size_t size) {
  Status error;
  const Relation* relation = FindRelation(in, error);
  if (relation == nullptr) [[unlikely]] {
    return error;
  }
  if (relation->table == nullptr || skips_transaction_) {
    in = Cursor({});
    SkipChange();
    return Status::Ok();
  }
  char marker = 0;
  if (!in.Read(marker)) [[unlikely]] {
    return Cut();
  }
  if (marker != 'K' && marker != 'O') [[unlikely]] {
    return Corruption("a Delete message without an old row");
  }
  const TupleKind kind = marker == 'K' ? TupleKind::kOldKey : TupleKind::kOldFull;
  TableChanges& changes = ChangesOf(*relation);
  const auto row = static_cast<uint32_t>(changes.old_rows.row_count());
  MR_RETURN_IF_ERROR(ReadTuple(in, *relation, kind, kind, kNoRow, changes));
  AddChange(changes, ChangeOp::kDelete, kNoRow, row, size);
  return Status::Ok();
}

Status PgOutputDecoder::DecodeTruncate(Cursor& in) {
  uint32_t count = 0;
  uint8_t options = 0;
  if (!in.Read(count) || !in.Read(options)) {
    return Cut();
  }
  for (uint32_t i = 0; i < count; ++i) {
    Status error;
    const Relation* relation = FindRelation(in, error);
    if (relation == nullptr) {
      return error;
    }
    if (relation->table == nullptr || skips_transaction_) {
      SkipChange();
    } else {
      AddChange(ChangesOf(*relation), ChangeOp::kTruncate, kNoRow, kNoRow, sizeof(uint32_t));
    }
  }
  return Status::Ok();
}

Status PgOutputDecoder::DecodeLogicalMessage(Cursor& in) {
  uint8_t flags = 0;
  Lsn lsn;
  std::string_view prefix;
  uint32_t length = 0;
  std::string_view content;
  if (!in.Read(flags) || !in.ReadLsn(lsn) || !in.ReadCString(prefix) || !in.Read(length) ||
      !in.ReadBytes(length, content)) {
    return Cut();
  }
  if (prefix == kHeartbeatPrefix && content == slot_) {
    if (in_transaction_) {
      has_heartbeat_ = true;
    } else {
      ++heartbeats_;
    }
  }
  return Status::Ok();
}

}  // namespace millrace::sources::postgres
