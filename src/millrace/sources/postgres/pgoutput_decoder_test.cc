// SPDX-License-Identifier: Apache-2.0
// Values, rows and descriptions of relations; how transactions come together is in
// transaction_reader_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/sources/postgres/testing/pgoutput_builder.h"
#include "millrace/sources/postgres/testing/reader_fixture.h"

namespace millrace::sources::postgres {
namespace {

using testing::Begin;
using testing::Commit;
using testing::Datum;
using testing::Delete;
using ::testing::HasSubstr;
using testing::Insert;
using testing::kForeign;
using testing::kItemColumns;
using testing::kItems;
using testing::kNoteColumns;
using testing::kNotes;
using testing::Message;
using testing::RelationColumn;
using testing::RelationOf;
using testing::Truncate;
using testing::Update;
using testing::UpdateWithOld;

class DecoderTest : public testing::ReaderFixture {
 protected:
  explicit DecoderTest(ReplicaIdentity identity = ReplicaIdentity::kDefault)
      : ReaderFixture(testing::ReaderOptions(), identity) {}
};

class FullIdentityDecoderTest : public DecoderTest {
 protected:
  FullIdentityDecoderTest() : DecoderTest(ReplicaIdentity::kFull) {}
};

TEST_F(DecoderTest, InsertsUpdatesAndDeletesBecomeColumns) {
  Feed({Begin(200, 5'000'000, 42), RelationOf(kItems), Insert(kItems, {"1", "pen", nullptr}),
        Update(kItems, {"1", "quill", "x"}), Delete(kItems, 'K', {"1", nullptr, nullptr}),
        Commit(200, 220)});
  ASSERT_TRUE(reader_.can_take());
  const auto batch = reader_.Take();
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
  const auto batch = reader_.Take();
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
  const auto batch = reader_.Take();
  ASSERT_EQ(batch->transactions.size(), 2u);
  const auto& changes = batch->tables[0].changes;
  EXPECT_EQ(changes[1].transaction, 1u);
  EXPECT_EQ(changes[1].ordinal, 1u);
  EXPECT_EQ(changes[2].ordinal, 2u);
  EXPECT_EQ(batch->end.end_lsn, Lsn(260));
}

TEST_F(DecoderTest, ABatchHoldsCompleteTransactionsOnly) {
  Feed({Begin(200), RelationOf(kNotes), Insert(kNotes, {"1"}), Commit(200, 220), Begin(230),
        Insert(kNotes, {"2"})});
  ASSERT_TRUE(reader_.can_take());
  const auto batch = reader_.Take();
  EXPECT_EQ(batch->row_count, 1u);
  EXPECT_EQ(batch->end.end_lsn, Lsn(220));
  EXPECT_FALSE(reader_.can_take());
  Feed({Commit(230, 240)});
  EXPECT_EQ(reader_.Take()->row_count, 1u);
  // The relation is still known: it comes once a connection.
  Feed({Begin(250), Insert(kNotes, {"3"}), Commit(250, 260)});
  EXPECT_EQ(reader_.Take()->tables[0].new_rows.row_count(), 1u);
}

TEST_F(DecoderTest, EmptyTransactionsOnlyMoveTheEnd) {
  Feed({Begin(200), Commit(200, 220)});
  EXPECT_FALSE(reader_.can_take());
  EXPECT_EQ(reader_.end_lsn(), Lsn(220));
  EXPECT_TRUE(reader_.batch().transactions.empty());
}

TEST_F(DecoderTest, TransactionsBeforeTheStartAreLeftOut) {
  Feed({Begin(90), RelationOf(kNotes), Insert(kNotes, {"1"}), Truncate({kNotes}), Commit(90, 100)});
  EXPECT_FALSE(reader_.can_take());
  EXPECT_EQ(reader_.end_lsn(), Lsn(100));
  // One that commits exactly at the start is the next one.
  Feed({Begin(100), Insert(kNotes, {"2"}), Commit(100, 120)});
  EXPECT_EQ(reader_.Take()->row_count, 1u);
}

TEST_F(DecoderTest, UnchangedToastIsMarked) {
  Feed({Begin(200), RelationOf(kItems), Update(kItems, {"1", "pen", Datum::Unchanged()}),
        Update(kItems, {"1", "x", "y"}), Commit(200, 220)});
  const auto batch = reader_.Take();
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
  const auto batch = reader_.Take();
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
  const Status status = FeedUntilError(
      {Begin(200), testing::Relation(kItems, "shop", "items", columns, 'f'),
       UpdateWithOld(kItems, 'O', {"1", nullptr, nullptr}, {"1", "quill", Datum::Unchanged()}),
       Delete(kItems, 'O', {nullptr, "pen", "large"}), Commit(200, 220)});
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("key column 'id'"));

