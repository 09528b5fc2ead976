// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/pgoutput_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/sources/postgres/testing/pgoutput_builder.h"

namespace millrace::sources::postgres {
namespace {

using testing::Begin;
using testing::Commit;
using testing::Datum;
using testing::Delete;
using ::testing::HasSubstr;
using testing::Insert;
using testing::LogicalMessage;
using testing::Message;
using testing::RelationColumn;
using testing::Truncate;
using testing::Tuple;
using testing::Update;
using testing::UpdateWithOld;

constexpr uint32_t kItems = 1001;
constexpr uint32_t kNotes = 1002;
constexpr uint32_t kForeign = 4711;

const std::vector<RelationColumn> kItemColumns = {
    {"id", kInt8Oid, true}, {"name", kVarcharOid, false, 14}, {"payload", kTextOid}};
const std::vector<RelationColumn> kNoteColumns = {{"id", kInt4Oid, true}};

SourceTable MakeTable(uint32_t oid, std::string name, const std::vector<RelationColumn>& columns,
                      ReplicaIdentity identity = ReplicaIdentity::kDefault) {
  SourceTable made;
  Schema schema;
  auto table = std::make_shared<Table>();
  for (const RelationColumn& column : columns) {
    const ColumnTypeFacts facts{.declared_oid = column.type_oid,
                                .declared_typmod = column.typmod,
                                .type = {.oid = column.type_oid, .typmod = column.typmod}};
    if (column.is_key) {
      table->primary_key.push_back(static_cast<uint32_t>(schema.size()));
    }
    schema.push_back({column.name, MapColumnType(facts), !column.is_key});
    made.types.push_back(facts);
    table->toastable.push_back(true);
  }
  table->oid = oid;
  table->schema = "shop";
  table->name = std::move(name);
  table->columns = std::make_shared<const Schema>(std::move(schema));
  table->replica_identity = identity;
  made.table = std::move(table);
  return made;
}

std::string RelationOf(uint32_t oid, char identity = 'd') {
  return oid == kItems ? testing::Relation(oid, "shop", "items", kItemColumns, identity)
                       : testing::Relation(oid, "shop", "notes", kNoteColumns, identity);
}

class DecoderTest : public ::testing::Test {
 protected:
  explicit DecoderTest(ReplicaIdentity identity = ReplicaIdentity::kDefault)
      : decoder_({MakeTable(kItems, "items", kItemColumns, identity),
                  MakeTable(kNotes, "notes", kNoteColumns)},
                 "my_slot") {
    decoder_.StartStream({Epoch(1), Lsn(100)});
  }

  void Feed(const std::vector<std::string>& messages) {
    for (const std::string& message : messages) {
      const Status status = decoder_.Decode(message);
      ASSERT_TRUE(status.ok()) << status.ToString();
    }
  }
  Status FeedUntilError(const std::vector<std::string>& messages) {
    for (const std::string& message : messages) {
      MR_RETURN_IF_ERROR(decoder_.Decode(message));
    }
    return Status::Ok();
  }

