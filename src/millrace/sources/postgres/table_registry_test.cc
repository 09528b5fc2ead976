// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/table_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "millrace/sources/postgres/testing/captured_command.h"
#include "millrace/sources/postgres/testing/fixed_tables.h"
#include "millrace/sources/postgres/testing/model_table.h"

namespace millrace::sources::postgres {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ModelTable;
using testing::NamesOf;

class RegistryTest : public ::testing::Test {
 protected:
  RegistryTest() : model_({"id", "a"}), tables_({model_.Catalog().source}) {
    ChangeBatch batch;
    tables_.Complete(batch);
    EXPECT_EQ(batch.notes.size(), 1U);
    Show();
  }

  // The server's catalog is the model's.
  void Show(uint64_t wal_end = 0) {
    tables_.catalog.tables = {model_.Catalog()};
    tables_.catalog.wal_end = Lsn(wal_end);
  }

  ModelTable model_;
  testing::FixedTables tables_;
};

TEST_F(RegistryTest, AChangeBecomesANoteAndANewShapeOfTheBatch) {
  ChangeBatch batch;
  batch.tables.emplace_back(tables_.tables()[0]->table);
  batch.tables[0].new_rows.column(0).Append<int32_t>(1);
  batch.tables[0].new_rows.column(1).Append<int32_t>(2);
  model_.Add("b", kInt4Oid, "7");
  Show();
  const Result<ResolvedRelation> rows = tables_.Resolve(model_.Relation(), Xid(5));
  ASSERT_TRUE(rows.ok()) << rows.status().ToString();
  EXPECT_EQ(rows->table->table->version, 2U);
  EXPECT_TRUE(tables_.has_news());
  EXPECT_TRUE(tables_.Complete(batch));
  ASSERT_EQ(batch.notes.size(), 1U);
  EXPECT_EQ(batch.notes[0].name, "table/public.t");
  EXPECT_EQ(batch.tables[0].table, rows->table->table);
  EXPECT_EQ(batch.tables[0].new_rows.column(2).Value<int32_t>(0), 7);
  EXPECT_FALSE(tables_.has_news());

  // The next start goes on from the note.
  SourceState state;
  state.position = SourcePosition{};
  state.notes[batch.notes[0].name] = *batch.notes[0].text;
  ASSERT_TRUE(tables_.Load({model_.Catalog().source}, state).ok());
  EXPECT_EQ(tables_.tables()[0]->table->version, 2U);
  EXPECT_FALSE(tables_.has_news());
}

TEST_F(RegistryTest, ACatalogCountsOnceTheStreamHasPassedIt) {
  model_.Rename("a", "alpha");
  Show(500);
  ASSERT_TRUE(tables_.ReadCatalog().ok());
  EXPECT_FALSE(tables_.PassedCatalog(Lsn(499)));
  EXPECT_TRUE(tables_.PassedCatalog(Lsn(500)));
  ChangeBatch batch;
  EXPECT_TRUE(tables_.Complete(batch));
  ASSERT_EQ(batch.tables.size(), 1U);
  EXPECT_EQ((*batch.tables[0].table->columns)[1].name, "alpha");
  EXPECT_THAT(batch.tables[0].table->former_names, ElementsAre(ElementsAre("id", "a")));
  EXPECT_FALSE(tables_.PassedCatalog(Lsn(501)));
}

// The engine sees neither, but who reads the table has to begin with them.
TEST_F(RegistryTest, WhatOnlyAReaderSeesIsNewsOfTheTable) {
  const auto is_news = [&] {
    Show(500);
    EXPECT_TRUE(tables_.ReadCatalog().ok());
    EXPECT_TRUE(tables_.PassedCatalog(Lsn(500)));
    EXPECT_TRUE(IsAsKnown(*tables_.tables()[0], tables_.catalog.tables[0]));
    const bool result =
        tables_.HasNewsOf([](const std::string& name) { return name == "public.t"; });
    ChangeBatch batch;
    tables_.Complete(batch);
    EXPECT_EQ(batch.notes.size(), 1U);
    return result;
  };
  const TablePtr before = tables_.tables()[0]->table;
  model_.Drop("a");
  EXPECT_TRUE(is_news());
  EXPECT_EQ(tables_.tables()[0]->table, before);
  model_.SetRowFilter("id > 5");
  EXPECT_TRUE(is_news());
  EXPECT_EQ(tables_.tables()[0]->table, before);
  EXPECT_EQ(tables_.tables()[0]->row_filter, "id > 5");
}

TEST_F(RegistryTest, ACatalogThatTheStreamHasOvertakenCountsForNothing) {
  Show(500);
  ASSERT_TRUE(tables_.ReadCatalog().ok());
  model_.Add("b");
  Show(600);
  ASSERT_TRUE(tables_.Resolve(model_.Relation(), Xid(5)).ok());
  EXPECT_FALSE(tables_.PassedCatalog(Lsn(700)));
  EXPECT_THAT(NamesOf(*tables_.tables()[0]), ElementsAre("id", "a", "b"));
}

TEST_F(RegistryTest, ATransactionThatNobodySeesYetIsWaitedFor) {
  model_.Add("b");
  Show();
  tables_.catalog.snapshot = {.xmin = 5, .xmax = 6, .running = {5}};
  EXPECT_EQ(tables_.Resolve(model_.Relation(), Xid(5)).status().code(), Code::kUnavailable);
  EXPECT_TRUE(tables_.Resolve(model_.Relation(), Xid(4)).ok());
}

TEST_F(RegistryTest, APausedTableKeepsNothingUntilItIsReadAgain) {
  model_.MakeAnew();
  Show();
  tables_.catalog.snapshot = {.xmin = 6, .xmax = 6, .running = {}};
  tables_.catalog.oid_of_name["public.t"] = model_.Relation().oid;
  Result<ResolvedRelation> rows = tables_.Resolve(model_.Relation(), Xid(5));
  ASSERT_TRUE(rows.ok());
  EXPECT_EQ(rows->table, nullptr);
  EXPECT_TRUE(rows->is_paused);
  ASSERT_EQ(tables_.Paused().size(), 1U);
  EXPECT_THAT(tables_.Paused()[0].second, HasSubstr("dropped and created again"));
  ASSERT_TRUE(tables_.ReadAgain("public.t", /*covers=*/true).ok());
  rows = tables_.Resolve(model_.Relation(), Xid(6));
  EXPECT_NE(rows->table, nullptr);
  EXPECT_TRUE(tables_.Paused().empty());
  EXPECT_EQ(tables_.ReadAgain("public.none", true).status().code(), Code::kNotFound);
}

TEST_F(RegistryTest, ATableThatIsReadAgainLeavesOutWhatItsReadingCovers) {
  const RelationMessage older = model_.Relation();
  model_.Add("b");
  model_.Rewrite();
  const RelationMessage at_pause = model_.Relation();
  model_.Rename("a", "x");
  model_.Retype("b", kTextOid);
  Show(500);
  tables_.catalog.snapshot = {.xmin = 7, .xmax = 9, .running = {7}};
  tables_.catalog.oid_of_name["public.t"] = older.oid;
  ASSERT_TRUE(tables_.Resolve(at_pause, Xid(5))->is_paused);
  ASSERT_TRUE(tables_.ReadAgain("public.t", /*covers=*/true).ok());
  const auto expect = [&](const RelationMessage& relation, Xid transaction, bool is_left_out) {
    const Result<ResolvedRelation> rows = tables_.Resolve(relation, transaction);
    ASSERT_TRUE(rows.ok()) << rows.status().ToString();
    EXPECT_EQ(rows->is_paused, is_left_out);
    EXPECT_EQ(rows->table == nullptr, is_left_out);
    EXPECT_TRUE(rows->is_transient);
  };
  expect(older, Xid(4), true);
  expect(at_pause, Xid(6), true);
  expect(model_.Relation(), Xid(8), true);
  expect(model_.Relation(), Xid(7), false);
  expect(model_.Relation(), Xid(9), false);
  EXPECT_TRUE(tables_.Paused().empty());

  // Also behind a restart, but not on another server.
  ChangeBatch batch;
  tables_.Complete(batch);
  SourceState state;
  state.position = SourcePosition{};
  state.notes[batch.notes[0].name] = *batch.notes[0].text;
  ASSERT_TRUE(tables_.Load({model_.Catalog().source}, state).ok());
  expect(at_pause, Xid(6), true);
  state.position->epoch = Epoch(1);
  ASSERT_TRUE(tables_.Load({model_.Catalog().source}, state).ok());
  EXPECT_FALSE(tables_.Resolve(model_.Relation(), Xid(6))->is_paused);
  state.position->epoch = Epoch(0);
  ASSERT_TRUE(tables_.Load({model_.Catalog().source}, state).ok());

  // And no longer than until the stream has come there.
  ASSERT_TRUE(tables_.ReadCatalog().ok());
  EXPECT_FALSE(tables_.PassedCatalog(Lsn(499)));
  EXPECT_TRUE(tables_.tables()[0]->covered.has_value());
  EXPECT_TRUE(tables_.PassedCatalog(Lsn(500)));
  EXPECT_FALSE(tables_.tables()[0]->covered.has_value());
  EXPECT_FALSE(tables_.Resolve(model_.Relation(), Xid(10))->is_transient);
}

TEST_F(RegistryTest, ALargeTransactionIsReadTwice) {
  const RelationMessage first = model_.Relation();
  model_.Add("b");
  Show();
  ASSERT_TRUE(tables_.Resolve(first, Xid(5)).ok());
  ASSERT_TRUE(tables_.Resolve(model_.Relation(), Xid(5)).ok());
  const Result<ResolvedRelation> again = tables_.Resolve(first, Xid(5));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->table->table->version, 2U);
  EXPECT_THAT(again->places, ElementsAre(0, 1));
  EXPECT_THAT(again->absent, ElementsAre(2));
}

