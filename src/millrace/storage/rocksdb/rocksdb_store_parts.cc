// SPDX-License-Identifier: Apache-2.0
//
// Transactions that are committed in parts, and state as it is while one is open; see
// docs/formats/data_dir.md.

#include <algorithm>
#include <numeric>
#include <utility>

#include <rocksdb/convenience.h>

#include "millrace/storage/rocksdb/rocksdb_store_impl.h"

namespace millrace::storage {

namespace {

constexpr size_t kMultiGetKeys = 256;
// A piece of a merge: bounds its memory.
constexpr size_t kMergeBytes = size_t{1} << 20;

constexpr std::string_view kMerge = "merge the state of a large transaction";
constexpr std::string_view kDrop = "drop the parts of a large transaction";

StateTableId StoredTable(StateTableId table) { return StateTableId(table.value() % kReplayTables); }

// The rows of one table in one family, in key order.
class TableScan {
 public:
  TableScan(Database& database, rocksdb::ColumnFamilyHandle* family, StateTableId table)
      : end_(StateKeyPrefix(table.value() + 1)), bound_(end_) {
    rocksdb::ReadOptions options;
    options.iterate_upper_bound = &bound_;
    options.fill_cache = false;
    at_.reset(database.db().NewIterator(options, family));
    at_->Seek(StateKeyPrefix(table.value()));
  }
  bool Valid() const { return at_->Valid(); }
  void Next() { at_->Next(); }
  std::string_view key() const { return ToView(at_->key()).substr(kStateKeyPrefix); }
  std::string_view value() const { return ToView(at_->value()); }
  rocksdb::Status status() const { return at_->status(); }

 private:
  const std::string end_;
  const rocksdb::Slice bound_;
  std::unique_ptr<rocksdb::Iterator> at_;
};

// The rows of a table over both families: pending goes before stored. Either may be null.
class MergedScan final : public StateCursor {
 public:
  MergedScan(Database& database, std::unique_ptr<TableScan> pending,
             std::unique_ptr<TableScan> stored)
      : database_(database), pending_(std::move(pending)), stored_(std::move(stored)) {
    SkipDeleted();
  }

  bool Valid() const override { return status_.ok() && (More(pending_) || More(stored_)); }
  void Next() override {
    Advance();
    SkipDeleted();
  }
  std::string_view key() const override { return AtPending() ? pending_->key() : stored_->key(); }
  std::string_view row() const override { return AtPending() ? row_ : stored_->value(); }
  Status status() const override {
    MR_RETURN_IF_ERROR(status_);
    for (const std::unique_ptr<TableScan>& scan : {std::cref(pending_), std::cref(stored_)}) {
      if (scan != nullptr) {
        MR_RETURN_IF_ERROR(database_.ToStatus(scan->status(), "read state rows"));
      }
    }
    return Status::Ok();
  }

 private:
  static bool More(const std::unique_ptr<TableScan>& scan) {
    return scan != nullptr && scan->Valid();
  }
  bool AtPending() const {
    return More(pending_) && (!More(stored_) || pending_->key() <= stored_->key());
  }
  void Advance() {
    if (!AtPending()) {
      stored_->Next();
      return;
    }
    if (More(stored_) && stored_->key() == pending_->key()) {
      stored_->Next();
    }
    pending_->Next();
  }
  void SkipDeleted() {
    while (status_.ok() && AtPending()) {
      const Result<std::optional<std::string_view>> row = DecodePending(pending_->value());
      if (!row.ok()) {
        status_ = database_.ToStatus(rocksdb::Status::Corruption(row.status().message()),
                                     "read state rows");
      } else if (row->has_value()) {
        row_ = **row;
        return;
      } else {
        Advance();
      }
    }
  }

