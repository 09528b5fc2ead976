// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <rocksdb/db.h>

#include "millrace/common/result.h"
#include "millrace/storage/rocksdb/rocksdb_status.h"
#include "millrace/storage/rocksdb/rocksdb_store.h"

namespace millrace::storage {

inline rocksdb::Slice ToSlice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
inline std::string_view ToView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

// An open RocksDB with the column families of docs/formats/data_dir.md.
//
// Threads: any. Every write goes through Write(), which latches failures.
class Database {
 public:
  // Makes or checks the directory, takes RocksDB's lock, opens. Does not look at the format.
  static Result<std::unique_ptr<Database>> Open(const OpenOptions& options);
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  rocksdb::DB& db() { return *db_; }
  rocksdb::ColumnFamilyHandle* meta() { return meta_; }
  rocksdb::ColumnFamilyHandle* state() { return state_; }
  rocksdb::ColumnFamilyHandle* pending() { return pending_; }
  rocksdb::ColumnFamilyHandle* output() { return output_; }
  rocksdb::ColumnFamilyHandle* delivery() { return delivery_; }
  rocksdb::ColumnFamilyHandle* dead_letter() { return dead_letter_; }
  // A column family that this version does not know; empty if there is none.
  const std::string& unknown_family() const { return unknown_family_; }
  const std::string& data_dir() const { return data_dir_; }

  // Applies `batch` atomically; with `sync` it is durable when the call returns. After a failure
  // every later call fails alike.
  Status Write(rocksdb::WriteBatch& batch, bool sync, std::string_view what);
  // Bounds memory after a write of `bytes`: one that is large, as rows of many megabytes are, is
  // brought into table files at once, or the next would be held beside it. Blocks until then.
  Status FlushAfter(size_t bytes);
  // Compacts what is left in table files of a family where everything was deleted, if that is much:
  // later, beside other work, a compaction would hold a large row for each of them. Blocks.
  Status CompactIfLarge(rocksdb::ColumnFamilyHandle* family);
  // The value of `key`; nothing if there is none.
  Result<std::optional<std::string>> Get(rocksdb::ColumnFamilyHandle* family, std::string_view key);
  Status ToStatus(const rocksdb::Status& status, std::string_view what) const {
    return FromRocksDb(status, what, data_dir_);
  }

 private:
  explicit Database(std::string data_dir);

  // Constant after construction.
  const std::string data_dir_;
  const std::shared_ptr<ErrorLatch> latch_;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;
  rocksdb::ColumnFamilyHandle* meta_ = nullptr;
  rocksdb::ColumnFamilyHandle* state_ = nullptr;
  rocksdb::ColumnFamilyHandle* pending_ = nullptr;
  rocksdb::ColumnFamilyHandle* output_ = nullptr;
  rocksdb::ColumnFamilyHandle* delivery_ = nullptr;
  rocksdb::ColumnFamilyHandle* dead_letter_ = nullptr;
  std::string unknown_family_;
};

}  // namespace millrace::storage
