// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include <rocksdb/write_batch.h>

#include "millrace/common/buffer.h"
#include "millrace/storage/output_record_codec.h"
#include "millrace/storage/rocksdb/database.h"
#include "millrace/storage/rocksdb/meta_codec.h"
#include "millrace/storage/store.h"

namespace millrace::storage {

// Adds a note of the source, or its removal, to `batch`.
rocksdb::Status PutNote(Database& database, const SourceNote& note, rocksdb::WriteBatch& batch);

// A StoreBatch that gathers in a rocksdb::WriteBatch. Records are encoded as they are appended; one
// that cannot be encoded fails the commit. State changes of a part go to the pending family.
class RocksDbBatch final : public StoreBatch {
 public:
  // Outputs begin at `log_end`. `database` outlives the batch.
  RocksDbBatch(Database& database, LogPoint log_end, RecordCompression compression);

  void SetPart(bool is_last) override;
  void PutState(StateTableId table, std::string_view key, std::string_view row) override;
  void DeleteState(StateTableId table, std::string_view key) override;
  void ClearState(StateTableId table) override;
  void AppendOutput(OutputRecord record) override;
  void PutDeadLetter(const DeadLetter& letter) override;
  void SetPosition(SourcePosition position) override;
  void SetNote(const SourceNote& note) override;
  size_t byte_size() const override { return batch_.GetDataSize() + rest_bytes_; }

  // For Commit(). The first failure of an append.
  const Status& status() const { return status_; }
  // Adds what goes to the meta family; for a part, `mark` is where its transaction then stands. And
  // the rest of large records, unless the transaction stays open: then it may be written piece by
  // piece behind the batch, with TakeRest(), and no copy of a large row is held in it.
  void Finish(const PartsMark& mark);
  // The next pieces of large records; null once there are none.
  std::unique_ptr<rocksdb::WriteBatch> TakeRest();
  bool is_part() const { return is_part_; }
  bool is_last_part() const { return is_last_part_; }
  const std::set<uint32_t>& cleared() const { return cleared_; }
  rocksdb::WriteBatch& write_batch() { return batch_; }
  LogPoint log_begin() const { return log_begin_; }
  LogPoint log_end() const { return log_end_; }
  const std::vector<OutputRecord>& records() const { return records_; }

 private:
  // What follows the first piece of a large record.
  struct Rest {
    Offset first;
    Buffer record;
    uint32_t next = 1;  // piece
  };

  // Puts the next piece of `rest` into `to`; false if there is none.
  bool PutPiece(Rest& rest, rocksdb::WriteBatch& to);
  void PutRest();
  // Puts everything gathered so far behind `first`.
  void PutBehind(rocksdb::WriteBatch first);
  void PutClears();
  // Makes room for a value of `bytes`, if that is large, and for what small ones follow: growth by
  // doubling would copy large rows.
  void Reserve(size_t bytes);
  // Latches a failure of the batch itself: it has outgrown RocksDB's limit.
  void Check(const rocksdb::Status& status);

  Database& database_;
  const RecordCompression compression_;
  const LogPoint log_begin_;
  LogPoint log_end_;
  rocksdb::WriteBatch batch_;
  bool is_part_ = false;
  bool is_last_part_ = false;
  std::set<uint32_t> cleared_;  // tables
  std::optional<SourcePosition> position_;
  std::vector<OutputRecord> records_;
  std::deque<Rest> rest_;
  size_t rest_bytes_ = 0;
  RecordScratch scratch_;
  Buffer encoded_;
  Status status_;
};

}  // namespace millrace::storage