  PgOutputDecoder decoder_;
};

class FullIdentityDecoderTest : public DecoderTest {
 protected:
  FullIdentityDecoderTest() : DecoderTest(ReplicaIdentity::kFull) {}
};

TEST_F(DecoderTest, InsertsUpdatesAndDeletesBecomeColumns) {
  Feed({Begin(200, 5'000'000, 42), RelationOf(kItems), Insert(kItems, {"1", "pen", nullptr}),
        Update(kItems, {"1", "quill", "x"}), Delete(kItems, 'K', {"1", nullptr, nullptr}),
        Commit(200, 220)});
  ASSERT_TRUE(decoder_.can_take());
  const auto batch = decoder_.Take();
  ASSERT_EQ(batch->transactions.size(), 1u);
  EXPECT_EQ(batch->transactions[0].end_lsn, Lsn(220));
  EXPECT_EQ(batch->transactions[0].commit_ts, 946'684'800'000'000 + 5'000'000);
  EXPECT_EQ(batch->transactions[0].xid, Xid(42));
  EXPECT_EQ(batch->end, (SourcePosition{Epoch(1), Lsn(220)}));
  EXPECT_EQ(batch->row_count, 3u);
  ASSERT_EQ(batch->tables.size(), 1u);
  const TableChanges& changes = batch->tables[0];
  ASSERT_EQ(changes.changes.size(), 3u);
  EXPECT_EQ(changes.changes[0].op, ChangeOp::kInsert);
  EXPECT_EQ(changes.changes[1].op, ChangeOp::kUpdate);
  EXPECT_EQ(changes.changes[1].old_row, kNoRow);
  EXPECT_EQ(changes.changes[2].op, ChangeOp::kDelete);
  EXPECT_EQ(changes.changes[2].new_row, kNoRow);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(changes.changes[i].ordinal, i + 1);
    EXPECT_EQ(changes.changes[i].transaction, 0u);
  }
  ASSERT_EQ(changes.new_rows.row_count(), 2u);
  EXPECT_EQ(changes.new_rows.column(0).Value<int64_t>(1), 1);
  EXPECT_EQ(changes.new_rows.column(1).Text(0), "pen");
  EXPECT_EQ(changes.new_rows.column(1).Text(1), "quill");
  EXPECT_TRUE(changes.new_rows.column(2).IsNull(0));
  ASSERT_EQ(changes.old_rows.row_count(), 1u);
  EXPECT_EQ(changes.old_rows.column(0).Value<int64_t>(0), 1);
  EXPECT_TRUE(changes.old_rows.column(1).IsNull(0));
}

TEST_F(DecoderTest, OrdinalsCountOverAllTablesAndEachTruncatedTable) {
  Feed({Begin(200), RelationOf(kItems), Insert(kItems, {"1", "a", "b"}), RelationOf(kNotes),
        testing::Relation(kForeign, "other", "t", kNoteColumns), Insert(kForeign, {"5"}),
        Truncate({kNotes, kForeign, kItems}), Insert(kNotes, {"9"}), Commit(200, 220)});
  const auto batch = decoder_.Take();
  ASSERT_EQ(batch->tables.size(), 2u);
  const auto& items = batch->tables[0].changes;
  const auto& notes = batch->tables[1].changes;
  ASSERT_EQ(items.size(), 2u);
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_EQ(items[0].ordinal, 1u);
  EXPECT_EQ(notes[0].ordinal, 3u);
  EXPECT_EQ(notes[0].op, ChangeOp::kTruncate);
  EXPECT_EQ(items[1].ordinal, 5u);
  EXPECT_EQ(items[1].op, ChangeOp::kTruncate);
  EXPECT_EQ(notes[1].ordinal, 6u);
  EXPECT_EQ(batch->row_count, 4u);
}

TEST_F(DecoderTest, EachTransactionCountsFromOneAndKeepsItsPlace) {
  Feed({Begin(200), RelationOf(kNotes), Insert(kNotes, {"1"}), Commit(200, 220), Begin(220),
        Insert(kNotes, {"2"}), Insert(kNotes, {"3"}), Commit(220, 260)});
  const auto batch = decoder_.Take();
  ASSERT_EQ(batch->transactions.size(), 2u);
  const auto& changes = batch->tables[0].changes;
  EXPECT_EQ(changes[1].transaction, 1u);
  EXPECT_EQ(changes[1].ordinal, 1u);
  EXPECT_EQ(changes[2].ordinal, 2u);
  EXPECT_EQ(batch->end.end_lsn, Lsn(260));
}

TEST_F(DecoderTest, ABatchEndsBetweenTransactionsOnly) {
  Feed({Begin(200), RelationOf(kNotes), Insert(kNotes, {"1"}), Commit(200, 220), Begin(230)});
  EXPECT_FALSE(decoder_.can_take());
  Feed({Insert(kNotes, {"2"})});
  EXPECT_EQ(decoder_.pending_rows(), 2u);
  Feed({Commit(230, 240)});
  EXPECT_TRUE(decoder_.can_take());
  EXPECT_EQ(decoder_.Take()->row_count, 2u);
  EXPECT_FALSE(decoder_.can_take());
  // The relation is still known: it comes once a connection.
  Feed({Begin(250), Insert(kNotes, {"3"}), Commit(250, 260)});
  EXPECT_EQ(decoder_.Take()->tables[0].new_rows.row_count(), 1u);
}

TEST_F(DecoderTest, EmptyTransactionsOnlyMoveTheEnd) {
  Feed({Begin(200), Commit(200, 220)});
  EXPECT_FALSE(decoder_.can_take());
  EXPECT_EQ(decoder_.end_lsn(), Lsn(220));
  EXPECT_TRUE(decoder_.batch().transactions.empty());
}

TEST_F(DecoderTest, TransactionsBeforeTheStartAreLeftOut) {
  Feed({Begin(90), RelationOf(kNotes), Insert(kNotes, {"1"}), Truncate({kNotes}), Commit(90, 100)});
  EXPECT_FALSE(decoder_.can_take());
  EXPECT_EQ(decoder_.end_lsn(), Lsn(100));
  // One that commits exactly at the start is the next one.
  Feed({Begin(100), Insert(kNotes, {"2"}), Commit(100, 120)});
  EXPECT_EQ(decoder_.Take()->row_count, 1u);
}

TEST_F(DecoderTest, UnchangedToastIsMarked) {
  Feed({Begin(200), RelationOf(kItems), Update(kItems, {"1", "pen", Datum::Unchanged()}),
        Update(kItems, {"1", "x", "y"}), Commit(200, 220)});
  const auto batch = decoder_.Take();
  const TableChanges& changes = batch->tables[0];
  ASSERT_EQ(changes.unchanged_toast.size(), 1u);
  EXPECT_EQ(changes.unchanged_toast[0].new_row, 0u);
  EXPECT_EQ(changes.unchanged_toast[0].column, 2u);
  EXPECT_TRUE(changes.new_rows.column(2).IsNull(0));
  EXPECT_FALSE(changes.new_rows.column(2).IsNull(1));
}

TEST_F(FullIdentityDecoderTest, UnchangedToastIsFilledFromAFullOldRow) {
  std::vector<RelationColumn> columns = kItemColumns;
  for (RelationColumn& column : columns) {
    column.is_key = true;
  }
  Feed({Begin(200), testing::Relation(kItems, "shop", "items", columns, 'f'),
        UpdateWithOld(kItems, 'O', {"1", "pen", "large"}, {"1", "quill", Datum::Unchanged()}),
        Commit(200, 220)});
  const auto batch = decoder_.Take();
  EXPECT_TRUE(batch->tables[0].unchanged_toast.empty());
  EXPECT_EQ(batch->tables[0].new_rows.column(2).Text(0), "large");
  EXPECT_EQ(batch->tables[0].old_rows.column(1).Text(0), "pen");
  EXPECT_EQ(batch->tables[0].changes[0].old_row, 0u);
}

// A partition may have another replica identity than the table as which it is published.
TEST_F(FullIdentityDecoderTest, WhatAnOldRowLacksIsNeverTakenForNull) {
  std::vector<RelationColumn> columns = kItemColumns;
  for (RelationColumn& column : columns) {
    column.is_key = true;
  }
  Feed({Begin(200), testing::Relation(kItems, "shop", "items", columns, 'f'),
        UpdateWithOld(kItems, 'O', {"1", nullptr, nullptr}, {"1", "quill", Datum::Unchanged()})});
  const Status status = decoder_.Decode(Delete(kItems, 'O', {nullptr, "pen", "large"}));
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("key column 'id'"));

