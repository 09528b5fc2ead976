// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/record_cache.h"

namespace millrace::storage {

namespace {

uint64_t BytesOf(const OutputRecord& record) {
  uint64_t bytes = sizeof(OutputRecord);
  for (const OutputBatchPtr& batch : record.batches) {
    bytes += sizeof(OutputBatch) + batch->rows.byte_size() +
             batch->rows.column_count() * sizeof(Column) +
             batch->transactions.size() * sizeof(Transaction) +
             batch->row_count() * (sizeof(OutputOp) + sizeof(uint32_t) + sizeof(uint64_t));
  }
  return bytes;
}

}  // namespace

std::optional<OutputRecord> RecordCache::Find(Offset offset) {
  const MutexLock lock(mu_);
  auto at = by_first_.upper_bound(offset);
  if (at == by_first_.begin()) {
    return std::nullopt;
  }
  --at;
  if (at->second->record.end <= offset) {
    return std::nullopt;
  }
  entries_.splice(entries_.begin(), entries_, at->second);
  return at->second->record;
}

void RecordCache::Insert(const OutputRecord& record) {
  const uint64_t bytes = BytesOf(record);
  if (bytes > bytes_max_ || record.first == record.end) {
    return;
  }
  const MutexLock lock(mu_);
  if (by_first_.contains(record.first)) {
    return;
  }
  while (bytes_ + bytes > bytes_max_) {
    Erase(by_first_.find(entries_.back().record.first));
  }
  entries_.push_front({record, bytes});
  by_first_.emplace(record.first, entries_.begin());
  bytes_ += bytes;
}

void RecordCache::DropBefore(Offset offset) {
  const MutexLock lock(mu_);
  while (!by_first_.empty() && by_first_.begin()->second->record.end <= offset) {
    Erase(by_first_.begin());
  }
}

uint64_t RecordCache::byte_size() const {
  const MutexLock lock(mu_);
  return bytes_;
}

void RecordCache::Erase(std::map<Offset, Entries::iterator>::iterator at) {
  bytes_ -= at->second->bytes;
  entries_.erase(at->second);
  by_first_.erase(at);
}

}  // namespace millrace::storage
