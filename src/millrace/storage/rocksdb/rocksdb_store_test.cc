// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/rocksdb_store.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "millrace/storage/rocksdb/database.h"
#include "millrace/storage/rocksdb/meta_codec.h"
#include "millrace/storage/rocksdb/rocksdb_store_impl.h"
#include "millrace/storage/rocksdb/testing/store_fixture.h"

namespace millrace::storage {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kLong = std::chrono::seconds(30);

using RocksDbStoreTest = testing::StoreFixture;

// ---- Directory, lock, format ----

TEST_F(RocksDbStoreTest, DataDirIsForItsOwnerAlone) {
  struct stat info {};
  ASSERT_EQ(stat(dir_.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  ASSERT_EQ(stat((dir_.path() + "/rocksdb").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  fs::permissions(dir_.path(), fs::perms::owner_all | fs::perms::group_read);
  Reopen();
  ASSERT_EQ(stat(dir_.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
}

TEST(RocksDbStoreOpenTest, ADirectoryWithOtherThingsIsLeftAlone) {
  const testing::TempDir dir;
  fs::create_directories(dir.path() + "/things");
  fs::permissions(dir.path(), fs::perms(0755));
  OpenOptions options;
  options.path = dir.path();
  EXPECT_EQ(OpenRocksDbStore(options).status().code(), Code::kFailedPrecondition);
  EXPECT_EQ(fs::status(dir.path()).permissions(), fs::perms(0755));
  EXPECT_FALSE(fs::exists(dir.path() + "/rocksdb"));
}

TEST(RocksDbStoreOpenTest, MissingDirectoriesAboveAreMade) {
  const testing::TempDir dir;
  OpenOptions options;
  options.path = dir.path() + "/a/b/";
  const auto store = OpenRocksDbStore(options);
  EXPECT_TRUE(store.ok()) << store.status().ToString();
}

TEST_F(RocksDbStoreTest, TheSecondOpenerIsToldThatItIsInUse) {
  const auto second = OpenRocksDbStore(options_);
  EXPECT_EQ(second.status().code(), Code::kFailedPrecondition);
  EXPECT_THAT(second.status().message(),
              HasSubstr("data_dir " + dir_.path() + " is in use by another process"));
}

TEST_F(RocksDbStoreTest, TheInstanceIdIsRandomAndStays) {
  const std::string id(store_->instance_id());
  EXPECT_EQ(id.size(), 32U);
  Reopen();
  EXPECT_EQ(store_->instance_id(), id);
  const testing::TempDir other;
  OpenOptions options;
  options.path = other.path();
  const auto store = OpenRocksDbStore(options);
  ASSERT_TRUE(store.ok());
  EXPECT_NE((*store)->instance_id(), id);
}

// Writes one key of the meta family behind the store's back.
void WriteMeta(const OpenOptions& options, std::string_view key, const std::string& value) {
  auto database = Database::Open(options);
  ASSERT_TRUE(database.ok()) << database.status().ToString();
  rocksdb::WriteBatch batch;
  ASSERT_TRUE(batch.Put((*database)->meta(), ToSlice(key), value).ok());
  ASSERT_TRUE((*database)->Write(batch, true, "test").ok());
}

TEST_F(RocksDbStoreTest, ANewerFormatIsUnsupported) {
  store_.reset();
  WriteMeta(options_, kFormatKey, EncodeNumber(kDataDirFormat + 1));
  const Status status = OpenRocksDbStore(options_).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.message(),
              HasSubstr("it has format 2, this version of millrace reads up to 1"));
}

TEST_F(RocksDbStoreTest, ALogThatEndsElsewhereIsCorruption) {
  Append(5);
  store_.reset();
  WriteMeta(options_, kOutputEndKey, EncodeLogPoint({Offset(6), 1000}));
  const Status status = OpenRocksDbStore(options_).status();
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_THAT(status.message(), HasSubstr(dir_.path()));
  EXPECT_THAT(status.message(), HasSubstr("restore a backup"));
}

// Turns bytes in the middle of every file with `extension`; returns how many files there are.
int Damage(const std::string& data_dir, const std::string& extension) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(data_dir + "/rocksdb")) {
    if (entry.path().extension() == extension && entry.file_size() > 4096) {
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(entry.file_size() / 2));
      file << "damaged by the test, in the middle of a record";
      ++files;
    }
  }
  return files;
}

TEST_F(RocksDbStoreTest, DamagedTableFilesAreFoundAndNamed) {
  for (int i = 0; i < 4; ++i) {
    Append(2000);
  }
  store_.reset();
  {
    auto database = Database::Open(options_);
    ASSERT_TRUE(database.ok());
    ASSERT_TRUE((*database)->db().Flush({}, (*database)->output()).ok());
  }
  ASSERT_GT(Damage(dir_.path(), ".sst"), 0);
  options_.recent_bytes = 0;
  auto store = OpenRocksDbStore(options_);
  Status status = store.status();
  for (uint64_t offset = 0; status.ok() && offset < 8000; offset += 2000) {
    status = (*store)->ReadOutput(Offset(offset)).status();
  }
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_THAT(status.message(), HasSubstr("data_dir " + dir_.path() + " is damaged"));
  EXPECT_THAT(status.message(), HasSubstr("restore a backup"));
}

TEST_F(RocksDbStoreTest, AMissingListOfFilesIsCorruptionNotANewStart) {
  Append(5);
  store_.reset();
  fs::remove(dir_.path() + "/rocksdb/CURRENT");
  EXPECT_EQ(OpenRocksDbStore(options_).status().code(), Code::kCorruption);
}

// ---- Registries ----

TEST_F(RocksDbStoreTest, StateTablesKeepTheirIds) {
  const auto other = store_->OpenStateTable("other");
  ASSERT_TRUE(other.ok());
  EXPECT_NE(*other, table_);
  EXPECT_EQ(*store_->OpenStateTable("rows"), table_);
  const StateTableId before = table_;
  Reopen();
  EXPECT_EQ(table_, before);
  EXPECT_EQ(*store_->OpenStateTable("other"), *other);
}

TEST_F(RocksDbStoreTest, AStreamGetsANewVersionWhenItsColumnsChange) {
  const auto same = store_->OpenStream(*testing::MakeEngagementStream());
  ASSERT_TRUE(same.ok());
  EXPECT_EQ(*same, stream_);
  EXPECT_EQ(stream_->schema_version, SchemaVersion(1));

  const OutputRecord old_record = Append(3);
  Stream changed = *stream_;
  Schema columns = *stream_->columns;
  columns.push_back({"more", TypeKind::kText});
  changed.columns = std::make_shared<const Schema>(columns);
  const auto newer = store_->OpenStream(changed);
  ASSERT_TRUE(newer.ok());
  EXPECT_EQ((*newer)->id, stream_->id);
  EXPECT_EQ((*newer)->schema_version, SchemaVersion(2));
  changed.key = {1};
  EXPECT_EQ((*store_->OpenStream(changed))->schema_version, SchemaVersion(3));

  store_.reset();
  options_.recent_bytes = 0;
  auto store = OpenRocksDbStore(options_);
  ASSERT_TRUE(store.ok());
  store_ = std::move(store).value();
  EXPECT_EQ((*store_->OpenStream(changed))->schema_version, SchemaVersion(3));
  ExpectRead(Offset(0), old_record);
}

TEST_F(RocksDbStoreTest, StreamsOfOtherNamesGetOtherIds) {
  Stream other = *testing::MakeEngagementStream();
  other.name = "other";
  const auto opened = store_->OpenStream(other);
  ASSERT_TRUE(opened.ok());
  EXPECT_NE((*opened)->id, stream_->id);
}

// ---- State ----

TEST_F(RocksDbStoreTest, StateIsReadInTheOrderOfTheKeys) {
  auto batch = store_->NewBatch();
  for (int i = 0; i < 1000; ++i) {
    batch->PutState(table_, "k" + std::to_string(i), "v" + std::to_string(i));
  }
  batch->DeleteState(table_, "k500");
  ASSERT_TRUE(store_->Commit(std::move(batch)).ok());
  std::vector<std::string> keys;
  for (int i = 1000; i >= 0; --i) {
    keys.push_back("k" + std::to_string(i));
  }
  const auto rows = store_->GetState(table_, keys);
  ASSERT_TRUE(rows.ok());
  ASSERT_EQ(rows->size(), 1001U);
  for (int i = 0; i <= 1000; ++i) {
    const auto& row = (*rows)[static_cast<size_t>(1000 - i)];
    if (i == 1000 || i == 500) {
      EXPECT_FALSE(row.has_value());
    } else {
      EXPECT_EQ(row, "v" + std::to_string(i));
    }
  }
}

TEST_F(RocksDbStoreTest, TablesDoNotSeeEachOther) {
  const StateTableId other = *store_->OpenStateTable("other");
  auto batch = store_->NewBatch();
  batch->PutState(table_, "", "empty key");
  batch->PutState(table_, "\xff\xff\xff\xff\xff", "high key");
  batch->PutState(other, "k", "v");
  ASSERT_TRUE(store_->Commit(std::move(batch)).ok());
  EXPECT_THAT(Rows(), ElementsAre("=empty key", "\xff\xff\xff\xff\xff=high key"));
  EXPECT_THAT(Rows(other), ElementsAre("k=v"));
}

TEST_F(RocksDbStoreTest, ACursorDoesNotSeeLaterCommits) {
  Put("a", "1");
  Put("b", "2");
  const auto at = store_->ScanState(table_);
  Put("b", "3");
  Put("c", "3");
  ASSERT_TRUE(at->Valid());
  at->Next();
  ASSERT_TRUE(at->Valid());
  EXPECT_EQ(at->row(), "2");
  at->Next();
  EXPECT_FALSE(at->Valid());
  EXPECT_TRUE(at->status().ok());
}

TEST_F(RocksDbStoreTest, ClearedTablesKeepTheRowsOfTheBatch) {
  const StateTableId other = *store_->OpenStateTable("other");
  Put("old", "1");
  auto batch = store_->NewBatch();
  batch->PutState(other, "other", "stays");
  batch->PutState(table_, "before", "2");
  batch->PutState(table_, "gone", "2");
  batch->ClearState(table_);
  batch->PutState(table_, "after", "3");
  batch->DeleteState(table_, "gone");
  const OutputRecord record = testing::MakeRecord(stream_, Offset(0), 2, 1);
  batch->AppendOutput(record);
  batch->ClearState(table_);
  ASSERT_TRUE(store_->Commit(std::move(batch)).ok());
  EXPECT_THAT(Rows(), ElementsAre("after=3", "before=2"));
  EXPECT_THAT(Rows(other), ElementsAre("other=stays"));
  Reopen();
  EXPECT_THAT(Rows(), ElementsAre("after=3", "before=2"));
  ExpectRead(Offset(0), record);
}

// ---- Output log ----

TEST_F(RocksDbStoreTest, EveryOffsetFindsItsRecordFromMemoryAndFromDisk) {
  std::vector<OutputRecord> records;
  for (uint64_t i = 1; i <= 50; ++i) {
    records.push_back(Append(i, i));
  }
  for (const uint64_t recent : {uint64_t{32} << 20, uint64_t{0}}) {
    options_.recent_bytes = recent;
    for (const OutputRecord& record : records) {
      for (uint64_t offset = record.first.value(); offset < record.end.value(); ++offset) {
        ExpectRead(Offset(offset), record);
      }
    }
    EXPECT_EQ(store_->ReadOutput(store_->ReadableEnd()).status().code(), Code::kInvalidArgument);
    Reopen();
  }
  EXPECT_EQ(store_->ReadableEnd(), records.back().end);
}

TEST_F(RocksDbStoreTest, TheCommittedBatchItselfIsRead) {
  const OutputRecord record = Append(5);
  const auto read = store_->ReadOutput(Offset(2));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->batches[0], record.batches[0]);
}

TEST_F(RocksDbStoreTest, ABatchMayAppendSeveralRecords) {
  auto batch = store_->NewBatch();
  const OutputRecord a = testing::MakeRecord(stream_, Offset(0), 3, 1);
  const OutputRecord b = testing::MakeRecord(stream_, Offset(3), 4, 2);
  batch->AppendOutput(a);
  batch->AppendOutput(b);
  ASSERT_TRUE(store_->Commit(std::move(batch)).ok());
  options_.recent_bytes = 0;
  Reopen();
  ExpectRead(Offset(2), a);
  ExpectRead(Offset(3), b);
}

TEST_F(RocksDbStoreTest, LargeRecordsStandInPieces) {
  constexpr size_t kBytes = size_t{11} << 20;
  options_.recent_bytes = 0;
  Reopen();
  std::vector<OutputRecord> records = {Append(2, 1)};
  const auto append = [&](StoreBatch& batch, size_t rows) {
    const Offset first = records.back().end;
    records.push_back(rows == 2 ? testing::MakeLargeRecord(stream_, first, rows, 1, kBytes)
                                : testing::MakeRecord(stream_, first, rows, 1));
    batch.AppendOutput(records.back());
  };
  const auto expect_all = [&](size_t from) {
    for (size_t i = from; i < records.size(); ++i) {
      for (uint64_t at = records[i].first.value(); at < records[i].end.value(); ++at) {
        ExpectRead(Offset(at), records[i]);
      }
    }
  };
  auto whole = store_->NewBatch();
  append(*whole, 2);
  append(*whole, 3);
  append(*whole, 2);
  EXPECT_GT(whole->byte_size(), 4 * kBytes);
  ASSERT_TRUE(store_->Commit(std::move(whole)).ok());
  for (const bool is_last : {false, true}) {
    auto part = store_->NewBatch();
    part->SetPart(is_last);
    append(*part, 2);
    append(*part, 3);
    ASSERT_TRUE(store_->Commit(std::move(part)).ok());
  }
  expect_all(0);
  Reopen();
  expect_all(0);
  records.push_back(Append(2, 1));

  // Within a large record: it stays.
  const OutputRecord& large = records[3];
  ASSERT_TRUE(store_->TruncateOutput(Offset(large.end.value() - 1)).ok());
  EXPECT_EQ(store_->LogBegin(), large.first);
  expect_all(3);
  ASSERT_TRUE(store_->TruncateOutput(large.end).ok());
  EXPECT_EQ(store_->LogBegin(), large.end);
  Reopen();
  EXPECT_EQ(store_->LogBegin(), large.end);
  expect_all(4);
}

// Its beginning was in a file that a truncation has dropped, its end is still in the WAL.
TEST_F(RocksDbStoreTest, WhatIsLeftOfATruncatedLargeRecordDoesNoHarm) {
  options_.write_buffer_bytes = size_t{16} << 20;
  Reopen();
  for (const bool is_last : {false, true}) {
    auto part = store_->NewBatch();
    part->SetPart(is_last);
    if (!is_last) {
      part->AppendOutput(testing::MakeLargeRecord(stream_, Offset(0), 2, 1, size_t{11} << 20));
    }
    ASSERT_TRUE(store_->Commit(std::move(part)).ok());
  }
  ASSERT_TRUE(store_->TruncateOutput(Offset(2)).ok());
  store_.reset();
  {
    auto database = Database::Open(options_);
    ASSERT_TRUE(database.ok());
    const std::unique_ptr<rocksdb::Iterator> at(
        (*database)->db().NewIterator(rocksdb::ReadOptions(), (*database)->output()));
    at->SeekToFirst();
    ASSERT_TRUE(at->Valid());
    EXPECT_NE(DecodeOutputKey(ToView(at->key()))->piece, 0U);
  }
  Open();
  EXPECT_EQ(store_->LogBegin(), Offset(2));
  const OutputRecord next = Append(3);
  ExpectRead(Offset(2), next);
  Reopen();
  ExpectRead(Offset(4), next);
}

TEST_F(RocksDbStoreTest, ALargeRecordWithoutAPieceIsCorruption) {
  auto batch = store_->NewBatch();
  batch->AppendOutput(testing::MakeLargeRecord(stream_, Offset(0), 2, 1, size_t{11} << 20));
  ASSERT_TRUE(store_->Commit(std::move(batch)).ok());
  store_.reset();
  {
    auto database = Database::Open(options_);
    ASSERT_TRUE(database.ok());
    rocksdb::WriteBatch drop;
    ASSERT_TRUE(drop.Delete((*database)->output(), OutputKey(Offset(0), 3)).ok());
    ASSERT_TRUE((*database)->Write(drop, true, "drop a piece").ok());
  }
  Open();
  EXPECT_EQ(store_->ReadOutput(Offset(1)).status().code(), Code::kCorruption);
}

TEST_F(RocksDbStoreTest, TruncationDropsWholeRecordsOnly) {
  const OutputRecord a = Append(10, 1);
  const uint64_t bytes_of_a = store_->OutputLogBytes();
  const OutputRecord b = Append(10, 2);
  const uint64_t bytes = store_->OutputLogBytes();
  ASSERT_TRUE(store_->TruncateOutput(Offset(9)).ok());
  EXPECT_EQ(store_->LogBegin(), Offset(0));
  ASSERT_TRUE(store_->TruncateOutput(Offset(15)).ok());
  EXPECT_EQ(store_->LogBegin(), Offset(10));
  EXPECT_EQ(store_->OutputLogBytes(), bytes - bytes_of_a);
  EXPECT_EQ(store_->ReadOutput(Offset(9)).status().code(), Code::kNotFound);
  ExpectRead(Offset(15), b);
  Reopen();
  EXPECT_EQ(store_->LogBegin(), Offset(10));
  EXPECT_EQ(store_->ReadOutput(Offset(9)).status().code(), Code::kNotFound);
  ExpectRead(Offset(15), b);

  ASSERT_TRUE(store_->TruncateOutput(Offset(20)).ok());
  EXPECT_EQ(store_->OutputLogBytes(), 0U);
  EXPECT_EQ(store_->TruncateOutput(Offset(21)).code(), Code::kInvalidArgument);
  Reopen();
  EXPECT_EQ(store_->LogBegin(), Offset(20));
  EXPECT_EQ(store_->ReadableEnd(), Offset(20));
  const OutputRecord c = Append(5, 3);
  EXPECT_EQ(c.first, Offset(20));
  ExpectRead(Offset(24), c);
}

uint64_t TableBytes(const std::string& data_dir) {
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(data_dir + "/rocksdb")) {
    if (entry.path().extension() == ".sst") {
      bytes += entry.file_size();
    }
  }
  return bytes;
}

TEST_F(RocksDbStoreTest, TruncationGivesDiskSpaceBack) {
  options_.write_buffer_bytes = 4 << 20;  // table files of 2 MiB
  options_.compress_output = false;
  Reopen();
  std::vector<OutputRecord> records;
  while (store_->OutputLogBytes() < 24 << 20) {
    records.push_back(Append(4000, records.size()));
    records.back().batches.clear();
  }
  const auto at_half = records[records.size() / 2].first;
  // Flushed files are moved to level 1, from where they are dropped, in the background.
  store_.reset();
  {
    auto database = Database::Open(options_);
    ASSERT_TRUE(database.ok());
    rocksdb::CompactRangeOptions compact;
    ASSERT_TRUE(
        (*database)->db().CompactRange(compact, (*database)->output(), nullptr, nullptr).ok());
  }
  Open();
  const uint64_t before = TableBytes(dir_.path());
  ASSERT_TRUE(store_->TruncateOutput(at_half).ok());
  EXPECT_LT(TableBytes(dir_.path()), before * 7 / 10);
  ASSERT_TRUE(store_->ReadOutput(at_half).ok());
  ASSERT_TRUE(store_->TruncateOutput(store_->ReadableEnd()).ok());
  EXPECT_LT(TableBytes(dir_.path()), before / 10);
  Reopen();
  EXPECT_EQ(store_->LogBegin(), records.back().end);
}

// In data_dir, of values that are too large for table files.
uint64_t LargeValueBytes(const std::string& path) {
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    if (entry.path().extension() == ".blob") {
      bytes += entry.file_size();
    }
  }
  return bytes;
}

