// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/rocksdb_batch.h"

#include <algorithm>
#include <string>
#include <utility>

#include "millrace/common/check.h"
#include "millrace/common/coding.h"

namespace millrace::storage {

namespace {

constexpr size_t kLargeValue = size_t{4} << 20;

// Repeats what one batch holds into another; the state changes through the functions of a
// StoreBatch, so that they find the family where they belong.
class Repeat final : public rocksdb::WriteBatch::Handler {
 public:
  Repeat(Database& database, RocksDbBatch& batch) : database_(database), batch_(batch) {}

  rocksdb::Status PutCF(uint32_t family, const rocksdb::Slice& key,
                        const rocksdb::Slice& value) override {
    if (!IsState(family)) {
      return batch_.write_batch().Put(Family(family), key, value);
    }
    batch_.PutState(TableOf(key), ToView(key).substr(kStateKeyPrefix), ToView(value));
    return rocksdb::Status::OK();
  }
  rocksdb::Status DeleteCF(uint32_t family, const rocksdb::Slice& key) override {
    if (!IsState(family)) {
      return batch_.write_batch().Delete(Family(family), key);
    }
    batch_.DeleteState(TableOf(key), ToView(key).substr(kStateKeyPrefix));
    return rocksdb::Status::OK();
  }

 private:
  bool IsState(uint32_t family) { return family == database_.state()->GetID(); }
  static StateTableId TableOf(const rocksdb::Slice& key) {
    return StateTableId(LoadBigEndian<uint32_t>(key.data()));
  }
  rocksdb::ColumnFamilyHandle* Family(uint32_t id) {
    for (rocksdb::ColumnFamilyHandle* family : {database_.meta(), database_.pending()}) {
      if (id == family->GetID()) {
        return family;
      }
    }
    return database_.output();
  }