  Database& database_;
  std::unique_ptr<TableScan> pending_;
  std::unique_ptr<TableScan> stored_;
  std::string_view row_;  // of pending_
  Status status_;
};

}  // namespace

// ---- State ----

RocksDbStore::PendingView RocksDbStore::PendingViewOf(StateTableId table) const {
  const MutexLock lock(mu_);
  return {parts_.phase != PartsPhase::kNone, cleared_.contains(table.value())};
}

Status RocksDbStore::MultiGet(rocksdb::ColumnFamilyHandle* family, StateTableId table,
                              std::span<const std::string> keys, std::span<const size_t> wanted,
                              const std::function<Status(size_t, std::string_view)>& row) {
  std::string bytes;  // the prefixed keys of one group, one behind the other
  std::vector<rocksdb::Slice> slices;
  std::vector<rocksdb::PinnableSlice> values(std::min(wanted.size(), kMultiGetKeys));
  std::vector<rocksdb::Status> statuses(values.size());
  for (size_t begin = 0; begin < wanted.size(); begin += kMultiGetKeys) {
    const size_t n = std::min(kMultiGetKeys, wanted.size() - begin);
    bytes.clear();
    for (size_t i = 0; i < n; ++i) {
      AppendStateKeyPrefix(bytes, table.value());
      bytes.append(keys[wanted[begin + i]]);
    }
    slices.clear();
    for (size_t i = 0, at = 0; i < n; ++i) {
      slices.emplace_back(bytes.data() + at, kStateKeyPrefix + keys[wanted[begin + i]].size());
      at += slices.back().size();
    }
    database_->db().MultiGet(rocksdb::ReadOptions(), family, n, slices.data(), values.data(),
                             statuses.data());
    for (size_t i = 0; i < n; ++i) {
      if (statuses[i].ok()) {
        MR_RETURN_IF_ERROR(row(wanted[begin + i], ToView(values[i])));
      } else if (!statuses[i].IsNotFound()) {
        return database_->ToStatus(statuses[i], "read state rows");
      }
      values[i].Reset();
    }
  }
  return Status::Ok();
}

Result<std::vector<std::optional<std::string>>> RocksDbStore::GetState(
    StateTableId table, std::span<const std::string> keys) {
  std::vector<std::optional<std::string>> rows(keys.size());
  std::vector<size_t> wanted(keys.size());
  std::iota(wanted.begin(), wanted.end(), 0);
  const PendingView view = PendingViewOf(table);
  if (view.has_rows) {
    std::vector<bool> found(keys.size());
    MR_RETURN_IF_ERROR(MultiGet(
        database_->pending(), table, keys, wanted, [&](size_t i, std::string_view value) -> Status {
          const Result<std::optional<std::string_view>> row = DecodePending(value);
          if (!row.ok()) {
            return Explain(row.status(), "read state rows");
          }
          found[i] = true;
          if (row->has_value()) {
            rows[i].emplace(**row);
          }
          return Status::Ok();
        }));
    std::erase_if(wanted, [&](size_t i) { return found[i] || view.is_all; });
  }
  MR_RETURN_IF_ERROR(MultiGet(database_->state(), StoredTable(table), keys, wanted,
                              [&](size_t i, std::string_view value) {
                                rows[i].emplace(value);
                                return Status::Ok();
                              }));
  return rows;
}

std::unique_ptr<StateCursor> RocksDbStore::ScanState(StateTableId table) {
  const PendingView view = PendingViewOf(table);
  std::unique_ptr<TableScan> pending;
  std::unique_ptr<TableScan> stored;
  if (view.has_rows) {
    pending = std::make_unique<TableScan>(*database_, database_->pending(), table);
  }
  if (!view.is_all) {
    stored = std::make_unique<TableScan>(*database_, database_->state(), StoredTable(table));
  }
  return std::make_unique<MergedScan>(*database_, std::move(pending), std::move(stored));
}

uint64_t RocksDbStore::ApproximateStateBytes(StateTableId table) {
  const std::string begin = StateKeyPrefix(table.value());
  const std::string end = StateKeyPrefix(table.value() + 1);
  const rocksdb::Range range(begin, end);
  rocksdb::SizeApproximationOptions options;
  options.include_memtables = true;
  uint64_t all = 0;
  for (rocksdb::ColumnFamilyHandle* family : {database_->state(), database_->pending()}) {
    uint64_t bytes = 0;
    const rocksdb::Status status =
        database_->db().GetApproximateSizes(options, family, &range, /*num_ranges=*/1, &bytes);
    all += status.ok() ? bytes : 0;
  }
  return all;
}

// ---- Parts ----

bool RocksDbStore::HasOpenParts() const {
  const MutexLock lock(mu_);
  return parts_.phase == PartsPhase::kOpen;
}

Status RocksDbStore::LoadParts() {
  PartsPhase phase = PartsPhase::kNone;
  {
    const MutexLock lock(mu_);
    phase = parts_.phase;
  }
  return phase == PartsPhase::kSealed ? MergeParts() : DropParts();
}

Status RocksDbStore::DropParts() {
  LogPoint from;
  LogPoint end;
  {
    const MutexLock lock(mu_);
    if (parts_.phase != PartsPhase::kOpen) {
      return Status::Ok();
    }
    from = parts_.outputs_from;
    end = log_end_;
  }
  // Synced: the files below are gone at once, and nothing may refer to them.
  rocksdb::WriteBatch batch;
  rocksdb::Status status = batch.Delete(database_->meta(), ToSlice(kPartsKey));
  const auto add = [&status](const rocksdb::Status& next) { status = status.ok() ? next : status; };
  const std::string output_begin = OutputKey(from.offset);
  const std::string output_end = OutputKey(end.offset);
  add(batch.Put(database_->meta(), ToSlice(kOutputEndKey), EncodeLogPoint(from)));
  add(batch.DeleteRange(database_->pending(), StateKeyPrefix(0), StateKeyPrefix(kTablesEnd)));
  if (from.offset != end.offset) {
    add(batch.DeleteRange(database_->output(), output_begin, output_end));
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(status, kDrop));
  MR_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true, kDrop));
  {
    const MutexLock lock(mu_);
    log_end_ = from;
    parts_ = {};
    cleared_.clear();
  }
  const rocksdb::Slice begin_slice(output_begin);
  const rocksdb::Slice end_slice(output_end);
  status = rocksdb::DeleteFilesInRange(&database_->db(), database_->output(), &begin_slice,
                                       &end_slice, /*include_end=*/false);
  add(rocksdb::DeleteFilesInRange(&database_->db(), database_->pending(), nullptr, nullptr));
  return database_->ToStatus(status, kDrop);
}

