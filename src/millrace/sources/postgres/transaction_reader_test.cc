// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/transaction_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/sources/postgres/testing/pgoutput_builder.h"
#include "millrace/sources/postgres/testing/reader_fixture.h"

namespace millrace::sources::postgres {
namespace {

using testing::Begin;
using testing::Commit;
using testing::Delete;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Insert;
using testing::InStream;
using testing::kForeign;
using testing::kItemColumns;
using testing::kItems;
using testing::kNotes;
using testing::LogicalMessage;
using testing::Message;
using testing::Origin;
using ::testing::Pair;
using testing::RelationOf;
using testing::StreamAbort;
using testing::StreamCommit;
using testing::StreamStart;
using testing::StreamStop;
using testing::Truncate;
using testing::Type;
using Pass = TransactionPart::Pass;

std::string Note(int id) { return Insert(kNotes, {std::to_string(id)}); }
std::string Item(int id, std::string payload = "x") {
  return Insert(kItems, {std::to_string(id), "n", std::move(payload)});
}

// (id, ordinal) of the changes of a table that have a new row, in their order.
std::vector<std::pair<int64_t, uint64_t>> Changes(const ChangeBatch& batch, uint32_t oid) {
  std::vector<std::pair<int64_t, uint64_t>> found;
  for (const TableChanges& table : batch.tables) {
    for (const Change& change : table.changes) {
      if (table.table->oid == oid && change.new_row != kNoRow) {
        const Column& id = table.new_rows.column(0);
        found.emplace_back(
            oid == kItems ? id.Value<int64_t>(change.new_row) : id.Value<int32_t>(change.new_row),
            change.ordinal);
      }
    }
  }
  return found;
}

class ReaderTest : public testing::ReaderFixture {
 protected:
  using ReaderFixture::ReaderFixture;

