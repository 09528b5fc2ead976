// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/table_history.h"

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/sources/postgres/column_alignment.h"
#include "millrace/sources/postgres/testing/model_table.h"

namespace millrace::sources::postgres {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ModelTable;
using testing::NamesOf;

// What happens between what is known, the rows at hand, and the catalog; and what comes of it.
struct HistoryCase {
  const char* name;
  void (*before_rows)(ModelTable&);
  void (*behind_rows)(ModelTable&);
  std::vector<std::string> expected;  // empty: paused, with `saying`
  const char* saying = "";
  Mend mend = Mend::kNone;
};

void Nothing(ModelTable&) {}

const HistoryCase kCases[] = {
    {"nothing", Nothing, Nothing, {"id", "a", "b"}},
    {"added", [](ModelTable& t) { t.Add("c"); }, Nothing, {"id", "a", "b", "c"}},
    {"added, and another later",
     [](ModelTable& t) { t.Add("c"); },
     [](ModelTable& t) { t.Add("d"); },
     {"id", "a", "b", "c"}},
    {"added, and dropped later",
     [](ModelTable& t) { t.Add("c"); },
     [](ModelTable& t) { t.Drop("c"); },
     {"id", "a", "b", "c"}},
    {"dropped", [](ModelTable& t) { t.Drop("a"); }, Nothing, {"id", "a dropped", "b"}},
    {"the last one dropped", [](ModelTable& t) { t.Drop("b"); }, Nothing, {"id", "a", "b dropped"}},
    {"dropped and another added",
     [](ModelTable& t) {
       t.Drop("a");
       t.Add("c");
     },
     Nothing,
     {"id", "a dropped", "b", "c"}},
    {"renamed", [](ModelTable& t) { t.Rename("a", "alpha"); }, Nothing, {"id", "alpha", "b"}},
    {"renamed, and again later",
     [](ModelTable& t) { t.Rename("a", "x"); },
     [](ModelTable& t) { t.Rename("x", "y"); },
     {"id", "x", "b"}},
    {"renamed, and the name given to another",
     [](ModelTable& t) {
       t.Rename("a", "old_a");
       t.Add("a", kTextOid);
     },
     Nothing,
     {"id", "old_a", "b", "a"}},
    {"widened", [](ModelTable& t) { t.Retype("a", kInt8Oid); }, Nothing, {"id", "a", "b"}},
    {"widened, and renamed later",
     [](ModelTable& t) { t.Retype("a", kInt8Oid); },
     [](ModelTable& t) { t.Rename("a", "alpha"); },
     {"id", "a", "b"}},
    {"another value under the same type",
     [](ModelTable& t) { t.Retype("a", kInt4Oid); },
     Nothing,
     {},
     "TYPE ... USING",
     Mend::kReadAgain},
    {"names swapped",
     [](ModelTable& t) {
       t.Rename("a", "x");
       t.Rename("b", "a");
       t.Rename("x", "b");
     },
     Nothing,
     {},
     "as another column is or was"},
    {"dropped and added under its name",
     [](ModelTable& t) {
       t.Drop("b");
       t.Add("b", kInt8Oid);
     },
     Nothing,
     {},
     "another column is or was called so"},
    {"renamed or another one, nobody can tell",
     [](ModelTable& t) { t.Rename("b", "c"); },
     [](ModelTable& t) {
       t.Drop("c");
       t.Add("d");
       t.Drop("d");
     },
     {},
     "does not tell what became of each"},
    {"another type",
     [](ModelTable& t) { t.Retype("a", kTextOid); },
     Nothing,
     {},
     "has another type"},
    {"narrowed", [](ModelTable& t) { t.Retype("a", kInt2Oid); }, Nothing, {}, "has another type"},
    {"a default that was computed for each row",
     [](ModelTable& t) {
       t.Add("c");
       t.Rewrite();
     },
     Nothing,
     {},
     "was added and the rows were written anew",
     Mend::kReadAgain},
    {"made anew",
     [](ModelTable& t) { t.MakeAnew(); },
     Nothing,
     {},
     "dropped and created again",
     Mend::kTakeUp},
    {"the table renamed",
     [](ModelTable& t) { t.RenameTable("u"); },
     Nothing,
     {},
     "renamed to public.u"},
};

// Cases: 33.
TEST(FollowRelation, TellsWhatBecameOfEachColumn) {
  for (const HistoryCase& c : kCases) {
    ModelTable model({"id", "a", "b"});
    const SourceTablePtr known = model.Known();
    c.before_rows(model);
    const RelationMessage relation = model.Relation();
    const size_t row_columns = relation.columns.size();
    c.behind_rows(model);
    const CatalogTable catalog = model.Catalog();
    const TableStep step = FollowRelation(known, relation, &catalog);
    if (c.expected.empty()) {
      EXPECT_THAT(step.table->paused, HasSubstr(c.saying)) << c.name;
      EXPECT_THAT(step.table->paused,
                  HasSubstr(step.table->mend == Mend::kNone ? "millrace snapshot -c FILE public.t"
                                                            : "until it is read again"))
          << c.name;
      EXPECT_EQ(step.table->mend, c.mend) << c.name;
      EXPECT_EQ(step.table->table, known->table) << c.name;
      continue;
    }
    EXPECT_THAT(step.table->paused, IsEmpty()) << c.name;
    EXPECT_EQ(NamesOf(*step.table), c.expected) << c.name;
    EXPECT_EQ(step.layout.places.size(), row_columns) << c.name;
    EXPECT_EQ(step.changes(known), c.name != std::string("nothing")) << c.name;
    RowLayout layout;
    EXPECT_TRUE(MatchesRelation(*step.table, relation, layout)) << c.name;
    EXPECT_EQ(layout, step.layout) << c.name;
  }
}

// The same changes, seen in the catalog alone.
TEST(FollowCatalog, TellsWhatBecameOfEachColumn) {
  for (const HistoryCase& c : kCases) {
    ModelTable model({"id", "a", "b"});
    const SourceTablePtr known = model.Known();
    c.before_rows(model);
    const CatalogTable catalog = model.Catalog();
    const TableStep step = FollowCatalog(known, &catalog);
    EXPECT_EQ(IsAsKnown(*known, catalog), c.name == std::string("nothing")) << c.name;
    const bool is_clear = c.expected.empty() && *c.saying != 'd';
    if (is_clear && std::string(c.name).find("nobody") == std::string::npos) {
      EXPECT_THAT(step.table->paused, HasSubstr(c.saying)) << c.name;
    } else if (!c.expected.empty()) {
      EXPECT_THAT(step.table->paused, IsEmpty()) << c.name;
      EXPECT_EQ(NamesOf(*step.table), c.expected) << c.name;
    }
  }
  EXPECT_THAT(FollowCatalog(ModelTable({"id"}).Known(), nullptr).table->paused,
              HasSubstr("it was dropped"));
}

TEST(FollowCatalog, ARewriteThatChangesNothingIsNone) {
  ModelTable model({"id", "a"});
  model.Add("c", kInt4Oid, "5");
  SourceTablePtr known = model.Known();
  model.Rewrite();  // VACUUM FULL: the rows hold the missing values now
  CatalogTable catalog = model.Catalog();
  TableStep step = FollowCatalog(known, &catalog);
  EXPECT_THAT(step.table->paused, IsEmpty());
  EXPECT_EQ(step.table->table, known->table);
  // ALTER COLUMN a TYPE int USING a * 100.
  known = step.table;
  model.Retype("a", kInt4Oid);
  catalog = model.Catalog();
  EXPECT_THAT(FollowCatalog(known, &catalog).table->paused, HasSubstr("TYPE ... USING"));
}

// The catalog is ahead by a column whose values were computed; rows that have it come later.
TEST(FollowRelation, ComputedValuesOfALaterColumnAreRead) {
  ModelTable model({"id", "a"});
  const SourceTablePtr known = model.Known();
  model.Rename("a", "alpha");
  const RelationMessage first = model.Relation();
  model.Add("c");
  model.Rewrite();
  const RelationMessage second = model.Relation();
  const CatalogTable catalog = model.Catalog();
  const SourceTablePtr renamed = FollowRelation(known, first, &catalog).table;
  EXPECT_THAT(renamed->paused, IsEmpty());
  EXPECT_THAT(NamesOf(*renamed), ElementsAre("id", "alpha"));
  for (const TableStep& step :
       {FollowRelation(renamed, second, &catalog), FollowCatalog(renamed, &catalog)}) {
    EXPECT_THAT(step.table->paused, HasSubstr("'c' was added and the rows were written anew"));
    EXPECT_EQ(step.table->mend, Mend::kReadAgain);
  }
}

TEST(FollowRelation, OlderRowsHoldWhatTheCatalogSays) {
  ModelTable model({"id"});
  const SourceTablePtr known = model.Known();
  model.Add("n", kInt4Oid, "42");
  model.Add("f", kFloat4Oid, "0.1");
  CatalogTable catalog = model.Catalog();
  TableStep step = FollowRelation(known, model.Relation(), &catalog);
  ASSERT_NE(step.table->table->fill, nullptr);
  EXPECT_EQ(step.table->table->fill->column(1).Value<int32_t>(0), 42);
  EXPECT_EQ(step.table->table->version, known->table->version + 1);
  // It widens with its column.
  model.Retype("f", kFloat8Oid);
  model.Retype("n", kInt8Oid);
  catalog = model.Catalog();
  step = FollowRelation(step.table, model.Relation(), &catalog);
  EXPECT_THAT(step.table->paused, IsEmpty());
  EXPECT_EQ(step.table->table->fill->column(1).Value<int64_t>(0), 42);
  EXPECT_EQ(step.table->table->fill->column(2).Value<double>(0), static_cast<double>(0.1F));
}

TEST(FollowRelation, RowsOlderThanWhatIsKnown) {
  ModelTable model({"id", "a"});
  const RelationMessage older = model.Relation();
  model.Add("c", kInt4Oid, "5");
  const SourceTablePtr known = model.Known();
  const CatalogTable catalog = model.Catalog();
  const TableStep step = FollowRelation(known, older, &catalog);
  EXPECT_FALSE(step.changes(known));
  EXPECT_THAT(step.layout.places, ElementsAre(0, 1));
  EXPECT_THAT(step.layout.absent, ElementsAre(2));
}

TEST(FollowRelation, RowsFromBeforeAWideningThatIsKnown) {
  ModelTable model({"id", "a", "f"});
  model.At("f").type = kFloat4Oid;
  const RelationMessage older = model.Relation();
  model.Retype("a", kInt8Oid);
  SourceTablePtr known = model.Known();
  CatalogTable catalog = model.Catalog();
  const TableStep step = FollowRelation(known, older, &catalog);
  EXPECT_FALSE(step.changes(known));
  EXPECT_THAT(step.layout.places, ElementsAre(0, 1, 2));
  model.Retype("f", kFloat8Oid);
  known = model.Known();
  catalog = model.Catalog();
  const SourceTablePtr paused = FollowRelation(known, older, &catalog).table;
  EXPECT_THAT(paused->paused, HasSubstr("column 'f' comes as it was before it was widened"));
  EXPECT_EQ(paused->mend, Mend::kReadAgain);
}

TEST(FollowRelation, LosingTheFullIdentityPausesWhereValuesAreOutOfLine) {
  for (const uint32_t type : {kInt4Oid, kTextOid}) {
    ModelTable model({"id"});
    model.Add("a", type);
    model.SetIdentity('f');
    const SourceTablePtr known = model.Known();
    model.SetIdentity('d');
    const CatalogTable catalog = model.Catalog();
    const TableStep step = FollowRelation(known, model.Relation(), &catalog);
    EXPECT_EQ(step.table->paused.empty(), type == kInt4Oid);
  }
}

TEST(FollowReadAgain, EndsThePauseWithTheNewColumns) {
  ModelTable model({"id", "a", "b"});
  const SourceTablePtr known = Pause(model.Known(), "something happened");
  model.Drop("a");
  model.Add("a", kTextOid, "x");
  model.Add("c");
  const CatalogTable catalog = model.Catalog();
  const SourceTablePtr next = FollowReadAgain(known, catalog);
  EXPECT_THAT(next->paused, IsEmpty());
  EXPECT_THAT(NamesOf(*next), ElementsAre("id", "a", "b", "c"));
  EXPECT_EQ((*next->table->columns)[1].type.kind, TypeKind::kText);
  EXPECT_EQ(next->table->fill, nullptr);
  RowLayout layout;
  EXPECT_TRUE(FollowRelation(next, model.Relation(), &catalog).table->paused.empty());
  EXPECT_EQ(next->table->version, known->table->version + 1);
}

TEST(TableNote, ThereAndBack) {
  ModelTable model({"id", "a \"q\" \u00e9"});
  SourceTablePtr known = model.Known();
  model.Add("n", kInt4Oid, "42");
  model.Rename("a \"q\" \u00e9", "b");
  const CatalogTable catalog = model.Catalog();
  known = FollowRelation(known, model.Relation(), &catalog).table;
  for (const SourceTablePtr& table : {known, Pause(known, "it is so")}) {
    const Result<SourceTable> read = ParseTableNote(FormatTableNote(*table));
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    EXPECT_EQ(FormatTableNote(*read), FormatTableNote(*table));
    EXPECT_EQ(read->paused, table->paused);
    EXPECT_EQ(*read->table->columns, *table->table->columns);
    EXPECT_EQ(read->columns, table->columns);
    EXPECT_EQ(read->table->former_names, table->table->former_names);
    EXPECT_EQ(read->table->fill->column(2).Value<int32_t>(0), 42);
  }
  EXPECT_EQ(ParseTableNote("{}").status().code(), Code::kCorruption);
  EXPECT_EQ(ParseTableNote("x").status().code(), Code::kCorruption);
  EXPECT_EQ(ParseTableNote(R"({"format": 1})").status().code(), Code::kCorruption);
  EXPECT_EQ(ParseTableNote(R"({"format": 9})").status().code(), Code::kUnsupported);
}

// Random ALTERs, rows between some of them, read while the catalog is ahead by any number of them:
// what is not paused has each column at the place of its number.
TEST(FollowRelation, RandomHistoriesNeverMistakeAColumn) {
  std::mt19937 random(20261122);
  const auto below = [&](size_t n) {
    return std::uniform_int_distribution<size_t>(0, n - 1)(random);
  };
  size_t followed = 0;
  for (int round = 0; round < 3000; ++round) {
    ModelTable model({"id", "a", "b", "c"});
    SourceTablePtr known = model.Known();
    std::vector<ModelTable> states = {model};
    const size_t steps = 1 + below(6);
    for (size_t i = 0; i < steps; ++i) {
      const std::vector<std::string> names = model.Names();
      const std::string& name = names[below(names.size())];
      switch (below(4)) {
        case 0:
          model.Add(fmt::format("n{}", below(6)), below(2) == 0 ? kInt4Oid : kTextOid);
          break;
        case 1:
          if (name != "id") {
            model.Drop(name);
          }
          break;
        case 2:
          if (name != "id") {
            model.Rename(name, fmt::format("n{}", below(6)));
          }
          break;
        default:
          if (model.At(name).type == kInt4Oid) {
            model.Retype(name, kInt8Oid);
          }
      }
      // PostgreSQL refuses a name twice.
      std::vector<std::string> after = model.Names();
      std::sort(after.begin(), after.end());
      if (std::adjacent_find(after.begin(), after.end()) != after.end()) {
        model = states.back();
        continue;
      }
      states.push_back(model);
    }
    size_t at = 0;
    while (at < states.size() && known->paused.empty()) {
      // Rows as of `at`, the catalog as of `now`.
      const size_t now = at + below(states.size() - at);
      const CatalogTable catalog = states[now].Catalog();
      const RelationMessage relation = states[at].Relation();
      RowLayout layout;
      if (!MatchesRelation(*known, relation, layout)) {
        TableStep step = FollowRelation(known, relation, &catalog);
        known = step.table;
        layout = step.layout;
      }
      if (known->paused.empty()) {
        size_t i = 0;
        for (const ModelTable::ModelColumn& column : states[at].columns()) {
          if (column.is_dropped) {
            continue;
          }
          const size_t place = layout.places[i++];
          // A column that was dropped and made again under its name with its type looks the same:
          // only the catalog tells, at the next comparison.
          if (known->columns[place].attnum != column.attnum) {
            EXPECT_TRUE(states[at]
                            .columns()[static_cast<size_t>(known->columns[place].attnum - 1)]
                            .is_dropped)
                << round;
            EXPECT_FALSE(FollowCatalog(known, &catalog).table->paused.empty()) << round;
          }
          EXPECT_EQ((*known->table->columns)[place].name, column.name) << round;
        }
        ++followed;
      }
      at += 1 + below(3);
    }
  }
  EXPECT_GT(followed, 2000U);
}

}  // namespace
}  // namespace millrace::sources::postgres
