// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/rocksdb_batch.h"

#include <string>
#include <utility>

#include "millrace/common/check.h"

namespace millrace::storage {

namespace {

// Repeats state changes and outputs into another batch.
class Repeat final : public rocksdb::WriteBatch::Handler {
 public:
  Repeat(Database& database, rocksdb::WriteBatch& to) : database_(database), to_(to) {}

  rocksdb::Status PutCF(uint32_t family, const rocksdb::Slice& key,
                        const rocksdb::Slice& value) override {
    return to_.Put(Family(family), key, value);
  }
  rocksdb::Status DeleteCF(uint32_t family, const rocksdb::Slice& key) override {
    return to_.Delete(Family(family), key);
  }
  rocksdb::Status DeleteRangeCF(uint32_t family, const rocksdb::Slice& begin,
                                const rocksdb::Slice& end) override {
    return to_.DeleteRange(Family(family), begin, end);
  }

 private:
  rocksdb::ColumnFamilyHandle* Family(uint32_t id) {
    if (id == database_.meta()->GetID()) {
      return database_.meta();
    }
    return id == database_.state()->GetID() ? database_.state() : database_.output();
  }

  Database& database_;
  rocksdb::WriteBatch& to_;
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

void RocksDbBatch::PutState(StateTableId table, std::string_view key, std::string_view row) {
  const StatePrefix prefix(table.value());
  const rocksdb::Slice key_parts[] = {prefix.bytes, ToSlice(key)};
  const rocksdb::Slice row_part(row.data(), row.size());
  Check(batch_.Put(database_.state(), rocksdb::SliceParts(key_parts, 2),
                   rocksdb::SliceParts(&row_part, 1)));
}

void RocksDbBatch::DeleteState(StateTableId table, std::string_view key) {
  const StatePrefix prefix(table.value());
  const rocksdb::Slice key_parts[] = {prefix.bytes, ToSlice(key)};
  Check(batch_.Delete(database_.state(), rocksdb::SliceParts(key_parts, 2)));
}

void RocksDbBatch::ClearState(StateTableId table) {
  // The range is dropped in front of everything else in the batch: rows that the batch puts stay,
  // whether they were put before or after this call.
  rocksdb::WriteBatch before;
  std::swap(before, batch_);
  const StatePrefix begin(table.value());
  const StatePrefix end(table.value() + 1);
  Check(batch_.DeleteRange(database_.state(), begin.bytes, end.bytes));
  if (before.Count() != 0) {
    Repeat repeat(database_, batch_);
    Check(before.Iterate(&repeat));
  }
}

void RocksDbBatch::AppendOutput(const OutputRecord& record) {
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
  const std::string key = OutputKey(record.first);
  const rocksdb::Slice key_part(key);
  const rocksdb::Slice value_parts[] = {
      {reinterpret_cast<const char*>(&log_end_.bytes), sizeof(log_end_.bytes)},
      {encoded_.data(), encoded_.size()}};
  Check(batch_.Put(database_.output(), rocksdb::SliceParts(&key_part, 1),
                   rocksdb::SliceParts(value_parts, 2)));
  log_end_.bytes += sizeof(log_end_.bytes) + encoded_.size();
  records_.push_back(record);
}

void RocksDbBatch::SetPosition(SourcePosition position) { position_ = position; }

void RocksDbBatch::SetNote(const SourceNote& note) { Check(PutNote(database_, note, batch_)); }

void RocksDbBatch::Finish() {
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