TEST_F(RocksDbStoreTest, LargeValuesAreKeptAndGiveTheirDiskSpaceBack) {
  constexpr size_t kBytes = size_t{25} << 20;
  for (int i = 0; i < 12; ++i) {
    const std::string row(kBytes, static_cast<char>('a' + i));
    auto part = store_->NewBatch();
    part->SetPart(false);
    part->PutState(table_, "in parts", row);
    ASSERT_TRUE(store_->Commit(std::move(part)).ok());
    auto last = store_->NewBatch();
    last->SetPart(true);
    last->PutState(table_, "beside", "small");
    ASSERT_TRUE(store_->Commit(std::move(last)).ok());
    Put("whole", row);
    if (i == 6) {
      Reopen();
    }
    const auto rows = store_->GetState(table_, std::vector<std::string>{"in parts", "whole"});
    ASSERT_TRUE(rows.ok());
    EXPECT_TRUE(rows->at(0) == row && rows->at(1) == row);
  }
  // Two are in use; what was overwritten goes with the compactions, of which the last may run.
  EXPECT_GT(LargeValueBytes(dir_.path()), 2 * kBytes - 1);
  EXPECT_LT(LargeValueBytes(dir_.path()), 12 * kBytes);
}

TEST_F(RocksDbStoreTest, FlushedFilesMoveDownWithoutBeingWrittenAgain) {
  store_.reset();
  options_.write_buffer_bytes = 4 << 20;
  options_.compress_output = false;
  auto opened = Database::Open(options_);
  ASSERT_TRUE(opened.ok());
  Database& database = **opened;  // the store's
  auto store = std::make_unique<RocksDbStore>(std::move(opened).value(), options_);
  ASSERT_TRUE(store->Load().ok());
  store_ = std::move(store);
  for (uint64_t i = 0; i < 40; ++i) {  // about eight table files
    Append(2000, i);
    if (i % 8 == 7) {
      ASSERT_TRUE(store_->TruncateOutput(store_->ReadableEnd()).ok());
    }
  }
  std::map<std::string, std::string> stats;
  ASSERT_TRUE(
      database.db().GetMapProperty(database.output(), rocksdb::DB::Properties::kCFStats, &stats));
  // Levels without files and without work are left out.
  const auto written = [&stats](const std::string& level) {
    const std::string& value = stats["compaction." + level + ".WriteGB"];
    return value.empty() ? 0 : std::stod(value);
  };
  EXPECT_GT(written("Sum"), 0.004);  // flushes
  EXPECT_EQ(written("L1"), 0);       // merges
}