// Cases: 35.
TEST_F(RegistryTest, ATableMadeAnewIsTakenUpAsItIsNow) {
  SourceState state;
  state.position = SourcePosition{};
  state.notes["table/public.t"] = FormatTableNote(*tables_.tables()[0]);
  const RelationMessage older = model_.Relation();
  model_.MakeAnew();
  model_.Add("b");
  Show();
  tables_.catalog.oid_of_name["public.t"] = model_.Relation().oid;
  ASSERT_TRUE(tables_.Load({model_.Catalog().source}, state).ok());
  EXPECT_EQ(tables_.tables()[0]->table->oid, model_.Relation().oid);
  EXPECT_EQ(tables_.tables()[0]->table->version, 2U);
  EXPECT_TRUE(tables_.has_news());
  // Rows of the table that had the name before may still come.
  const Result<ResolvedRelation> rows = tables_.Resolve(older, Xid(5));
  ASSERT_TRUE(rows.ok()) << rows.status().ToString();
  EXPECT_EQ(rows->table, nullptr);
  EXPECT_FALSE(rows->is_paused);
  EXPECT_TRUE(tables_.Paused().empty());
}

// The triggers write what becomes of the table; the catalog knows only its end.
class CapturedTest : public RegistryTest {
 protected:
  CapturedTest() {
    tables_.CaptureCommands(testing::kTestKey, {});
    tables_.catalog.tables.clear();
    tables_.Begin(Xid(5));
  }