  // A stream block of the top-level transaction `xid`.
  void Block(uint32_t xid, bool is_first,
             const std::vector<std::pair<uint32_t, std::string>>& messages) {
    Feed({StreamStart(xid, is_first)});
    for (const auto& [subxid, message] : messages) {
      Feed({InStream(subxid, message)});
    }
    Feed({StreamStop()});
  }
};

// Case: 14.
TEST_F(ReaderTest, AStreamedTransactionIsAsOneThatCameInOnePiece) {
  Block(50, true, {{50, RelationOf(kItems)}, {50, Item(1)}, {50, Item(2)}});
  EXPECT_FALSE(reader_.can_take());
  EXPECT_FALSE(reader_.is_within());
  Block(50, false, {{51, Item(3)}, {50, Delete(kItems, 'K', {"1", nullptr, nullptr})}});
  Feed({StreamCommit(50, 200, 220, 5'000'000)});
  const auto streamed = reader_.Take();
  Restart();
  Feed({Begin(200, 5'000'000, 50), RelationOf(kItems), Item(1), Item(2), Item(3),
        Delete(kItems, 'K', {"1", nullptr, nullptr}), Commit(200, 220)});
  const auto whole = reader_.Take();
  for (const ChangeBatch* batch : {streamed.get(), whole.get()}) {
    ASSERT_EQ(batch->transactions.size(), 1u);
    EXPECT_EQ(batch->transactions[0].end_lsn, Lsn(220));
    EXPECT_EQ(batch->transactions[0].commit_ts, 946'684'800'000'000 + 5'000'000);
    EXPECT_EQ(batch->transactions[0].xid, Xid(50));
    EXPECT_EQ(batch->end, (SourcePosition{Epoch(1), Lsn(220)}));
    EXPECT_EQ(batch->row_count, 4u);
    EXPECT_FALSE(batch->part.has_value());
    EXPECT_THAT(Changes(*batch, kItems), ElementsAre(Pair(1, 1), Pair(2, 2), Pair(3, 3)));
    EXPECT_EQ(batch->tables[0].changes.back().ordinal, 4u);
  }
}

// PostgreSQL 18 sends it for what it spilled and rolled back.
TEST_F(ReaderTest, AStreamAbortOfWhatWasNeverSentIsNothing) {
  Feed({StreamAbort(700, 701), StreamAbort(700, 700)});
  Block(50, true, {{50, RelationOf(kItems)}, {50, Item(1)}});
  Feed({StreamAbort(700, 50), StreamCommit(50, 200, 220), StreamAbort(50, 50)});
  EXPECT_EQ(reader_.Take()->row_count, 1u);
}

// A client that takes the xid of a Stream Abort for what ends loses the whole transaction here; one
// that takes the subxid for a transaction keeps what was rolled back.
// Case: 15.
TEST_F(ReaderTest, AnAbortedSubtransactionTakesItsOwnChangesAndNoOthers) {
  Block(50, true,
        {{50, RelationOf(kItems)},
         {50, Item(1)},
         {51, Item(2)},
         {52, Item(3)},  // within 51, with an abort of its own
         {51, Item(4)},
         {50, RelationOf(kForeign)},
         {51, Insert(kForeign, {"1"})}});
  Feed({StreamAbort(50, 52), StreamAbort(50, 51)});
  Block(50, false, {{50, Item(5)}, {53, Item(6)}, {50, Insert(kForeign, {"1"})}, {54, Item(7)}});
  Feed({StreamAbort(50, 54)});
  Block(50, false, {{55, Item(8)}});
  Feed({StreamCommit(50, 200, 220)});
  const auto batch = reader_.Take();
  // What was rolled back does not count; a change of a table that is not ours does.
  EXPECT_THAT(Changes(*batch, kItems), ElementsAre(Pair(1, 1), Pair(5, 2), Pair(6, 3), Pair(8, 5)));
  EXPECT_EQ(batch->row_count, 4u);
}

// Case: 15.
TEST_F(ReaderTest, ManySubtransactionsEndEachByItself) {
  Block(50, true, {{50, RelationOf(kItems)}});
  std::vector<std::pair<int64_t, uint64_t>> expected;
  for (uint32_t i = 0; i < 3000; ++i) {
    Block(50, false, {{100 + i, Item(static_cast<int>(i))}});
    if (i % 3 != 0) {
      Feed({StreamAbort(50, 100 + i)});
    } else {
      expected.emplace_back(i, expected.size() + 1);
    }
  }
  Feed({StreamCommit(50, 200, 220)});
  EXPECT_EQ(Changes(*reader_.Take(), kItems), expected);
}

// Cases: 14, 6.
TEST_F(ReaderTest, InterleavedTransactionsComeInTheOrderOfTheirCommits) {
  Block(50, true, {{50, RelationOf(kItems)}, {50, Item(1)}});
  Block(60, true, {{60, RelationOf(kItems)}, {60, Item(2)}});
  Feed({Begin(200, 0, 70), RelationOf(kItems), Item(3), Commit(200, 210)});
  Block(50, false, {{50, Item(4)}});
  Block(80, true, {{80, RelationOf(kItems)}, {80, Item(5)}});
  Feed({StreamCommit(60, 220, 230), StreamAbort(80, 80), StreamCommit(50, 240, 250)});
  const auto batch = reader_.Take();
  ASSERT_EQ(batch->transactions.size(), 3u);
  EXPECT_EQ(batch->transactions[0].xid, Xid(70));
  EXPECT_EQ(batch->transactions[1].xid, Xid(60));
  EXPECT_EQ(batch->transactions[2].xid, Xid(50));
  EXPECT_THAT(Changes(*batch, kItems), ElementsAre(Pair(3, 1), Pair(2, 1), Pair(1, 1), Pair(4, 2)));
  EXPECT_EQ(batch->tables[0].changes[3].transaction, 2u);
}

TEST_F(ReaderTest, ATransactionRolledBackAndMadeAgainComesOnce) {
  Block(50, true, {{50, RelationOf(kItems)}, {50, Item(1)}});
  Feed({StreamAbort(50, 50)});
  EXPECT_FALSE(reader_.can_take());
  EXPECT_EQ(reader_.staged_memory(), 0u);
  Block(51, true, {{51, RelationOf(kItems)}, {51, Item(1)}});
  Feed({StreamCommit(51, 200, 220)});
  EXPECT_THAT(Changes(*reader_.Take(), kItems), ElementsAre(Pair(1, 1)));
}

// Case: 16.
TEST_F(ReaderTest, ADescriptionOutlivesTheSubtransactionThatBroughtIt) {
  Block(50, true, {{51, RelationOf(kItems)}, {51, Type(70000, "shop", "mood")}, {51, Item(1)}});
  Feed({StreamAbort(50, 51)});
  Block(50, false, {{50, Item(2)}});
  Feed({StreamCommit(50, 200, 220)});
  EXPECT_THAT(Changes(*reader_.Take(), kItems), ElementsAre(Pair(2, 1)));
}

// Cases: 15, 16.
TEST_F(ReaderTest, ARolledBackAlterTableIsNoSchemaChange) {
  auto altered = kItemColumns;
  altered.push_back({"extra", kTextOid});
  Block(50, true,
        {{50, RelationOf(kItems)},
         {50, Item(1)},
         {51, testing::Relation(kItems, "shop", "items", altered)},
         {51, Insert(kItems, {"2", "n", "x", "y"})}});
  Feed({StreamAbort(50, 51)});
  Block(50, false, {{50, RelationOf(kItems)}, {50, Item(3)}});
  Feed({StreamCommit(50, 200, 220)});
  EXPECT_THAT(Changes(*reader_.Take(), kItems), ElementsAre(Pair(1, 1), Pair(3, 2)));
  EXPECT_TRUE(tables_.Paused().empty());
  // Had it stayed, it would count: here the catalog does not know the column.
  Block(60, true,
        {{61, testing::Relation(kItems, "shop", "items", altered)},
         {61, Insert(kItems, {"2", "n", "x", "y"})}});
  Feed({StreamCommit(60, 300, 320)});
  EXPECT_EQ(tables_.Paused().size(), 1u);
}

// Case: 16.
TEST_F(ReaderTest, ATransactionsDescriptionsAreItsOwnUntilItCommits) {
  auto narrower = kItemColumns;
  narrower.pop_back();
  // Another describes the relation later, and commits first; its description is the newest.
  Feed({Begin(200, 0, 60), RelationOf(kItems), Item(1), Commit(200, 210)});
  Block(70, true, {{70, testing::Relation(kItems, "shop", "items", narrower)}});
  Feed({Begin(220, 0, 61), Item(2), RelationOf(kItems), Item(3), Commit(220, 230)});
  Feed({StreamCommit(70, 240, 250)});
  // That of 70 is older than that of 61, though it committed later.
  Feed({Begin(260, 0, 62), Item(4), Commit(260, 270)});
  EXPECT_THAT(Changes(*reader_.Take(), kItems),
              ElementsAre(Pair(1, 1), Pair(2, 1), Pair(3, 2), Pair(4, 1)));
  Block(71, true, {{71, testing::Relation(kItems, "shop", "items", narrower)}});
  Feed({StreamAbort(71, 71), Begin(280, 0, 63), Item(5), Commit(280, 290)});
  EXPECT_THAT(Changes(*reader_.Take(), kItems), ElementsAre(Pair(5, 1)));
  // Committed and newest: it holds from here.
  Block(72, true, {{72, testing::Relation(kItems, "shop", "items", narrower)}});
  EXPECT_TRUE(tables_.Paused().empty());
  Feed({StreamCommit(72, 300, 310), Begin(320, 0, 64), Item(6), Commit(320, 330)});
  EXPECT_EQ(tables_.Paused().size(), 1u);
}

// Case: 23.
TEST_F(ReaderTest, HeartbeatsCountOnceTheirTransactionHasCommitted) {
  const std::string ours = LogicalMessage(true, "millrace", "my_slot");
  Feed({Begin(200), ours});
  EXPECT_EQ(reader_.heartbeats(), 0u);
  Feed({Commit(200, 220), LogicalMessage(false, "millrace", "other_slot"),
        LogicalMessage(false, "app", "my_slot")});
  EXPECT_EQ(reader_.heartbeats(), 1u);
  Feed({LogicalMessage(false, "millrace", "my_slot")});
  EXPECT_EQ(reader_.heartbeats(), 2u);
  Block(50, true,
        {{50, ours},
         {51, ours},
         {50, LogicalMessage(true, "app", "something")},
         {50, LogicalMessage(false, "millrace", "my_slot")}});
  EXPECT_EQ(reader_.heartbeats(), 3u);  // the one that no transaction holds back
  Feed({StreamAbort(50, 51), StreamCommit(50, 240, 250)});
  EXPECT_EQ(reader_.heartbeats(), 4u);
  Block(60, true, {{60, ours}});
  Feed({StreamAbort(60, 60)});
  EXPECT_EQ(reader_.heartbeats(), 4u);
  EXPECT_FALSE(reader_.can_take());
  EXPECT_EQ(reader_.end_lsn(), Lsn(250));
}

TEST_F(ReaderTest, OriginAndTypeMessagesAreRead) {
  Feed({Begin(200), Origin("node"), Type(70000, "shop", "mood"), Commit(200, 220),
        StreamStart(50, true), Origin("node"), InStream(50, Type(70000, "shop", "mood")),
        StreamStop(), StreamCommit(50, 230, 240)});
  EXPECT_EQ(reader_.end_lsn(), Lsn(240));
}

TEST_F(ReaderTest, TransactionsBeforeTheStartLeaveTheirDescriptions) {
  Block(50, true, {{50, RelationOf(kItems)}, {50, Item(1)}});
  Feed({Begin(80, 0, 60), RelationOf(kNotes), Note(1), Truncate({kNotes}),
        LogicalMessage(true, "millrace", "my_slot"), Commit(80, 90), StreamCommit(50, 90, 100)});
  EXPECT_FALSE(reader_.can_take());
  EXPECT_EQ(reader_.heartbeats(), 0u);
  EXPECT_EQ(reader_.end_lsn(), Lsn(100));
  // One that commits exactly at the start is the next one.
  Feed({Begin(100), Note(2), Item(2), Commit(100, 120)});
  const auto batch = reader_.Take();
  EXPECT_EQ(batch->row_count, 2u);
}

TEST_F(ReaderTest, ANewConnectionForgetsWhatWasOpen) {
  Block(50, true, {{50, RelationOf(kItems)}, {50, Item(1)}});
  Feed({Begin(200), RelationOf(kItems), Item(2)});
  Restart();
  EXPECT_EQ(reader_.staged_memory(), 0u);
  EXPECT_FALSE(reader_.is_within());
  Block(50, true, {{50, RelationOf(kItems)}, {50, Item(1)}});
  Feed({StreamCommit(50, 200, 220)});
  EXPECT_THAT(Changes(*reader_.Take(), kItems), ElementsAre(Pair(1, 1)));
}

// Case: 18.
TEST_F(ReaderTest, ASlotThatSendsPreparedTransactionsIsRefused) {
  for (const char type : {'b', 'P', 'K', 'r', 'p'}) {
    Restart();
    const Status status = reader_.Decode(Message(type).U8(0).U64(200).bytes());
    EXPECT_EQ(status.code(), Code::kFailedPrecondition);
    EXPECT_THAT(status.message(), HasSubstr("two_phase"));
  }
}

TEST_F(ReaderTest, MessagesOutOfPlaceAreCorrupt) {
  const std::string heartbeat = LogicalMessage(true, "millrace", "my_slot");
  const std::vector<std::vector<std::string>> cases = {
      {""},
      {Message('Z').bytes()},
      {RelationOf(kItems)},
      {Item(1)},
      {Origin("node")},
      {heartbeat},
      {Begin(200), Begin(210)},
      {Commit(200, 220)},
      {Begin(200), Commit(201, 220)},
      {Begin(200), Commit(200, 200)},
      {Begin(200), Commit(200, 220), Begin(205), Commit(205, 215)},
      {Begin(200), StreamStart(50, true)},
      {Begin(200), StreamStop()},
      {Begin(200), StreamAbort(50, 50)},
      {Begin(200), StreamCommit(7, 200, 220)},
      {StreamStop()},
      {StreamStart(50, false)},
      {StreamStart(50, true), StreamStart(50, false)},
      {StreamStart(50, true), StreamStart(51, true)},
      {StreamStart(50, true), StreamStop(), StreamStart(50, true)},
      {StreamStart(50, true), StreamStop(), StreamStop()},
      {StreamStart(50, true), Begin(200)},
      {StreamStart(50, true), Commit(200, 220)},
      {StreamStart(50, true), StreamCommit(50, 200, 220)},
      {StreamStart(50, true), StreamAbort(50, 50)},
      {StreamStart(50, true), StreamAbort(50, 51)},
      {StreamStart(50, true), StreamStop(), Begin(200, 0, 50)},
      {StreamStart(50, true), StreamStop(), Item(1)},
      {StreamStart(50, true), InStream(0, RelationOf(kItems))},
      {StreamStart(50, true), StreamStop(), StreamAbort(50, 50), StreamCommit(50, 200, 220)},
      {StreamStart(50, true), StreamStop(), StreamAbort(50, 50) + std::string(16, '\0')},
      {StreamCommit(50, 200, 220)},
      {StreamStart(50, true), StreamStop(), StreamCommit(50, 200, 200)},
      {StreamStart(50, true), StreamStop(), StreamCommit(50, 200, 220), StreamCommit(50, 230, 240)},
      {StreamStart(50, true), InStream(50, RelationOf(kItems)), StreamStop(), Begin(200), Item(1),
       Commit(200, 220)},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    Restart();
    EXPECT_EQ(FeedUntilError(cases[i]).code(), Code::kCorruption) << "case " << i;
    EXPECT_FALSE(reader_.can_take()) << "case " << i;
  }
}

// Every message cut after every byte, and with a byte too many: an error at the latest when its
// transaction commits, never a crash or a row.
TEST_F(ReaderTest, CutMessagesAreCorruptAtEveryByte) {
  const std::vector<std::vector<std::string>> sequences = {
      {Begin(200), RelationOf(kItems), Item(1),
       testing::UpdateWithOld(kItems, 'K', {"1", nullptr, nullptr},
                              {"2", "b", testing::Datum::Unchanged()}),
       Delete(kItems, 'K', {"2", nullptr, nullptr}), Truncate({kItems}),
       LogicalMessage(true, "millrace", "content"), Origin("node"), Type(1, "a", "b"),
       Commit(200, 220)},
      {StreamStart(50, true), InStream(50, RelationOf(kItems)), InStream(51, Item(1)),
       InStream(50, LogicalMessage(true, "millrace", "content")), InStream(50, Truncate({kItems})),
       Origin("node"), InStream(51, Type(1, "a", "b")), StreamStop(), StreamAbort(50, 52),
       StreamCommit(50, 200, 220)},
  };
  for (const std::vector<std::string>& messages : sequences) {
    for (size_t cut = 0; cut < messages.size(); ++cut) {
      for (size_t n = 0; n <= messages[cut].size(); ++n) {
        Restart();
        std::vector<std::string> all = messages;
        // An allocation of its own, so that a sanitizer sees a read behind it.
        all[cut] = n < messages[cut].size() ? messages[cut].substr(0, n) : messages[cut] + '\0';
        EXPECT_EQ(FeedUntilError(all).code(), Code::kCorruption) << "message " << cut << ", " << n;
        EXPECT_FALSE(reader_.can_take());
      }
    }
  }
}

}  // namespace
}  // namespace millrace::sources::postgres
