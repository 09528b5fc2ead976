// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/pgoutput_decoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "millrace/model/evolution.h"
#include "millrace/sources/postgres/ddl_message.h"
#include "millrace/sources/postgres/row_size.h"

namespace millrace::sources::postgres {
namespace {

// What a row costs in memory beyond its text, for bounds: a fixed value or an end, and validity.
constexpr size_t kColumnOverhead = 8;

Status Cut() { return Corruption("a pgoutput message is shorter than it says"); }

bool IsRowMessage(char type) { return type == 'I' || type == 'U' || type == 'D'; }

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

size_t ValueBytes(const Column& column, size_t row) {
  if (!column.type().is_list()) {
    return column.type().width() != 0 ? column.type().width() : column.Text(row).size();
  }
  size_t bytes = 0;
  const auto [begin, end] = column.ListRange(row);
  for (size_t i = begin; i < end; ++i) {
    bytes += ValueBytes(column.child(), i);
  }
  return bytes;
}

}  // namespace

PgOutputDecoder::PgOutputDecoder(RelationResolver& resolver, std::string slot,
                                 const std::vector<std::string>& lookups)
    : resolver_(resolver),
      slot_(std::move(slot)),
      lookups_(lookups.begin(), lookups.end()),
      batch_(std::make_unique<ChangeBatch>()),
      batch_table_(resolver.table_count(), -1) {}

void PgOutputDecoder::StartStream() {
  relations_.clear();
  open_relations_.clear();
  last_relation_ = nullptr;
  open_rows_ = 0;
  open_bytes_ = 0;
  std::fill(batch_table_.begin(), batch_table_.end(), -1);
  batch_ = std::make_unique<ChangeBatch>();
}

std::unique_ptr<ChangeBatch> PgOutputDecoder::TakeBatch() {
  MR_CHECK(open_rows_ == 0);
  std::fill(batch_table_.begin(), batch_table_.end(), -1);
  return std::exchange(batch_, std::make_unique<ChangeBatch>());
}

void PgOutputDecoder::Begin(const Transaction& transaction, Filter filter) {
  if (filter != filter_) {
    last_relation_ = nullptr;  // it was looked at for other rows
  }
  open_ = transaction;
  filter_ = filter;
  has_heartbeat_ = false;
  ordinal_ = 0;
  ForgetOpenRelations();
  if (std::exchange(has_transient_, false)) {
    ForgetResolutions();
  }
  if (filter_ != Filter::kNothing) {
    resolver_.Begin(transaction.xid);
  }
}

void PgOutputDecoder::ForgetOpenRelations() {
  if (!open_relations_.empty()) {
    open_relations_.clear();
    last_relation_ = nullptr;
  }
}

void PgOutputDecoder::AddOpenRows() {
  batch_->transactions.push_back(open_);
  batch_->row_count += std::exchange(open_rows_, 0);
  batch_->byte_size += std::exchange(open_bytes_, 0);
}

void PgOutputDecoder::EndPart(TransactionPart part) {
  AddOpenRows();
  batch_->part = part;
}

void PgOutputDecoder::Commit(std::optional<TransactionPart> part) {
  for (auto& [oid, relation] : open_relations_) {
    Relation& known = relations_[oid];
    if (known.serial < relation.serial) {
      known = std::move(relation);
    }
  }
  ForgetOpenRelations();
  heartbeats_ += has_heartbeat_ && filter_ != Filter::kNothing;
  if (open_rows_ != 0) {
    AddOpenRows();
    batch_->part = part;
  }
}

void PgOutputDecoder::RollBack() {
  ForgetOpenRelations();
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

Result<bool> PgOutputDecoder::Admit(std::string_view head) {
  if (!IsRowMessage(head.front())) {
    return true;
  }
  MessageCursor in(head.substr(1));
  Status error;
  const Relation* relation = FindRelation(in, error);
  if (relation == nullptr) [[unlikely]] {
    return error;
  }
  if (Keeps(*relation)) {
    return true;
  }
  SkipChange(*relation);
  return false;
}

Result<bool> PgOutputDecoder::Keeps(std::string_view message) {
  MessageCursor in(message.substr(1));
  uint32_t count = 0;
  if (IsRowMessage(message.front())) {
    count = 1;
  } else if (uint8_t options = 0;
             message.front() == 'T' && (!in.Read(count) || !in.Read(options))) {
    return Cut();
  }
  for (uint32_t i = 0; i < count; ++i) {
    Status error;
    const Relation* relation = FindRelation(in, error);
    if (relation == nullptr) [[unlikely]] {
      return error;
    }
    if (Keeps(*relation)) {
      return true;
    }
  }
  return false;
}

Status PgOutputDecoder::Decode(std::string_view message, uint64_t serial) {
  if (message.empty()) {
    return Cut();
  }
  MessageCursor in(message.substr(1));
  const char type = message.front();
  Status status;
  switch (type) {
    case 'I':
    case 'U':
    case 'D':
      status = DecodeRow(type, in, message.size());
      break;
    case 'R':
      return DecodeRelation(message.substr(1), serial);
    case 'T':
      status = DecodeTruncate(in);
      break;
    case 'M':
      status = DecodeLogicalMessage(in);
      break;
    case 'Y': {  // Type: a name for people
      uint32_t oid = 0;
      std::string_view name;
      status = in.Read(oid) && in.ReadCString(name) && in.ReadCString(name) ? Status::Ok() : Cut();
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

Status PgOutputDecoder::DecodeRelation(std::string_view body, uint64_t serial) {
  Relation relation{.serial = serial};
  MR_ASSIGN_OR_RETURN(relation.message, ParseRelationMessage(body));
  const uint32_t oid = relation.message.oid;
  last_relation_ = nullptr;
  open_relations_.insert_or_assign(oid, std::move(relation));
  const uint32_t before = std::exchange(described_, oid);
  if (filter_ != Filter::kNothing) {
    MR_ASSIGN_OR_RETURN(const bool is_other, resolver_.SeePartition(before, oid));
    if (is_other) {
      ForgetResolutions();
    }
  }
  return Status::Ok();
}

void PgOutputDecoder::ForgetResolutions() {
  last_relation_ = nullptr;
  for (auto* relations : {&relations_, &open_relations_}) {
    for (auto& [oid, relation] : *relations) {
      relation.is_resolved = false;
    }
  }
}

Status PgOutputDecoder::ResolveRelation(Relation& relation) {
  MR_ASSIGN_OR_RETURN(relation.rows, resolver_.Resolve(relation.message, open_.xid));
  relation.is_resolved = true;
  has_transient_ = has_transient_ || relation.rows.is_transient;
  relation.parsers.clear();
  if (relation.rows.table == nullptr) {
    return Status::Ok();
  }
  // What was resolved before is of an earlier version now.
  for (auto* relations : {&relations_, &open_relations_}) {
    for (auto& [oid, other] : *relations) {
      other.is_resolved = other.is_resolved && (other.rows.number != relation.rows.number ||
                                                other.rows.table == relation.rows.table);
    }
  }
  const Table& table = *relation.rows.table->table;
  const Schema& schema = *table.columns;
  relation.is_lookup = lookups_.contains(table.FullName());
  relation.is_key.assign(schema.size(), false);
  relation.names_row.assign(schema.size(), false);
  for (size_t i = 0; i < relation.rows.places.size(); ++i) {
    const uint32_t place = relation.rows.places[i];
    relation.parsers.push_back(ValueParserFor(schema[place].type));
    relation.is_key[place] = relation.message.columns[i].is_key;
  }
  for (const uint32_t place : relation.rows.table->row_key()) {
    relation.names_row[place] = true;
  }
  return Status::Ok();
}

const PgOutputDecoder::Relation* PgOutputDecoder::FindRelation(MessageCursor& in, Status& error) {
  uint32_t oid = 0;
  if (!in.Read(oid)) [[unlikely]] {
    error = Cut();
    return nullptr;
  }
  if (last_relation_ != nullptr && oid == last_oid_) [[likely]] {
    return last_relation_;
  }
  auto found = open_relations_.find(oid);
  if (found == open_relations_.end()) {
    found = relations_.find(oid);
    if (found == relations_.end()) {
      error = Corruption(fmt::format("a row change of relation {}, which was not described", oid));
      return nullptr;
    }
  }
  if (filter_ == Filter::kNothing) {
    return &found->second;  // an earlier version of the table, which is of no interest
  }
  if (!found->second.is_resolved) {
    error = ResolveRelation(found->second);
    if (!error.ok()) {
      return nullptr;
    }
  }
  last_oid_ = oid;
  last_relation_ = &found->second;
  return last_relation_;
}

TableChanges& PgOutputDecoder::ChangesOf(const Relation& relation) {
  int& index = batch_table_[relation.rows.number];
  const TablePtr& table = relation.rows.table->table;
  if (index < 0) {
    index = static_cast<int>(batch_->tables.size());
    batch_->tables.emplace_back(table);
  }
  TableChanges& changes = batch_->tables[static_cast<size_t>(index)];
  if (changes.table != table) [[unlikely]] {
    Evolve(changes, table);
  }
  return changes;
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

Status PgOutputDecoder::ReadValue(MessageCursor& in, const Relation& relation, TupleKind kind,
                                  size_t column, Column& to) {
  uint32_t length = 0;
  std::string_view text;
  if (!in.Read(length) || !in.ReadBytes(length, text)) [[unlikely]] {
    return Cut();
  }
  const ValueError* error = relation.parsers[column](text, to);
  return error == nullptr ? Status::Ok() : BadValue(relation, kind, column, *error);
}

Status PgOutputDecoder::BadValue(const Relation& relation, TupleKind kind, size_t column,
                                 const ValueError& error) {
  return Status(error.code,
                fmt::format("table {}, column '{}'{}: {}", relation.rows.table->table->FullName(),
                            relation.message.columns[column].name,
                            kind == TupleKind::kNew ? "" : " (old row)", error.reason));
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

Status PgOutputDecoder::ReadTuple(MessageCursor& in, const Relation& relation, TupleKind kind,
                                  TupleKind old_kind, uint32_t old_row, TableChanges& changes) {
  RowBatch& rows = kind == TupleKind::kNew ? changes.new_rows : changes.old_rows;
  const auto row = static_cast<uint32_t>(rows.row_count());
  // The text may be longer than the row: that of bytes has two characters for each.
  const bool may_be_too_large = in.remaining() > kRowBytesMax;
  uint16_t count = 0;
  if (!in.Read(count)) [[unlikely]] {
    return Cut();
  }
  if (count != relation.rows.places.size()) [[unlikely]] {
    return Corruption(fmt::format("table {}: a row of {} columns, described with {}",
                                  changes.table->FullName(), count, relation.rows.places.size()));
  }
  size_t bytes = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t place = relation.rows.places[i];
    char state = 0;
    if (!in.Read(state)) [[unlikely]] {
      return Cut();
    }
    if (state == 't') [[likely]] {
      MR_RETURN_IF_ERROR(ReadValue(in, relation, kind, i, rows.column(place)));
      if (may_be_too_large && (bytes += ValueBytes(rows.column(place), row)) > kRowBytesMax)
          [[unlikely]] {
        return BadValue(relation, kind, i, kRowTooLarge);
      }
    } else if (state == 'n') {
      MR_RETURN_IF_ERROR(ReadNull(relation, kind, place, changes));
    } else if (state == 'u' && kind == TupleKind::kNew) {
      if (!ReadUnchanged(relation, old_kind, old_row, place, changes)) {
        rows.column(place).AppendNull();
        changes.unchanged_toast.push_back({row, place});
      }
    } else {
      return Corruption(fmt::format("table {}: a value of unknown form {:#04x}",
                                    changes.table->FullName(), static_cast<uint8_t>(state)));
    }
  }
  for (const uint32_t place : relation.rows.absent) {
    AppendFill(changes.table->fill.get(), place, 1, rows.column(place));
  }
  return Status::Ok();
}

Status PgOutputDecoder::ReadNull(const Relation& relation, TupleKind kind, uint32_t place,
                                 TableChanges& changes) {
  if (kind != TupleKind::kNew) {
    if (relation.names_row[place]) [[unlikely]] {
      return FailedPrecondition(fmt::format(
          "table {}: an old row came without key column '{}': a partition with another replica "
          "identity than the table's, or a row older than the column; give the partition REPLICA "
          "IDENTITY DEFAULT or FULL, and set the pipeline up again",
          changes.table->FullName(), (*changes.table->columns)[place].name));
    }
    changes.old_rows.column(place).AppendNull();
    return Status::Ok();
  }
  if (!(*changes.table->columns)[place].nullable) [[unlikely]] {
    const std::vector<uint32_t>& key = changes.table->primary_key;
    if (std::find(key.begin(), key.end(), place) != key.end()) {
      return Corruption(
          fmt::format("table {}: a row with a NULL in its primary key", changes.table->FullName()));
    }
    Evolve(changes, resolver_.AllowNull(relation.rows.number, place)->table);
    // The relation is of the earlier version: the next row looks at it anew.
    ForgetResolutions();
  }
  changes.new_rows.column(place).AppendNull();
  return Status::Ok();
}

Status PgOutputDecoder::DecodeRow(char type, MessageCursor& in, size_t size) {
  Status error;
  const Relation* relation = FindRelation(in, error);
  if (relation == nullptr) [[unlikely]] {
    return error;
  }
  if (!Keeps(*relation)) {
    in = MessageCursor({});
    SkipChange(*relation);
    return Status::Ok();
  }
  switch (type) {
    case 'I':
      return DecodeInsert(in, *relation, size);
    case 'U':
      return DecodeUpdate(in, *relation, size);
    default:
      return DecodeDelete(in, *relation, size);
  }
}

Status PgOutputDecoder::DecodeInsert(MessageCursor& in, const Relation& relation, size_t size) {
  char marker = 0;
  if (!in.Read(marker)) [[unlikely]] {
    return Cut();
  }
  if (marker != 'N') [[unlikely]] {
    return Corruption("an Insert message without a new row");
  }
  TableChanges& changes = ChangesOf(relation);
  const auto row = static_cast<uint32_t>(changes.new_rows.row_count());
  MR_RETURN_IF_ERROR(ReadTuple(in, relation, TupleKind::kNew, TupleKind::kNew, kNoRow, changes));
  MR_RETURN_IF_ERROR(CheckRowSize(*changes.table, changes.new_rows, row, size));
  AddChange(changes, ChangeOp::kInsert, row, kNoRow, size);
  return Status::Ok();
}

Status PgOutputDecoder::DecodeUpdate(MessageCursor& in, const Relation& relation, size_t size) {
  char marker = 0;
  if (!in.Read(marker)) [[unlikely]] {
    return Cut();
  }
  TableChanges& changes = ChangesOf(relation);
  const auto row = static_cast<uint32_t>(changes.new_rows.row_count());
  uint32_t old_row = kNoRow;
  TupleKind old_kind = TupleKind::kOldKey;
  if (marker == 'K' || marker == 'O') {
    old_kind = marker == 'K' ? TupleKind::kOldKey : TupleKind::kOldFull;
    old_row = static_cast<uint32_t>(changes.old_rows.row_count());
    MR_RETURN_IF_ERROR(ReadTuple(in, relation, old_kind, old_kind, kNoRow, changes));
    if (!in.Read(marker)) [[unlikely]] {
      return Cut();
    }
  }
  if (marker != 'N') [[unlikely]] {
    return Corruption("an Update message without a new row");
  }
  MR_RETURN_IF_ERROR(ReadTuple(in, relation, TupleKind::kNew, old_kind, old_row, changes));
  MR_RETURN_IF_ERROR(CheckRowSize(*changes.table, changes.new_rows, row, size));
  if (old_row != kNoRow && old_kind == TupleKind::kOldKey) {
    // A key that is stored out of line is sent even where it did not change.
    bool is_same_key = true;
    for (size_t i = 0; i < relation.is_key.size() && is_same_key; ++i) {
      is_same_key = !relation.is_key[i] ||
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

Status PgOutputDecoder::DecodeDelete(MessageCursor& in, const Relation& relation, size_t size) {
  char marker = 0;
  if (!in.Read(marker)) [[unlikely]] {
    return Cut();
  }
  if (marker != 'K' && marker != 'O') [[unlikely]] {
    return Corruption("a Delete message without an old row");
  }
  const TupleKind kind = marker == 'K' ? TupleKind::kOldKey : TupleKind::kOldFull;
  TableChanges& changes = ChangesOf(relation);
  const auto row = static_cast<uint32_t>(changes.old_rows.row_count());
  MR_RETURN_IF_ERROR(ReadTuple(in, relation, kind, kind, kNoRow, changes));
  AddChange(changes, ChangeOp::kDelete, kNoRow, row, size);
  return Status::Ok();
}

Status PgOutputDecoder::DecodeTruncate(MessageCursor& in) {
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
    if (!Keeps(*relation)) {
      SkipChange(*relation);
    } else {
      resolver_.Truncated(relation->rows.number, open_.xid);
      AddChange(ChangesOf(*relation), ChangeOp::kTruncate, kNoRow, kNoRow, sizeof(uint32_t));
    }
  }
  return Status::Ok();
}

Status PgOutputDecoder::DecodeLogicalMessage(MessageCursor& in) {
  LogicalMessage message;
  if (!ReadLogicalMessage(in, message)) {
    return Cut();
  }
  has_heartbeat_ |= IsHeartbeat(message);
  if (message.prefix == kDdlPrefix && filter_ != Filter::kNothing &&
      resolver_.TakeCommand(message.content)) {
    ForgetResolutions();
  }
  return Status::Ok();
}

bool ReadLogicalMessage(MessageCursor& in, LogicalMessage& message) {
  uint8_t flags = 0;
  Lsn lsn;
  uint32_t length = 0;
  if (!in.Read(flags) || !in.ReadLsn(lsn) || !in.ReadCString(message.prefix) || !in.Read(length) ||
      !in.ReadBytes(length, message.content)) {
    return false;
  }
  message.is_transactional = (flags & 1) != 0;
  return true;
}

}  // namespace millrace::sources::postgres