  bool Take() { return tables_.TakeCommand(testing::CapturedCommand(model_).dump()); }
  std::vector<uint32_t> Places() {
    const Result<ResolvedRelation> rows = tables_.Resolve(model_.Relation(), Xid(5));
    EXPECT_TRUE(rows.ok() && rows->table != nullptr);
    return rows.ok() ? rows->places : std::vector<uint32_t>();
  }
  std::vector<std::string> Names() const { return NamesOf(*tables_.tables()[0]); }
  const std::string& Paused() const { return tables_.tables()[0]->paused; }
};

TEST_F(CapturedTest, TheSameNameAgainIsAnotherColumn) {
  EXPECT_THAT(Places(), ElementsAre(0, 1));
  model_.Drop("a");
  model_.Add("a", kInt4Oid, "7");
  EXPECT_TRUE(Take());
  EXPECT_THAT(Names(), ElementsAre("id", "a_dropped_2 dropped", "a"));
  EXPECT_THAT(Places(), ElementsAre(0, 2));
  EXPECT_EQ(tables_.tables()[0]->table->fill->column(2).Value<int32_t>(0), 7);
}

TEST_F(CapturedTest, ASecondPassMeetsEachVersionWhereItStands) {
  const RelationMessage before = model_.Relation();
  EXPECT_THAT(Places(), ElementsAre(0, 1));
  model_.Drop("a");
  model_.Add("a");
  const std::string content = testing::CapturedCommand(model_).dump();
  EXPECT_TRUE(tables_.TakeCommand(content));
  EXPECT_THAT(Places(), ElementsAre(0, 2));
  EXPECT_EQ(before, model_.Relation());

  tables_.Begin(Xid(5));
  EXPECT_THAT(Places(), ElementsAre(0, 1));
  EXPECT_TRUE(tables_.TakeCommand(content));
  EXPECT_THAT(Places(), ElementsAre(0, 2));
  EXPECT_THAT(Names(), ElementsAre("id", "a_dropped_2 dropped", "a"));
}

