// SPDX-License-Identifier: Apache-2.0
//
// What data_dir knows about the source, and what a process that died leaves of it.

#include <gtest/gtest.h>

#include "millrace/storage/rocksdb/testing/store_fixture.h"

namespace millrace::storage {
namespace {

class SourceStateTest : public testing::StoreFixture {
 protected:
  SourceState Source() {
    const Result<SourceState> state = store_->LoadSourceState();
    EXPECT_TRUE(state.ok()) << state.status().ToString();
    return *state;
  }
};

TEST_F(SourceStateTest, AFreshDataDirKnowsNothing) {
  const SourceState state = Source();
  EXPECT_EQ(state.system_identifier, 0U);
  EXPECT_FALSE(state.slot_pending);
  EXPECT_FALSE(state.position.has_value());
}

TEST_F(SourceStateTest, ASlotIsPendingUntilStreamingBegins) {
  ASSERT_TRUE(store_->BeginSlot(77, 3).ok());
  Reopen();
  EXPECT_TRUE(Source().slot_pending);
  EXPECT_EQ(Source().system_identifier, 77U);
  EXPECT_FALSE(Source().position.has_value());

  const std::vector<SourceNote> notes = {{"snapshot/a", "1"}, {"snapshot/b", "2"}};
  ASSERT_TRUE(store_->BeginStreaming({Epoch(0), Lsn(9)}, notes).ok());
  Reopen();
  EXPECT_FALSE(Source().slot_pending);
  EXPECT_EQ(Source().position, (SourcePosition{Epoch(0), Lsn(9)}));
  EXPECT_EQ(Source().timeline, 3U);
  EXPECT_EQ(Source().notes.at("snapshot/b"), "2");
}

TEST_F(SourceStateTest, AnotherServerIsFollowedNoFurtherBackThanThePosition) {
  EXPECT_EQ(store_->FollowServer(78, 1, std::nullopt, {}).code(), Code::kFailedPrecondition);
  ASSERT_TRUE(store_->BeginSlot(77, 3).ok());
  ASSERT_TRUE(store_->BeginStreaming({Epoch(0), Lsn(9)}, {}).ok());
  // A failover: another timeline, the position stays.
  ASSERT_TRUE(store_->FollowServer(77, 4, std::nullopt, {}).ok());
  Reopen();
  EXPECT_EQ(Source().timeline, 4U);
  EXPECT_EQ(Source().position, (SourcePosition{Epoch(0), Lsn(9)}));
  // An adoption: LSNs go back, the epoch makes up for it.
  EXPECT_EQ(store_->FollowServer(78, 1, SourcePosition{Epoch(0), Lsn(8)}, {}).code(),
            Code::kFailedPrecondition);
  const std::vector<SourceNote> notes = {{"a", "1"}};
  ASSERT_TRUE(store_->FollowServer(78, 1, SourcePosition{Epoch(1), Lsn(2)}, notes).ok());
  Reopen();
  EXPECT_EQ(Source().notes.at("a"), "1");
  EXPECT_EQ(Source().system_identifier, 78U);
  EXPECT_EQ(Source().timeline, 1U);
  EXPECT_EQ(Source().position, (SourcePosition{Epoch(1), Lsn(2)}));
  EXPECT_FALSE(Source().slot_pending);
}

TEST_F(SourceStateTest, NotesAreOfTheBatchThatCarriesThem) {
  const std::vector<SourceNote> notes = {{"a", "1"}, {"b", "2"}};
  ASSERT_TRUE(store_->BeginStreaming({Epoch(0), Lsn(9)}, notes).ok());
  auto batch = store_->NewBatch();
  batch->SetNote({"a", std::nullopt});
  batch->SetNote({"b", "3"});
  batch->ClearState(table_);
  EXPECT_EQ(Source().notes.size(), 2U);
  ASSERT_TRUE(store_->Commit(std::move(batch)).ok());
  Reopen();
  EXPECT_EQ(Source().notes, (std::map<std::string, std::string, std::less<>>{{"b", "3"}}));
}

}  // namespace
}  // namespace millrace::storage