  decoder_.StartStream({Epoch(1), Lsn(100)});
  Feed({Begin(200), testing::Relation(kItems, "shop", "items", columns, 'f'),
        UpdateWithOld(kItems, 'O', {"1", nullptr, nullptr}, {"1", "quill", Datum::Unchanged()}),
        Commit(200, 220)});
  EXPECT_EQ(decoder_.Take()->tables[0].unchanged_toast.size(), 1u);
}

// PostgreSQL 15.0 and 15.1 send the old image of an update under a column list with all columns of
// the table: bytes that cannot be told apart are refused, not guessed at.
// Cases: 31.
TEST_F(DecoderTest, AnOldRowOfOtherColumnsThanDescribedIsRefused) {
  for (const std::vector<Datum>& old :
       std::vector<std::vector<Datum>>{{"1", nullptr, nullptr, nullptr}, {"1"}}) {
    decoder_.StartStream({Epoch(1), Lsn(100)});
    EXPECT_EQ(FeedUntilError({Begin(200), RelationOf(kItems),
                              UpdateWithOld(kItems, 'K', old, {"2", "pen", "x"})})
                  .code(),
              Code::kCorruption);
  }
}

TEST_F(DecoderTest, AChangedKeyKeepsItsOldRow) {
  Feed({Begin(200), RelationOf(kItems),
        UpdateWithOld(kItems, 'K', {"1", nullptr, nullptr}, {"2", "pen", Datum::Unchanged()}),
        Commit(200, 220)});
  const auto batch = decoder_.Take();
  const TableChanges& changes = batch->tables[0];
  ASSERT_EQ(changes.changes[0].old_row, 0u);
  EXPECT_EQ(changes.old_rows.column(0).Value<int64_t>(0), 1);
  // The old row is of the key only, so that it says nothing of the payload.
  EXPECT_EQ(changes.unchanged_toast.size(), 1u);
}

