// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "millrace/common/mutex.h"
#include "millrace/storage/rocksdb/database.h"
#include "millrace/storage/rocksdb/meta_codec.h"
#include "millrace/storage/rocksdb/record_cache.h"
#include "millrace/storage/rocksdb/rocksdb_batch.h"
#include "millrace/storage/store.h"

namespace millrace::storage {

// The Store over RocksDB. Made by OpenRocksDbStore(); see rocksdb_store.h.
//
// The end and the beginning of the output log are in memory and in the meta family; memory follows
// a write that succeeded. A record is readable once ReadableEnd() is beyond it.
class RocksDbStore final : public Store {
 public:
  RocksDbStore(std::unique_ptr<Database> database, const OpenOptions& options);

  // Reads what is stored, or writes the beginning of a data_dir that is empty. Called once.
  Status Load();

  std::string_view instance_id() const override { return instance_id_; }
  Result<SourceState> LoadSourceState() override;
  Status BeginSlot(uint64_t system_identifier, uint32_t timeline) override;
  Status BeginStreaming(SourcePosition position, std::span<const SourceNote> notes) override;
  Status FollowServer(uint64_t system_identifier, uint32_t timeline,
                      std::optional<SourcePosition> position,
                      std::span<const SourceNote> notes) override;
  Result<StateTableId> OpenStateTable(std::string_view name) override;
  Result<StreamPtr> OpenStream(const Stream& stream) override;
  StreamPtr FindStream(StreamId id, SchemaVersion version) const override;
  Result<std::vector<std::optional<std::string>>> GetState(
      StateTableId table, std::span<const std::string> keys) override;
  std::unique_ptr<StateCursor> ScanState(StateTableId table) override;
  uint64_t ApproximateStateBytes(StateTableId table) override;
  std::unique_lock<std::mutex> TakeTurn() override { return std::unique_lock(turn_mu_); }
  std::unique_ptr<StoreBatch> NewBatch() override;
  Status Commit(std::unique_ptr<StoreBatch> batch) override;
  bool HasOpenParts() const override;
  Status DropParts() override;
  Offset ReadableEnd() const override;
  Offset AppendEnd() const override;
  Offset LogBegin() const override;
  Result<OutputRecord> ReadOutput(Offset offset) override;
  void WaitForOutput(Offset offset, std::chrono::steady_clock::time_point deadline,
                     std::stop_token stop) override;
  Status TruncateOutput(Offset offset) override;
  uint64_t OutputLogBytes() const override;
  Result<DeliveryState> LoadDelivery(std::string_view sink) override;
  Status SaveDelivery(std::string_view sink, const DeliveryState& state, bool sync) override;
  DeadLetterId NextDeadLetter() override;
  Status ChangeDeadLetters(const DeadLetterChanges& changes) override;
  Result<std::vector<DeadLetter>> ReadDeadLetters(DeadLetterId after, size_t limit) override;
  Result<OutputRecord> ReadDeadLetterRow(DeadLetterId id) override;
  Result<std::vector<LeftOutRow>> ReadLeftOutRows() override;

 private:
  Status CheckFormat();
  Status CreateFormat();
  Status LoadRegistries();
  Status LoadLog();
  Status LoadDeadLetterEnd();
  // At the beginning of the last record that begins at `offset` or before; without an offset, of
  // the newest. At a later piece where a truncation has dropped the beginning.
  Result<std::unique_ptr<rocksdb::Iterator>> SeekRecord(std::optional<Offset> offset,
                                                        std::string_view what);
  // Ends what an earlier run left: merges a sealed transaction in parts, drops an open one.
  Status LoadParts();
  // Puts what the sealed transaction left into state. Merging again what was merged is harmless.
  Status MergeParts();
  Status MergeCleared();
  Status MergeRows();
  // Whether reads of `table` look into the pending family, and whether that has all of its rows.
  struct PendingView {
    bool has_rows = false;
    bool is_all = false;
  };
  PendingView PendingViewOf(StateTableId table) const;
  // Calls `row` with the index and the value of each key that is there.
  Status MultiGet(rocksdb::ColumnFamilyHandle* family, StateTableId table,
                  std::span<const std::string> keys, std::span<const size_t> wanted,
                  const std::function<Status(size_t, std::string_view)>& row);
  // The value of a key of the meta family, decoded; `absent` where there is none.
  template <typename T>
  Result<T> LoadMeta(std::string_view key, Result<T> (*decode)(std::string_view), T absent);
  // Adds "data_dir X: <what>" and the remedy to what a codec says of stored bytes.
  Status Explain(const Status& status, std::string_view what) const;
  // Decodes the value of an output key, which begins with the log's bytes before it.
  Result<OutputRecord> DecodeRecord(rocksdb::Slice value) const;
  Result<OutputRecord> ReadRecord(Offset first, rocksdb::Iterator& at) const;
  Result<OutputRecord> ReadOutputFromDisk(Offset offset, Offset readable_end);
  Offset ReadableEndLocked() const MR_REQUIRES(mu_);

  // Constant after Load().
  const std::unique_ptr<Database> database_;
  const RecordCompression compression_;
  std::string instance_id_;

  mutable RecordCache recent_;

  // Large rows are read or written; taken before the others.
  std::mutex turn_mu_;
  // One writer of each kind at a time; taken before mu_, held over a write.
  Mutex commit_mu_;    // commits
  Mutex registry_mu_;  // state tables and streams
  Mutex truncate_mu_;

  // Guarded by mu_, which is never held over a read or write of RocksDB.
  mutable Mutex mu_;
  CondVar readable_;
  LogPoint log_begin_ MR_GUARDED_BY(mu_);
  LogPoint log_end_ MR_GUARDED_BY(mu_);
  PartsMark parts_ MR_GUARDED_BY(mu_);
  std::set<uint32_t> cleared_ MR_GUARDED_BY(mu_);  // tables of which pending has all rows
  DeadLetterId dead_letter_end_ MR_GUARDED_BY(mu_) = DeadLetterId(1);  // that the next one gets
  std::map<std::string, StateTableId, std::less<>> state_tables_ MR_GUARDED_BY(mu_);
  std::map<std::pair<StreamId, SchemaVersion>, StreamPtr> streams_ MR_GUARDED_BY(mu_);
  std::map<std::string, StreamPtr, std::less<>> newest_streams_ MR_GUARDED_BY(mu_);
};

}  // namespace millrace::storage