TEST_F(RocksDbStoreTest, WaitersWakeWhenOutputIsThere) {
  std::jthread waiter([this] {
    store_->WaitForOutput(Offset(4), steady_clock::now() + kLong, {});
    EXPECT_EQ(store_->ReadableEnd(), Offset(5));
  });
  const auto start = steady_clock::now();
  Append(2);
  Append(3);
  waiter.join();
  EXPECT_LT(steady_clock::now() - start, kLong);
}

TEST_F(RocksDbStoreTest, WaitersWakeAtStopAndAtTheDeadline) {
  const auto start = steady_clock::now();
  {
    const std::jthread waiter([this](std::stop_token stop) {
      store_->WaitForOutput(Offset(0), steady_clock::now() + kLong, stop);
    });
  }  // requests the stop and joins
  std::stop_source stopped;
  stopped.request_stop();
  store_->WaitForOutput(Offset(0), steady_clock::now() + kLong, stopped.get_token());
  store_->WaitForOutput(Offset(0), steady_clock::now() + std::chrono::milliseconds(1), {});
  store_->WaitForOutput(Offset(0), steady_clock::now() - kLong, {});
  EXPECT_LT(steady_clock::now() - start, kLong);
}

TEST_F(RocksDbStoreTest, ReadersSeeWholeRecordsWhileOthersAreCommittedAndDropped) {
  options_.write_buffer_bytes = 2 << 20;
  options_.recent_bytes = 256 << 10;  // most reads go to disk
  Reopen();
  constexpr uint64_t kCommits = 300;
  constexpr uint64_t kRows = 50;
  const auto reader = [&](std::atomic<uint64_t>* progress) {
    for (uint64_t offset = 0; offset < kCommits * kRows;) {
      store_->WaitForOutput(Offset(offset), steady_clock::now() + kLong, {});
      const auto record = store_->ReadOutput(Offset(offset));
      ASSERT_TRUE(record.ok()) << record.status().ToString();
      ASSERT_EQ(record->first, Offset(offset));
      OutputRecord expected =
          testing::MakeRecord(stream_, Offset(offset), kRows, offset / kRows + 1);
      expected.position = record->position;
      ASSERT_TRUE(testing::SameRecord(*record, expected));
      offset = record->end.value();
      progress->store(offset);
    }
  };
  std::atomic<uint64_t> first{0};
  std::atomic<uint64_t> second{0};
  {
    const std::jthread a(reader, &first);
    const std::jthread b(reader, &second);
    const std::jthread truncater([&] {
      uint64_t read_by_slowest = 0;
      while (read_by_slowest < kCommits * kRows && !HasFatalFailure()) {
        read_by_slowest = std::min(first.load(), second.load());
        EXPECT_TRUE(store_->TruncateOutput(Offset(read_by_slowest)).ok());
        EXPECT_TRUE(store_->SaveDelivery("sink", {Offset(read_by_slowest), "", true}, false).ok());
      }
    });
    for (uint64_t i = 1; i <= kCommits; ++i) {
      Append(kRows, i);
    }
  }
  EXPECT_EQ(store_->LogBegin(), Offset(kCommits * kRows));
}

// ---- Delivery ----

TEST_F(RocksDbStoreTest, DeliveryStatesAreKeptForEachSink) {
  const auto fresh = store_->LoadDelivery("a");
  ASSERT_TRUE(fresh.ok());
  EXPECT_EQ(fresh->delivered, Offset(0));
  EXPECT_FALSE(fresh->started);
  ASSERT_TRUE(store_->SaveDelivery("a", {Offset(5), "plan", true}, true).ok());
  ASSERT_TRUE(store_->SaveDelivery("b", {Offset(6), "", false}, false).ok());
  Reopen();
  const auto a = store_->LoadDelivery("a");
  ASSERT_TRUE(a.ok());
  EXPECT_EQ(a->delivered, Offset(5));
  EXPECT_EQ(a->plan, "plan");
  EXPECT_TRUE(a->started);
  EXPECT_EQ(store_->LoadDelivery("b")->delivered, Offset(6));
}

}  // namespace
}  // namespace millrace::storage