TEST_F(DecoderTest, AToastedKeyThatDidNotChangeIsFilledAndItsOldRowDropped) {
  const std::vector<RelationColumn> columns = {{"id", kTextOid, true}, {"v", kInt4Oid}};
  PgOutputDecoder decoder({MakeTable(kItems, "items", columns)}, "s");
  for (const std::string& message :
       {Begin(200), testing::Relation(kItems, "shop", "items", columns),
        UpdateWithOld(kItems, 'K', {"long key", nullptr}, {Datum::Unchanged(), "5"}),
        UpdateWithOld(kItems, 'K', {"long key", nullptr}, {"other", "6"}), Commit(200, 220)}) {
    ASSERT_TRUE(decoder.Decode(message).ok());
  }
  const auto batch = decoder.Take();
  const TableChanges& changes = batch->tables[0];
  EXPECT_TRUE(changes.unchanged_toast.empty());
  EXPECT_EQ(changes.new_rows.column(0).Text(0), "long key");
  EXPECT_EQ(changes.changes[0].old_row, kNoRow);
  EXPECT_EQ(changes.changes[1].old_row, 0u);
  EXPECT_EQ(changes.old_rows.row_count(), 1u);
}

TEST_F(DecoderTest, ABrokenConnectionTakesTheOpenTransactionBack) {
  Feed({Begin(200), RelationOf(kItems), Insert(kItems, {"1", "a", nullptr}), Commit(200, 220),
        Begin(230), Insert(kItems, {"2", "b", "c"}), Update(kItems, {"1", "a", Datum::Unchanged()}),
        UpdateWithOld(kItems, 'K', {"2", nullptr, nullptr}, {"3", "b", "c"}), RelationOf(kNotes),
        Insert(kNotes, {"1"}), Delete(kItems, 'K', {"1", nullptr, nullptr})});
  decoder_.RollBackOpenTransaction();
  ASSERT_TRUE(decoder_.can_take());
  const auto batch = decoder_.Take();
  EXPECT_EQ(batch->row_count, 1u);
  EXPECT_EQ(batch->end.end_lsn, Lsn(220));
  const TableChanges& items = batch->tables[0];
  EXPECT_EQ(items.changes.size(), 1u);
  EXPECT_EQ(items.new_rows.row_count(), 1u);
  EXPECT_EQ(items.old_rows.row_count(), 0u);
  EXPECT_TRUE(items.unchanged_toast.empty());
  EXPECT_EQ(items.new_rows.column(1).Text(0), "a");
  EXPECT_TRUE(items.new_rows.column(2).IsNull(0));
  EXPECT_EQ(batch->tables[1].changes.size(), 0u);
  EXPECT_EQ(batch->tables[1].new_rows.row_count(), 0u);
}

TEST_F(DecoderTest, RelationsAreForgottenAtANewConnection) {
  Feed({Begin(200), RelationOf(kNotes), Insert(kNotes, {"1"}), Commit(200, 220)});
  decoder_.StartStream({Epoch(1), Lsn(220)});
  EXPECT_FALSE(decoder_.can_take());
  const Status status = FeedUntilError({Begin(230), Insert(kNotes, {"1"})});
  EXPECT_EQ(status.code(), Code::kCorruption);
}

