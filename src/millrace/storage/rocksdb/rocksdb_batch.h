// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
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
// that cannot be encoded fails the commit.
class RocksDbBatch final : public StoreBatch {
 public:
  // Outputs begin at `log_end`. `database` outlives the batch.
  RocksDbBatch(Database& database, LogPoint log_end, RecordCompression compression);

  void PutState(StateTableId table, std::string_view key, std::string_view row) override;
  void DeleteState(StateTableId table, std::string_view key) override;
  void ClearState(StateTableId table) override;
  void AppendOutput(const OutputRecord& record) override;
  void SetPosition(SourcePosition position) override;
  void SetNote(const SourceNote& note) override;

  // For Commit(). The first failure of an append.
  const Status& status() const { return status_; }
  // Adds what goes to the meta family.
  void Finish();
  rocksdb::WriteBatch& write_batch() { return batch_; }
  LogPoint log_begin() const { return log_begin_; }
  LogPoint log_end() const { return log_end_; }
  const std::vector<OutputRecord>& records() const { return records_; }

 private:
  // Latches a failure of the batch itself: it has outgrown RocksDB's limit.
  void Check(const rocksdb::Status& status);

  Database& database_;
  const RecordCompression compression_;
  const LogPoint log_begin_;
  LogPoint log_end_;
  rocksdb::WriteBatch batch_;
  std::optional<SourcePosition> position_;
  std::vector<OutputRecord> records_;
  RecordScratch scratch_;
  Buffer encoded_;
  Status status_;
};

}  // namespace millrace::storage
