// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "millrace/storage/rocksdb/rocksdb_store.h"
#include "millrace/storage/rocksdb/testing/temp_dir.h"
#include "millrace/storage/testing/sample_output.h"

namespace millrace::storage::testing {

// A store in a directory of its own, with one stream and one state table.
class StoreFixture : public ::testing::Test {
 protected:
  void SetUp() override { Open(); }

  void Open() {
    options_.path = dir_.path();
    auto store = OpenRocksDbStore(options_);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    store_ = std::move(store).value();
    auto stream = store_->OpenStream(*MakeEngagementStream());
    ASSERT_TRUE(stream.ok()) << stream.status().ToString();
    stream_ = *stream;
    auto table = store_->OpenStateTable("rows");
    ASSERT_TRUE(table.ok()) << table.status().ToString();
    table_ = *table;
  }
  void Reopen() {
    store_.reset();
    Open();
  }

  // Commits a record of `rows` outputs, with the position `lsn`.
  OutputRecord Append(size_t rows, uint64_t lsn = 1) {
    auto batch = store_->NewBatch();
    OutputRecord record = MakeRecord(stream_, store_->AppendEnd(), rows, lsn);
    record.position = {Epoch(0), Lsn(lsn)};
    batch->AppendOutput(record);
    batch->SetPosition(record.position);
    const Status status = store_->Commit(std::move(batch));
    EXPECT_TRUE(status.ok()) << status.ToString();
    return record;
  }
  void Put(const std::string& key, const std::string& row) {
    auto batch = store_->NewBatch();
    batch->PutState(table_, key, row);
    const Status status = store_->Commit(std::move(batch));
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  // "key=row" of each row of a table.
  std::vector<std::string> Rows(StateTableId table) {
    std::vector<std::string> rows;
    const std::unique_ptr<StateCursor> at = store_->ScanState(table);
    for (; at->Valid(); at->Next()) {
      rows.push_back(std::string(at->key()) + "=" + std::string(at->row()));
    }
    EXPECT_TRUE(at->status().ok()) << at->status().ToString();
    return rows;
  }
  std::vector<std::string> Rows() { return Rows(table_); }
  void ExpectRead(Offset offset, const OutputRecord& record) {
    const Result<OutputRecord> read = store_->ReadOutput(offset);
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    EXPECT_TRUE(SameRecord(*read, record));
  }

  const TempDir dir_;
  OpenOptions options_;
  std::unique_ptr<Store> store_;
  StreamPtr stream_;
  StateTableId table_;
};

}  // namespace millrace::storage::testing
