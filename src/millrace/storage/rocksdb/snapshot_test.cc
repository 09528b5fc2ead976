// SPDX-License-Identifier: Apache-2.0
//
// Staging of the first snapshot, and what a process that died in it leaves.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/storage/rocksdb/testing/store_fixture.h"

namespace millrace::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SnapshotTest : public testing::StoreFixture {
 protected:
  SourceState Source() {
    const Result<SourceState> state = store_->LoadSourceState();
    EXPECT_TRUE(state.ok()) << state.status().ToString();
    return *state;
  }
};

TEST_F(SnapshotTest, AFreshDataDirKnowsNothing) {
  const SourceState state = Source();
  EXPECT_EQ(state.system_identifier, 0U);
  EXPECT_FALSE(state.slot_pending);
  EXPECT_FALSE(state.position.has_value());
}

TEST_F(SnapshotTest, OutputsAreReadableOnceItIsComplete) {
  ASSERT_TRUE(store_->BeginSnapshot(77, 3).ok());
  const OutputRecord first = Append(5, 1);
  const OutputRecord second = Append(6, 2);
  EXPECT_EQ(store_->AppendEnd(), Offset(11));
  EXPECT_EQ(store_->ReadableEnd(), Offset(0));
  EXPECT_EQ(store_->ReadOutput(Offset(0)).status().code(), Code::kInvalidArgument);
  EXPECT_TRUE(Source().slot_pending);
  EXPECT_FALSE(Source().position.has_value());

  ASSERT_TRUE(store_->CompleteSnapshot({Epoch(0), Lsn(99)}).ok());
  EXPECT_EQ(store_->ReadableEnd(), Offset(11));
  ExpectRead(Offset(0), first);
  ExpectRead(Offset(10), second);
  for (int i = 0; i < 2; ++i) {
    const SourceState state = Source();
    EXPECT_FALSE(state.slot_pending);
    EXPECT_EQ(state.system_identifier, 77U);
    EXPECT_EQ(state.timeline, 3U);
    EXPECT_EQ(state.position, (SourcePosition{Epoch(0), Lsn(99)}));
    Reopen();
    EXPECT_EQ(store_->ReadableEnd(), Offset(11));
  }
}

TEST_F(SnapshotTest, AnUnfinishedOneStaysHiddenAndIsDroppedByTheNext) {
  ASSERT_TRUE(store_->BeginSnapshot(77, 3).ok());
  Append(5);
  Put("a", "1");
  Reopen();
  EXPECT_EQ(store_->ReadableEnd(), Offset(0));
  EXPECT_EQ(store_->AppendEnd(), Offset(5));
  EXPECT_TRUE(Source().slot_pending);
  EXPECT_FALSE(Source().position.has_value());

  ASSERT_TRUE(store_->BeginSnapshot(78, 4).ok());
  EXPECT_EQ(store_->AppendEnd(), Offset(0));
  EXPECT_EQ(store_->OutputLogBytes(), 0U);
  EXPECT_THAT(Rows(), IsEmpty());
  Reopen();
  EXPECT_EQ(store_->AppendEnd(), Offset(0));
  EXPECT_THAT(Rows(), IsEmpty());
  EXPECT_EQ(Source().system_identifier, 78U);

  const OutputRecord again = Append(3, 9);
  Put("b", "2");
  ASSERT_TRUE(store_->CompleteSnapshot({Epoch(0), Lsn(1)}).ok());
  EXPECT_EQ(store_->ReadableEnd(), Offset(3));
  ExpectRead(Offset(1), again);
  Reopen();
  EXPECT_EQ(store_->ReadableEnd(), Offset(3));
  ExpectRead(Offset(2), again);
  EXPECT_THAT(Rows(), ElementsAre("b=2"));
}

TEST_F(SnapshotTest, ItGoesOnAfterReopeningWithoutANewBegin) {
  ASSERT_TRUE(store_->BeginSnapshot(77, 3).ok());
  const OutputRecord first = Append(5, 1);
  Reopen();
  const OutputRecord second = Append(4, 2);
  EXPECT_EQ(store_->ReadableEnd(), Offset(0));
  ASSERT_TRUE(store_->CompleteSnapshot({Epoch(0), Lsn(1)}).ok());
  ExpectRead(Offset(4), first);
  ExpectRead(Offset(5), second);
}

TEST_F(SnapshotTest, BeginsAfterACompleteOneAreRefused) {
  EXPECT_EQ(store_->CompleteSnapshot({}).code(), Code::kFailedPrecondition);
  ASSERT_TRUE(store_->BeginSnapshot(77, 3).ok());
  ASSERT_TRUE(store_->CompleteSnapshot({}).ok());
  EXPECT_EQ(store_->BeginSnapshot(77, 3).code(), Code::kFailedPrecondition);
}

TEST_F(SnapshotTest, ABatchOfBeforeCannotBeCommitted) {
  ASSERT_TRUE(store_->BeginSnapshot(77, 3).ok());
  Append(5);
  auto batch = store_->NewBatch();
  batch->AppendOutput(testing::MakeRecord(stream_, Offset(5), 1, 1));
  ASSERT_TRUE(store_->BeginSnapshot(77, 3).ok());
  EXPECT_EQ(store_->Commit(std::move(batch)).code(), Code::kFailedPrecondition);
  EXPECT_EQ(store_->AppendEnd(), Offset(0));
}

TEST_F(SnapshotTest, ASlotIsPendingUntilStreamingBegins) {
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
  EXPECT_EQ(Source().notes.at("snapshot/b"), "2");
}

TEST_F(SnapshotTest, AnotherServerIsFollowedNoFurtherBackThanThePosition) {
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

TEST_F(SnapshotTest, NotesAreOfTheBatchThatCarriesThem) {
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