Status RocksDbStore::MergeParts() {
  MR_RETURN_IF_ERROR(MergeCleared());
  MR_RETURN_IF_ERROR(MergeRows());
  // Synced: the files below are gone at once, and what was merged out of them must stay.
  rocksdb::WriteBatch batch;
  rocksdb::Status status = batch.Delete(database_->meta(), ToSlice(kPartsKey));
  if (status.ok()) {
    status = batch.DeleteRange(database_->pending(), StateKeyPrefix(0), StateKeyPrefix(kTablesEnd));
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(status, kMerge));
  MR_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true, kMerge));
  {
    const MutexLock lock(mu_);
    parts_ = {};
    cleared_.clear();
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(
      rocksdb::DeleteFilesInRange(&database_->db(), database_->pending(), nullptr, nullptr),
      kMerge));
  return database_->CompactIfLarge(database_->pending());
}

Status RocksDbStore::MergeCleared() {
  rocksdb::WriteBatch batch;
  TableScan at(*database_, database_->pending(), StateTableId(kClearedTables));
  for (; at.Valid(); at.Next()) {
    const Result<uint32_t> table = DecodeClearedTable(at.key());
    if (!table.ok()) {
      return Explain(table.status(), kMerge);
    }
    if (*table < kReplayTables) {
      MR_RETURN_IF_ERROR(database_->ToStatus(
          batch.DeleteRange(database_->state(), StateKeyPrefix(*table), StateKeyPrefix(*table + 1)),
          kMerge));
    }
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(at.status(), kMerge));
  return database_->Write(batch, /*sync=*/false, kMerge);
}

Status RocksDbStore::MergeRows() {
  const std::string end = StateKeyPrefix(kReplayTables);
  const rocksdb::Slice bound(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &bound;
  options.fill_cache = false;
  std::string next = StateKeyPrefix(kClearedTables + 1);
  for (bool more = true; more;) {
    std::unique_ptr<rocksdb::Iterator> at(
        database_->db().NewIterator(options, database_->pending()));
    size_t bytes = 0;
    // Until the end, or until a piece was so large that the iterator is in the way of others.
    for (at->Seek(next); bytes < 2 * kMergeBytes && at->Valid();) {
      rocksdb::WriteBatch batch;
      for (; batch.GetDataSize() < kMergeBytes && at->Valid(); at->Next()) {
        const Result<std::optional<std::string_view>> row = DecodePending(ToView(at->value()));
        if (!row.ok()) {
          return Explain(row.status(), kMerge);
        }
        MR_RETURN_IF_ERROR(database_->ToStatus(
            row->has_value() ? batch.Put(database_->state(), at->key(), ToSlice(**row))
                             : batch.Delete(database_->state(), at->key()),
            kMerge));
        next.assign(at->key().data(), at->key().size());
      }
      MR_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/false, kMerge));
      bytes = batch.GetDataSize();
    }
    MR_RETURN_IF_ERROR(database_->ToStatus(at->status(), kMerge));
    more = at->Valid();
    next.push_back('\0');  // the key behind
    at.reset();
    MR_RETURN_IF_ERROR(database_->FlushAfter(bytes));
  }
  return Status::Ok();
}

}  // namespace millrace::storage
