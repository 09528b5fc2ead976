// SPDX-License-Identifier: Apache-2.0
//
// What is left after a power cut: of each file, what was synced. The file system below it notes how
// much that is; a cut copies just so much into another directory.

#include <filesystem>
#include <memory>
#include <string>

#include <gtest/gtest.h>
#include <rocksdb/env.h>

#include "millrace/storage/rocksdb/testing/noting_file_system.h"
#include "millrace/storage/rocksdb/testing/store_fixture.h"

namespace millrace::storage {
namespace {

class PowerCutTest : public testing::StoreFixture {
 protected:
  PowerCutTest()
      : env_(rocksdb::NewCompositeEnv(std::make_shared<testing::NotingFileSystem>(sizes_))) {
    options_.env = env_.get();
    options_.write_buffer_bytes = 4 << 20;
  }
  ~PowerCutTest() override { store_.reset(); }

  // What a machine that is cut off at this moment has on its disk.
  std::unique_ptr<Store> OpenAfterCut() {
    testing::CopyAfterCrash(dir_.path(), after_.path(), &sizes_);
    OpenOptions options;
    options.path = after_.path();
    auto store = OpenRocksDbStore(options);
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return store.ok() ? std::move(store).value() : nullptr;
  }

  testing::SyncedSizes sizes_;
  const std::unique_ptr<rocksdb::Env> env_;
  const testing::TempDir after_;
};

TEST_F(PowerCutTest, WhatCommitReturnedForIsThere) {
  std::vector<OutputRecord> records;
  for (uint64_t i = 1; i <= 30; ++i) {  // over several flushes
    Put("row", std::to_string(i));
    records.push_back(Append(1000, i));
  }
  const auto after = OpenAfterCut();
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(after->ReadableEnd(), Offset(30'000));
  EXPECT_EQ(after->LoadSourceState()->position, (SourcePosition{Epoch(0), Lsn(30)}));
  EXPECT_EQ(after->instance_id(), store_->instance_id());
  const std::string keys[] = {"row"};
  EXPECT_EQ((*after->GetState(table_, keys))[0], "30");
  for (const OutputRecord& record : records) {
    const auto read = after->ReadOutput(record.first);
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    EXPECT_TRUE(testing::SameRecord(*read, record));
  }
}

TEST_F(PowerCutTest, LargeValuesThatCommitReturnedForAreThere) {
  const std::string keys[] = {"whole", "in parts"};
  for (uint64_t i = 1; i <= 8; ++i) {  // what is overwritten is compacted away meanwhile
    const std::string row(size_t{6} << 20, static_cast<char>('a' + i));
    auto part = store_->NewBatch();
    part->SetPart(false);
    part->PutState(table_, keys[1], row);
    ASSERT_TRUE(store_->Commit(std::move(part)).ok());
    part = store_->NewBatch();
    part->SetPart(true);
    ASSERT_TRUE(store_->Commit(std::move(part)).ok());
    Put(keys[0], row);
    store_.reset();  // no file comes or goes while they are copied
    std::filesystem::remove_all(after_.path() + "/rocksdb");
    const auto after = OpenAfterCut();
    ASSERT_NE(after, nullptr);
    const auto rows = after->GetState(table_, keys);
    ASSERT_TRUE(rows.ok()) << rows.status().ToString();
    EXPECT_TRUE(rows->at(0) == row && rows->at(1) == row) << i;
    Open();
  }
}

TEST_F(PowerCutTest, TheStartOfStreamingAndATruncationAreThere) {
  Append(10);
  ASSERT_TRUE(store_->BeginStreaming({Epoch(0), Lsn(7)}, {}).ok());
  ASSERT_TRUE(store_->TruncateOutput(Offset(10)).ok());
  const auto after = OpenAfterCut();
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(after->ReadableEnd(), Offset(10));
  EXPECT_EQ(after->LogBegin(), Offset(10));
  EXPECT_EQ(after->LoadSourceState()->position, (SourcePosition{Epoch(0), Lsn(7)}));
}

TEST_F(PowerCutTest, ASlotThatWasAboutToBeMadeIsKnown) {
  ASSERT_TRUE(store_->BeginSlot(42, 1).ok());
  const auto after = OpenAfterCut();
  ASSERT_NE(after, nullptr);
  EXPECT_TRUE(after->LoadSourceState()->slot_pending);
  EXPECT_EQ(after->LoadSourceState()->system_identifier, 42U);
}

TEST_F(PowerCutTest, ASyncedPlanIsThereAndAnUnsyncedPositionIsOrderedBeforeTheNextCommit) {
  ASSERT_TRUE(store_->SaveDelivery("a", {Offset(1), "plan", true}, true).ok());
  ASSERT_TRUE(store_->SaveDelivery("b", {Offset(2), "", true}, false).ok());
  Append(1);
  ASSERT_TRUE(store_->SaveDelivery("a", {Offset(3), "", true}, false).ok());
  const auto after = OpenAfterCut();
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(after->LoadDelivery("a")->plan, "plan");  // the unsynced one is lost
  EXPECT_EQ(after->LoadDelivery("b")->delivered, Offset(2));
  EXPECT_EQ(after->ReadableEnd(), Offset(1));
}

TEST_F(PowerCutTest, NewStreamsAndTablesKeepTheirIds) {
  Stream other = *testing::MakeEngagementStream();
  other.name = "other";
  const StreamId stream = (*store_->OpenStream(other))->id;
  const StateTableId table = *store_->OpenStateTable("other");
  const auto after = OpenAfterCut();
  ASSERT_NE(after, nullptr);
  ASSERT_TRUE(after->OpenStateTable("yet another").ok());
  EXPECT_EQ((*after->OpenStream(other))->id, stream);
  EXPECT_EQ(*after->OpenStateTable("other"), table);
}

}  // namespace
}  // namespace millrace::storage