  Database& database_;
  RocksDbBatch& batch_;
};

// The four bytes in front of a state table's keys.
struct StatePrefix {
  explicit StatePrefix(uint32_t table) { AppendStateKeyPrefix(bytes, table); }
  std::string bytes;  // fits without an allocation
};

}  // namespace

rocksdb::Status PutNote(Database& database, const SourceNote& note, rocksdb::WriteBatch& batch) {
  const std::string key = std::string(kNotePrefix) + note.name;
  return note.text ? batch.Put(database.meta(), key, *note.text)
                   : batch.Delete(database.meta(), key);
}

RocksDbBatch::RocksDbBatch(Database& database, LogPoint log_end, RecordCompression compression)
    : database_(database), compression_(compression), log_begin_(log_end), log_end_(log_end) {}

void RocksDbBatch::SetPart(bool is_last) {
  is_last_part_ = is_last;
  if (!is_part_) {
    is_part_ = true;
    PutBehind(rocksdb::WriteBatch());
  }
}

void RocksDbBatch::PutBehind(rocksdb::WriteBatch first) {
  std::swap(first, batch_);
  if (first.Count() != 0) {
    Repeat repeat(database_, *this);
    Check(first.Iterate(&repeat));
  }
}

void RocksDbBatch::Reserve(size_t bytes) {
  if (bytes < kLargeValue) [[likely]] {
    return;
  }
  std::string grown;
  grown.reserve(batch_.GetDataSize() + bytes + kLargeValue);
  grown.append(batch_.Data());
  batch_ = rocksdb::WriteBatch(std::move(grown));
}

void RocksDbBatch::PutState(StateTableId table, std::string_view key, std::string_view row) {
  Reserve(row.size());
  const StatePrefix prefix(table.value());
  const rocksdb::Slice key_parts[] = {prefix.bytes, ToSlice(key)};
  const rocksdb::Slice row_parts[] = {{&kPendingRow, 1}, ToSlice(row)};
  Check(is_part_ ? batch_.Put(database_.pending(), rocksdb::SliceParts(key_parts, 2),
                              rocksdb::SliceParts(row_parts, 2))
                 : batch_.Put(database_.state(), rocksdb::SliceParts(key_parts, 2),
                              rocksdb::SliceParts(row_parts + 1, 1)));
}

void RocksDbBatch::DeleteState(StateTableId table, std::string_view key) {
  const StatePrefix prefix(table.value());
  const rocksdb::Slice key_parts[] = {prefix.bytes, ToSlice(key)};
  const rocksdb::Slice deleted(&kPendingDeleted, 1);
  Check(is_part_ ? batch_.Put(database_.pending(), rocksdb::SliceParts(key_parts, 2),
                              rocksdb::SliceParts(&deleted, 1))
                 : batch_.Delete(database_.state(), rocksdb::SliceParts(key_parts, 2)));
}

void RocksDbBatch::ClearState(StateTableId table) { cleared_.insert(table.value()); }

// The rows are dropped in front of everything else in the batch: those that it puts stay, whether
// they were put before or after ClearState().
void RocksDbBatch::PutClears() {
  rocksdb::WriteBatch clears;
  for (const uint32_t table : cleared_) {
    Check(clears.DeleteRange(is_part_ ? database_.pending() : database_.state(),
                             StateKeyPrefix(table), StateKeyPrefix(table + 1)));
    if (is_part_) {
      Check(clears.Put(database_.pending(), ClearedKey(table), ""));
    }
  }
  PutBehind(std::move(clears));
}

void RocksDbBatch::AppendOutput(OutputRecord record) {
  MR_CHECK(record.first == log_end_.offset);
  log_end_.offset = record.end;
  if (!status_.ok() || record.first == record.end) {
    return;
  }
  encoded_.Clear();
  status_ = EncodeOutputRecord(record, compression_, scratch_, encoded_);
  if (!status_.ok()) {
    return;
  }
  const Offset first = record.first;
  const std::string key = OutputKey(first);
  const bool is_large = encoded_.size() > kRecordScratchKept;
  if (!is_part_ && !is_large) {
    records_.push_back(std::move(record));
  } else {
    record.batches.clear();  // the rows of a large record make room for its next copy
  }
  const size_t in_batch = is_large ? kOutputPiece : encoded_.size();
  Reserve(in_batch);
  const rocksdb::Slice key_part(key);
  const rocksdb::Slice value_parts[] = {
      {reinterpret_cast<const char*>(&log_end_.bytes), sizeof(log_end_.bytes)},
      {encoded_.data(), in_batch}};
  Check(batch_.Put(database_.output(), rocksdb::SliceParts(&key_part, 1),
                   rocksdb::SliceParts(value_parts, 2)));
  log_end_.bytes += sizeof(log_end_.bytes) + encoded_.size();
  if (is_large) {
    rest_bytes_ += encoded_.size() - kOutputPiece;
    rest_.push_back({.first = first, .record = std::exchange(encoded_, Buffer())});
  } else if (encoded_.capacity() > kRecordScratchKept) {
    encoded_ = Buffer();
  }
}

bool RocksDbBatch::PutPiece(Rest& rest, rocksdb::WriteBatch& to) {
  const size_t begin = rest.next * kOutputPiece;
  if (begin >= rest.record.size()) {
    return false;
  }
  const std::string key = OutputKey(rest.first, rest.next++);
  const size_t size = std::min(kOutputPiece, rest.record.size() - begin);
  Check(to.Put(database_.output(), key, {rest.record.data() + begin, size}));
  return true;
}

void RocksDbBatch::PutRest() {
  Reserve(rest_bytes_);
  rest_bytes_ = 0;
  for (; !rest_.empty(); rest_.pop_front()) {
    while (PutPiece(rest_.front(), batch_)) {
    }
  }
}

std::unique_ptr<rocksdb::WriteBatch> RocksDbBatch::TakeRest() {
  auto pieces = std::make_unique<rocksdb::WriteBatch>();
  while (!rest_.empty() && pieces->GetDataSize() < kLargeValue) {
    if (!PutPiece(rest_.front(), *pieces)) {
      rest_.pop_front();
    }
  }
  return pieces->Count() == 0 ? nullptr : std::move(pieces);
}

void RocksDbBatch::PutDeadLetter(const DeadLetter& letter) {
  MR_CHECK(!is_part_);
  Check(batch_.Put(database_.dead_letter(), DeadLetterKey(kLetterPrefix, letter.id.value()),
                   EncodeDeadLetter(letter)));
}

void RocksDbBatch::SetPosition(SourcePosition position) { position_ = position; }

void RocksDbBatch::SetNote(const SourceNote& note) { Check(PutNote(database_, note, batch_)); }

void RocksDbBatch::Finish(const PartsMark& mark) {
  if (mark.phase != PartsPhase::kOpen) {
    PutRest();
  }
  if (!cleared_.empty()) {
    PutClears();
  }
  if (is_part_) {
    Check(batch_.Put(database_.meta(), ToSlice(kPartsKey), EncodePartsMark(mark)));
  }
  if (is_last_part_) {
    Check(batch_.DeleteRange(database_.pending(), StateKeyPrefix(kReplayTables),
                             StateKeyPrefix(kTablesEnd)));
  }
  if (position_.has_value()) {
    Check(batch_.Put(database_.meta(), ToSlice(kPositionKey), EncodePosition(*position_)));
  }
  if (log_end_.offset != log_begin_.offset) {
    Check(batch_.Put(database_.meta(), ToSlice(kOutputEndKey), EncodeLogPoint(log_end_)));
  }
}

void RocksDbBatch::Check(const rocksdb::Status& status) {
  if (status_.ok()) {
    status_ = database_.ToStatus(status, "gather a micro-batch");
  }
}

}  // namespace millrace::storage