TEST_F(CapturedTest, NamesThatAreGivenOnAreFollowedAndExchangedOnesReadAgain) {
  model_.Add("b");
  EXPECT_TRUE(Take());
  model_.Rename("a", "x");
  EXPECT_TRUE(Take());
  model_.Rename("b", "a");
  EXPECT_TRUE(Take());
  EXPECT_THAT(Names(), ElementsAre("id", "x", "a"));
  EXPECT_EQ(Paused(), "");
  model_.Rename("x", "b");
  EXPECT_TRUE(Take());
  EXPECT_THAT(Paused(), HasSubstr("exchanged their names"));
  EXPECT_THAT(tables_.Mendable(Mend::kReadAgain), ElementsAre("public.t"));
}

TEST_F(CapturedTest, ARewriteWithOtherValuesIsReadAgain) {
  const auto rewrite = [&](bool may_convert) {
    return testing::CapturedRewrite({model_.Relation().oid}, 4, may_convert).dump();
  };
  EXPECT_TRUE(tables_.TakeCommand(rewrite(false)));
  model_.Retype("a", kInt8Oid);
  EXPECT_TRUE(Take());
  EXPECT_EQ(Paused(), "");
  EXPECT_TRUE(tables_.TakeCommand(rewrite(true)));
  EXPECT_THAT(Paused(), HasSubstr("USING"));
  // Not as it was: a commit is decoded before others see it.
  Show();
  tables_.catalog.oid_of_name["public.t"] = model_.Relation().oid;
  tables_.catalog.snapshot = {.xmin = 5, .xmax = 5, .running = {}};
  EXPECT_EQ(tables_.ReadAgain("public.t", false).status().code(), Code::kUnavailable);
  tables_.catalog.snapshot = {.xmin = 6, .xmax = 6, .running = {}};
  EXPECT_TRUE(tables_.ReadAgain("public.t", false).ok());
  EXPECT_EQ(Paused(), "");
}

TEST_F(CapturedTest, ADefaultThatARewriteComputedIsReadAgain) {
  EXPECT_TRUE(
      tables_.TakeCommand(testing::CapturedRewrite({model_.Relation().oid}, 2, false).dump()));
  model_.Add("v", kInt4Oid, "1");
  model_.Rewrite();
  EXPECT_TRUE(Take());
  EXPECT_THAT(tables_.Mendable(Mend::kReadAgain), ElementsAre("public.t"));
}

TEST_F(CapturedTest, OldAndForeignCommandsChangeNothing) {
  const std::string old = testing::CapturedCommand(model_).dump();
  model_.Add("b");
  EXPECT_TRUE(Take());
  tables_.Begin(Xid(6));
  EXPECT_TRUE(tables_.TakeCommand(old));
  EXPECT_THAT(Names(), ElementsAre("id", "a", "b"));
  model_.Drop("b");
  auto forged = testing::CapturedCommand(model_);
  forged["key"] = "guessed";
  EXPECT_FALSE(tables_.TakeCommand(forged.dump()));
  EXPECT_THAT(Names(), ElementsAre("id", "a", "b"));
}

TEST_F(CapturedTest, ATableThatWasReadAgainShowsCommandsThatAreStillToCome) {
  const std::string still_to_come = [&] {
    model_.Add("b");
    return testing::CapturedCommand(model_).dump();
  }();
  model_.Rename("b", "beta");
  Show();
  tables_.catalog.oid_of_name["public.t"] = model_.Relation().oid;
  // The snapshot sees every transaction up to 1,000,000,000.
  ASSERT_TRUE(tables_.ReadAgain("public.t", false).ok());
  EXPECT_THAT(Names(), ElementsAre("id", "a", "beta"));
  EXPECT_TRUE(tables_.TakeCommand(still_to_come));
  EXPECT_THAT(Names(), ElementsAre("id", "a", "beta"));
}

}  // namespace
}  // namespace millrace::sources::postgres