  Restart();
  Feed({Begin(200), testing::Relation(kItems, "shop", "items", columns, 'f'),
        UpdateWithOld(kItems, 'O', {"1", nullptr, nullptr}, {"1", "quill", Datum::Unchanged()}),
        Commit(200, 220)});
  EXPECT_EQ(reader_.Take()->tables[0].unchanged_toast.size(), 1u);
}

// PostgreSQL 15.0 and 15.1 send the old image of an update under a column list with all columns of
// the table: bytes that cannot be told apart are refused, not guessed at.
// Cases: 31.
TEST_F(DecoderTest, AnOldRowOfOtherColumnsThanDescribedIsRefused) {
  for (const std::vector<Datum>& old :
       std::vector<std::vector<Datum>>{{"1", nullptr, nullptr, nullptr}, {"1"}}) {
    Restart();
    EXPECT_EQ(FeedUntilError({Begin(200), RelationOf(kItems),
                              UpdateWithOld(kItems, 'K', old, {"2", "pen", "x"}), Commit(200, 220)})
                  .code(),
              Code::kCorruption);
  }
}

TEST_F(DecoderTest, AChangedKeyKeepsItsOldRow) {
  Feed({Begin(200), RelationOf(kItems),
        UpdateWithOld(kItems, 'K', {"1", nullptr, nullptr}, {"2", "pen", Datum::Unchanged()}),
        Commit(200, 220)});
  const auto batch = reader_.Take();
  const TableChanges& changes = batch->tables[0];
  ASSERT_EQ(changes.changes[0].old_row, 0u);
  EXPECT_EQ(changes.old_rows.column(0).Value<int64_t>(0), 1);
  // The old row is of the key only, so that it says nothing of the payload.
  EXPECT_EQ(changes.unchanged_toast.size(), 1u);
}

TEST_F(DecoderTest, AToastedKeyThatDidNotChangeIsFilledAndItsOldRowDropped) {
  const std::vector<RelationColumn> columns = {{"id", kTextOid, true}, {"v", kInt4Oid}};
  TransactionReader::Options options = options_;
  testing::FixedTables tables({testing::MakeTable(kItems, "items", columns)});
  options.resolver = &tables;
  TransactionReader reader(options);
  for (const std::string& message :
       {Begin(200), testing::Relation(kItems, "shop", "items", columns),
        UpdateWithOld(kItems, 'K', {"long key", nullptr}, {Datum::Unchanged(), "5"}),
        UpdateWithOld(kItems, 'K', {"long key", nullptr}, {"other", "6"}), Commit(200, 220)}) {
    ASSERT_TRUE(reader.Decode(message).ok());
  }
  const auto batch = reader.Take();
  const TableChanges& changes = batch->tables[0];
  EXPECT_TRUE(changes.unchanged_toast.empty());
  EXPECT_EQ(changes.new_rows.column(0).Text(0), "long key");
  EXPECT_EQ(changes.changes[0].old_row, kNoRow);
  EXPECT_EQ(changes.changes[1].old_row, 0u);
  EXPECT_EQ(changes.old_rows.row_count(), 1u);
}

TEST_F(DecoderTest, ABadRowTakesItsTransactionBackAndLeavesTheOthers) {
  Feed({Begin(200), RelationOf(kItems), Insert(kItems, {"1", "a", nullptr}), Commit(200, 220)});
  const Status status = FeedUntilError(
      {Begin(230), Insert(kItems, {"2", "b", "c"}), Update(kItems, {"1", "a", Datum::Unchanged()}),
       UpdateWithOld(kItems, 'K', {"2", nullptr, nullptr}, {"3", "b", "c"}), RelationOf(kNotes),
       Insert(kNotes, {"1"}), Delete(kItems, 'K', {"1", nullptr, nullptr}),
       Insert(kItems, {"no number", "b", "c"}), Commit(230, 240)});
  EXPECT_EQ(status.code(), Code::kCorruption);
  ASSERT_TRUE(reader_.can_take());
  const auto batch = reader_.Take();
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
  Restart();
  EXPECT_FALSE(reader_.can_take());
  const Status status = FeedUntilError({Begin(230), Insert(kNotes, {"1"}), Commit(230, 240)});
  EXPECT_EQ(status.code(), Code::kCorruption);
}

TEST_F(DecoderTest, ANullInAColumnThatWasNotNullMakesItNullable) {
  SourceTable strict = *tables_.tables()[0];
  auto table = std::make_shared<Table>(*strict.table);
  Schema columns = *table->columns;
  columns[1].nullable = false;
  table->columns = std::make_shared<const Schema>(columns);
  strict.table = table;
  ASSERT_TRUE(tables_.Load({strict, *tables_.tables()[1]}, {}).ok());
  Feed({Begin(200), RelationOf(kItems), Insert(kItems, {"1", "a", "b"}),
        Insert(kItems, {"2", nullptr, "b"}), Insert(kItems, {"3", "c", nullptr}),
        Commit(200, 220)});
  const auto batch = reader_.Take();
  ASSERT_EQ(batch->tables.size(), 1u);
  EXPECT_TRUE((*batch->tables[0].table->columns)[1].nullable);
  EXPECT_EQ(batch->tables[0].table->version, 2u);
  EXPECT_EQ(batch->tables[0].new_rows.row_count(), 3u);
  EXPECT_TRUE(batch->tables[0].new_rows.column(1).IsNull(1));
  EXPECT_EQ(batch->tables[0].new_rows.column(1).Text(2), "c");
}

TEST_F(DecoderTest, ANullInAPrimaryKeyIsCorrupt) {
  const Status status = FeedUntilError(
      {Begin(200), RelationOf(kItems), Insert(kItems, {nullptr, "a", "b"}), Commit(200, 220)});
  EXPECT_EQ(status.code(), Code::kCorruption);
}

TEST_F(DecoderTest, BadValuesNameTableAndColumnButNotTheValue) {
  const Status status = FeedUntilError(
      {Begin(200), RelationOf(kItems), Insert(kItems, {"secret", "a", "b"}), Commit(200, 220)});
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_THAT(status.message(), HasSubstr("table shop.items, column 'id'"));
  EXPECT_THAT(status.message(), ::testing::Not(HasSubstr("secret")));
  EXPECT_FALSE(reader_.can_take());
}

// `table` as the catalog has it, with one more column behind it.
CatalogTable WithExtra(const SourceTable& table) {
  CatalogTable catalog{.source = table};
  Table with = *table.table;
  Schema columns = *with.columns;
  columns.push_back({"extra", TypeKind::kInt32, true});
  with.columns = std::make_shared<const Schema>(std::move(columns));
  with.toastable.push_back(false);
  catalog.source.table = std::make_shared<const Table>(std::move(with));
  catalog.source.types.push_back({.declared_oid = kInt4Oid, .type = {.oid = kInt4Oid}});
  catalog.source.columns.push_back({.attnum = 4, .missing = "5"});
  catalog.source.attnum_max = 4;
  for (const SourceColumn& column : catalog.source.columns) {
    catalog.all_columns.push_back({.attnum = column.attnum});
  }
  return catalog;
}

// Cases: 16.
TEST_F(DecoderTest, RowsOfTwoVersionsOfATableBecomeRowsOfTheNewer) {
  tables_.catalog.tables = {WithExtra(*tables_.tables()[0])};
  auto extended = kItemColumns;
  extended.push_back({"extra", kInt4Oid});
  const std::string relation = testing::Relation(kItems, "shop", "items", extended);
  Feed({Begin(200), RelationOf(kItems), Insert(kItems, {"1", "a", "b"}), relation,
        Insert(kItems, {"2", "c", "d", "7"}), Commit(200, 220)});
  const auto batch = reader_.Take();
  ASSERT_EQ(batch->tables.size(), 1u);
  const RowBatch& rows = batch->tables[0].new_rows;
  ASSERT_EQ(rows.column_count(), 4u);
  EXPECT_EQ(rows.column(3).Value<int32_t>(0), 5);
  EXPECT_EQ(rows.column(3).Value<int32_t>(1), 7);
}

TEST_F(DecoderTest, ADescriptionThatNoRowUsesHasNoEffect) {
  auto extended = kItemColumns;
  extended.push_back({"extra", kInt4Oid});
  Feed({Begin(200), testing::Relation(kItems, "shop", "items", extended), RelationOf(kItems),
        Insert(kItems, {"1", "a", "b"}), Commit(200, 220)});
  EXPECT_EQ(reader_.Take()->tables[0].table, tables_.tables()[0]->table);
}

// The catalog has no such table: what became of it cannot be told.
TEST_F(DecoderTest, ChangesOfAPausedTableCountAndAreLeftOut) {
  auto renamed = kItemColumns;
  renamed[1].name = "title";
  Feed({Begin(200), testing::Relation(kItems, "shop", "items", renamed), RelationOf(kNotes),
        Insert(kItems, {"1", "a", "b"}), Delete(kItems, 'K', {"1", nullptr, nullptr}),
        Insert(kNotes, {"1"}), Truncate({kItems}), Insert(kNotes, {"2"}), Commit(200, 220)});
  EXPECT_EQ(reader_.paused_changes(), 3u);
  const auto batch = reader_.Take();
  ASSERT_EQ(batch->tables.size(), 1u);
  EXPECT_EQ(batch->tables[0].changes[0].ordinal, 3u);
  EXPECT_EQ(batch->tables[0].changes[1].ordinal, 5u);
}

TEST_F(DecoderTest, RowsThatDoNotFitTheirDescriptionAreCorrupt) {
  const std::vector<std::vector<std::string>> cases = {
      {Insert(kItems, {"1", "a", "b"})},
      {RelationOf(kItems), Insert(kItems, {"1", "a"})},
      {RelationOf(kItems), Insert(kItems, {"1", "a", "b", "c"})},
      {RelationOf(kItems), Delete(kItems, 'N', {"1", "a", "b"})},
      {RelationOf(kItems), Delete(kItems, 'K', {Datum::Unchanged(), "a", "b"})},
      {RelationOf(kItems), Message('I').U32(kItems).Char('K').bytes()},
      {RelationOf(kItems), Message('I').U32(kItems).Char('N').U16(3).Char('b').U32(0).bytes()},
      {RelationOf(kItems),
       Message('I').U32(kItems).Char('N').U16(3).Char('t').U32(0xffffffff).bytes()},
      {Truncate({kItems})},
      {RelationOf(kItems), Message('T').U32(0xffffffff).U8(0).U32(kItems).bytes()},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    Restart();
    Feed({Begin(200)});
    Feed(cases[i]);
    EXPECT_EQ(reader_.Decode(Commit(200, 220)).code(), Code::kCorruption) << "case " << i;
    EXPECT_FALSE(reader_.can_take()) << "case " << i;
  }
}

}  // namespace
}  // namespace millrace::sources::postgres