TEST_F(DecoderTest, HeartbeatsOfOurSlotAreCountedAtTheirCommit) {
  Feed({Begin(200), LogicalMessage(true, "millrace", "my_slot")});
  EXPECT_EQ(decoder_.heartbeats(), 0u);
  Feed({Commit(200, 220), LogicalMessage(false, "millrace", "other_slot"),
        LogicalMessage(false, "app", "my_slot")});
  EXPECT_EQ(decoder_.heartbeats(), 1u);
  EXPECT_FALSE(decoder_.can_take());
}

TEST_F(DecoderTest, OriginAndTypeMessagesAreRead) {
  Feed({Begin(200), Message('O').U64(5).CString("node").bytes(),
        Message('Y').U32(70000).CString("shop").CString("mood").bytes(), Commit(200, 220)});
}

TEST_F(DecoderTest, ANullInAColumnThatWasNotNullIsNoSilentZero) {
  const Status status =
      FeedUntilError({Begin(200), RelationOf(kItems), Insert(kItems, {nullptr, "a", "b"})});
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("shop.items"));
  EXPECT_THAT(status.message(), HasSubstr("'id'"));
}

TEST_F(DecoderTest, BadValuesNameTableAndColumnButNotTheValue) {
  const Status status =
      FeedUntilError({Begin(200), RelationOf(kItems), Insert(kItems, {"secret", "a", "b"})});
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_THAT(status.message(), HasSubstr("table shop.items, column 'id'"));
  EXPECT_THAT(status.message(), ::testing::Not(HasSubstr("secret")));
  EXPECT_FALSE(decoder_.in_transaction());
  EXPECT_EQ(decoder_.pending_rows(), 0u);
}

TEST_F(DecoderTest, AlteredTablesEndWithWhatChangedAndTheRemedy) {
  auto added = kItemColumns;
  added.push_back({"extra", kTextOid});
  auto dropped = kItemColumns;
  dropped.pop_back();
  auto renamed = kItemColumns;
  renamed[1].name = "title";
  auto retyped = kItemColumns;
  retyped[2].type_oid = kInt4Oid;
  auto reordered = kItemColumns;
  std::swap(reordered[1], reordered[2]);
  auto narrowed = kItemColumns;
  narrowed[1].typmod = 9;
  auto rekeyed = kItemColumns;
  rekeyed[1].is_key = true;
  auto unkeyed = kItemColumns;
  unkeyed[0].is_key = false;
  const struct {
    std::string message;
    const char* text;
  } cases[] = {
      {testing::Relation(kItems, "shop", "items", added), "column 'extra' was added"},
      {testing::Relation(kItems, "shop", "items", dropped), "column 'payload' was dropped"},
      {testing::Relation(kItems, "shop", "items", renamed), "column 'title' was added or renamed"},
      {testing::Relation(kItems, "shop", "items", retyped), "type of column 'payload' changed"},
      {testing::Relation(kItems, "shop", "items", reordered), "order of its columns"},
      {testing::Relation(kItems, "shop", "items", narrowed), "type of column 'name' changed"},
      {testing::Relation(kItems, "shop", "items", rekeyed), "primary key or replica identity"},
      {testing::Relation(kItems, "shop", "items", unkeyed), "primary key or replica identity"},
      {testing::Relation(kItems, "shop", "goods", kItemColumns), "renamed to shop.goods"},
      {testing::Relation(9999, "shop", "items", kItemColumns), "dropped and created again"},
  };
  for (const auto& c : cases) {
    decoder_.StartStream({Epoch(1), Lsn(100)});
    const Status status = FeedUntilError({Begin(200), c.message});
    EXPECT_EQ(status.code(), Code::kFailedPrecondition) << c.text;
    EXPECT_THAT(status.message(), HasSubstr(c.text));
    EXPECT_THAT(status.message(), HasSubstr("shop.items"));
    EXPECT_THAT(status.message(), HasSubstr("pg_drop_replication_slot"));
  }
  auto widened = kItemColumns;
  widened[1].typmod = 104;
  decoder_.StartStream({Epoch(1), Lsn(100)});
  Feed({Begin(200), testing::Relation(kItems, "shop", "items", widened),
        testing::Relation(kItems, "shop", "items", kItemColumns, 'n')});
}

TEST_F(FullIdentityDecoderTest, LosingTheFullIdentityIsNotFollowed) {
  const Status status = FeedUntilError({Begin(200), RelationOf(kItems)});
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("no longer full"));
}

// PostgreSQL 18 sends it for what it spilled and rolled back.
TEST_F(DecoderTest, AStreamAbortOfWhatWasNeverSentIsNothing) {
  const std::string abort = Message('A').U32(700).U32(701).bytes();
  Feed({abort, Begin(200), RelationOf(kItems), Insert(kItems, {"1", "a", "b"}), Commit(200, 220),
        abort});
  EXPECT_EQ(decoder_.Take()->row_count, 1u);
  EXPECT_EQ(decoder_.Decode(Message('A').U32(700).bytes()).code(), Code::kCorruption);
}

TEST_F(DecoderTest, MessagesOutOfPlaceAreCorrupt) {
  const std::vector<std::vector<std::string>> cases = {
      {""},
      {RelationOf(kItems), Insert(kItems, {"1", "a", "b"})},
      {Begin(200), Begin(210)},
      {Commit(200, 220)},
      {Begin(200), Commit(201, 220)},
      {Begin(200), Commit(200, 200)},
      {Begin(200), Commit(200, 220), Begin(205), Commit(205, 215)},
      {Begin(200), Insert(kItems, {"1", "a", "b"})},
      {Begin(200), RelationOf(kItems), Insert(kItems, {"1", "a"})},
      {Begin(200), RelationOf(kItems), Insert(kItems, {"1", "a", "b", "c"})},
      {Begin(200), RelationOf(kItems), Delete(kItems, 'N', {"1", "a", "b"})},
      {Begin(200), RelationOf(kItems), Delete(kItems, 'K', {Datum::Unchanged(), "a", "b"})},
      {Begin(200), RelationOf(kItems), Message('I').U32(kItems).Char('K').bytes()},
      {Begin(200), RelationOf(kItems),
       Message('I').U32(kItems).Char('N').U16(3).Char('b').U32(0).bytes()},
      {Begin(200), RelationOf(kItems),
       Message('I').U32(kItems).Char('N').U16(3).Char('t').U32(0xffffffff).bytes()},
      {Begin(200), Truncate({kItems})},
      {Message('S').U32(1).U8(1).bytes()},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    decoder_.StartStream({Epoch(1), Lsn(100)});
    EXPECT_EQ(FeedUntilError(cases[i]).code(), Code::kCorruption) << "case " << i;
    EXPECT_EQ(decoder_.pending_rows(), 0u) << "case " << i;
  }
}

// Every message cut after every byte, and with a byte too many: an error, never a crash or a row.
TEST_F(DecoderTest, CutMessagesAreCorruptAtEveryByte) {
  const std::vector<std::string> messages = {
      Begin(200),
      RelationOf(kItems),
      Insert(kItems, {"1", "a", nullptr}),
      UpdateWithOld(kItems, 'K', {"1", nullptr, nullptr}, {"2", "b", Datum::Unchanged()}),
      Delete(kItems, 'K', {"2", nullptr, nullptr}),
      Truncate({kItems}),
      LogicalMessage(true, "p", "content"),
      Message('O').U64(5).CString("node").bytes(),
      Message('Y').U32(1).CString("a").CString("b").bytes(),
      Commit(200, 220)};
  for (size_t cut = 0; cut < messages.size(); ++cut) {
    for (size_t n = 0; n <= messages[cut].size(); ++n) {
      decoder_.StartStream({Epoch(1), Lsn(100)});
      Feed({messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(cut)});
      // An allocation of its own, so that a sanitizer sees a read behind it.
      const std::string bytes =
          n < messages[cut].size() ? messages[cut].substr(0, n) : messages[cut] + '\0';
      EXPECT_EQ(decoder_.Decode(bytes).code(), Code::kCorruption) << "message " << cut << ", " << n;
      EXPECT_EQ(decoder_.pending_rows(), 0u);
    }
  }
}

}  // namespace
}  // namespace millrace::sources::postgres
