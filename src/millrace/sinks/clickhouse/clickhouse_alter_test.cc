// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_alter.h"

#include <regex>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/sinks/testing/sink_test_support.h"

namespace millrace::sinks::clickhouse {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

StreamPtr Version(uint32_t version, Schema columns, std::string table = "public.t") {
  auto stream = std::make_shared<Stream>(*testing::MakeStream("t", std::move(columns), {0}));
  stream->schema_version = SchemaVersion(version);
  stream->table = std::move(table);
  return stream;
}

// A table as `stream` needed it.
TableFacts FactsOf(const StreamPtr& stream) {
  TableFacts facts;
  const Result<TableNeed> need = MakeTableNeed({.stream = "t", .table = "t"}, "app", stream, "");
  EXPECT_TRUE(need.ok()) << need.status().ToString();
  for (const ColumnNeed& column : need->columns) {
    facts.columns[column.name] = {.type = column.type};
  }
  facts.columns["id"].is_in_sorting_key = true;
  return facts;
}

Result<std::vector<std::string>> Alter(const StreamPtr& to, const std::vector<StreamPtr>& earlier,
                                       const TableFacts& facts) {
  const Result<TableNeed> need = MakeTableNeed({.stream = "t", .table = "t"}, "app", to, "");
  EXPECT_TRUE(need.ok()) << need.status().ToString();
  return AlterTableSql(*need, earlier, facts);
}

const Field kId = {"id", TypeKind::kInt32, false};

// What stands between backticks in the statements that rename columns: "a>b" for each of them.
std::vector<std::string> Renamed(const std::vector<std::string>& statements) {
  std::vector<std::string> renamed;
  for (const std::string& sql : statements) {
    const std::regex begin("ADD COLUMN `(\\w+)` .*DEFAULT `(\\w+)`.*COMMENT COLUMN.*");
    const std::regex end(".*DROP COLUMN `(\\w+)`");
    std::smatch match;
    if (std::regex_search(sql, match, begin)) {
      renamed.push_back(fmt::format("{}>{}", match[2].str(), match[1].str()));
    } else if (std::regex_search(sql, match, end)) {
      renamed.push_back(match[1].str() + " gone");
    }
  }
  return renamed;
}

TEST(AlterTable, FollowsEachKindOfChange) {
  const StreamPtr first =
      Version(1, {kId, {"a", TypeKind::kInt32, false}, {"b", TypeKind::kText, false}});
  auto second = std::make_shared<Stream>(*Version(2, {kId,
                                                      {"alpha", TypeKind::kInt64, false},
                                                      {"b", TypeKind::kText, true},
                                                      {"c", TypeKind::kInt32, false},
                                                      {"d", TypeKind::kText, true}}));
  auto fill = std::make_shared<RowBatch>(second->columns);
  fill->AppendNullRow();
  Column five(TypeKind::kInt32);
  five.Append<int32_t>(5);
  fill->column(3) = std::move(five);
  second->fill = fill;

  const auto statements = Alter(second, {first}, FactsOf(first));
  ASSERT_TRUE(statements.ok()) << statements.status().ToString();
  EXPECT_THAT(
      *statements,
      ElementsAre("ALTER TABLE `app`.`t` ADD COLUMN `alpha` Int32 DEFAULT `a` AFTER `a`, COMMENT "
                  "COLUMN `a` 'Millrace copies it to `alpha` and drops it'",
                  "ALTER TABLE `app`.`t` MATERIALIZE COLUMN `alpha`",
                  "ALTER TABLE `app`.`t` MODIFY COLUMN `alpha` REMOVE DEFAULT",
                  "ALTER TABLE `app`.`t` DROP COLUMN `a`",
                  "ALTER TABLE `app`.`t` MODIFY COLUMN `alpha` Int64",
                  "ALTER TABLE `app`.`t` MODIFY COLUMN `b` Nullable(String)",
                  "ALTER TABLE `app`.`t` ADD COLUMN IF NOT EXISTS `c` Int32 DEFAULT CAST('5' AS "
                  "Int32) AFTER `b`",
                  "ALTER TABLE `app`.`t` ADD COLUMN IF NOT EXISTS `d` Nullable(String) AFTER `c`"));
  // Where it is done nothing is left to do; half done, the rest.
  EXPECT_THAT(*Alter(second, {first}, FactsOf(second)), IsEmpty());
  TableFacts half = FactsOf(first);
  half.columns["alpha"] = half.columns["a"];
  half.columns.erase("a");
  half.columns["c"] = {.type = "Int32"};
  EXPECT_THAT(*Alter(second, {first}, half),
              ElementsAre(HasSubstr("`alpha` Int64"), HasSubstr("`b` Nullable"), HasSubstr("`d`")));
}

TEST(AlterTable, AFormerNameGoesToAnotherColumn) {
  const StreamPtr first = Version(1, {kId, {"a", TypeKind::kInt32, true}});
  const StreamPtr second =
      Version(2, {kId, {"old_a", TypeKind::kInt32, true}, {"a", TypeKind::kText, true}});
  const auto statements = *Alter(second, {first}, FactsOf(first));
  EXPECT_THAT(Renamed(statements), ElementsAre("a>old_a", "a gone"));
  EXPECT_THAT(statements.back(), HasSubstr("ADD COLUMN IF NOT EXISTS `a` Nullable(String)"));
}

TEST(AlterTable, SkipsVersionsThatTheTableNeverWasOf) {
  const StreamPtr first = Version(1, {kId, {"a", TypeKind::kInt16, true}});
  const StreamPtr second = Version(2, {kId, {"b", TypeKind::kInt32, true}});
  const StreamPtr third =
      Version(3, {kId, {"c", TypeKind::kInt64, true}, {"d", TypeKind::kText, true}});
  for (const StreamPtr& from : {first, second}) {
    EXPECT_THAT(
        *Alter(third, {second, first}, FactsOf(from)),
        ElementsAre(HasSubstr("ADD COLUMN `c`"), HasSubstr("MATERIALIZE"), HasSubstr("REMOVE"),
                    HasSubstr("DROP"), HasSubstr("`c` Nullable(Int64)"),
                    HasSubstr("ADD COLUMN IF NOT EXISTS `d`")));
  }
}

TEST(AlterTable, ANameIsGivenOnByColumnsBehindEachOther) {
  const auto version = [](uint32_t number, const char* first, const char* second) {
    return Version(number,
                   {kId, {first, TypeKind::kInt32, true}, {second, TypeKind::kInt32, true}});
  };
  const StreamPtr first = version(1, "b", "a");
  const StreamPtr second = version(2, "b", "x");
  const StreamPtr third = version(3, "a", "x");
  // The table is of the first: its `a` is not the one of the third.
  EXPECT_THAT(Renamed(*Alter(version(4, "c", "x"), {third, second, first}, FactsOf(first))),
              ElementsAre("b>c", "b gone", "a>x", "a gone"));
  EXPECT_THAT(Renamed(*Alter(version(4, "c", "x"), {third, second, first}, FactsOf(third))),
              ElementsAre("a>c", "a gone"));
  // A name has to be given up before it is taken, also where a crash came between.
  const StreamPtr moved = version(2, "a", "z");
  EXPECT_THAT(Renamed(*Alter(moved, {first}, FactsOf(first))),
              ElementsAre("a>z", "a gone", "b>a", "b gone"));
  EXPECT_THAT(Renamed(*Alter(moved, {first}, FactsOf(version(2, "b", "z")))),
              ElementsAre("b>a", "b gone"));
  EXPECT_THAT(*Alter(moved, {first}, FactsOf(moved)), IsEmpty());
}

TEST(AlterTable, ACopyOfAColumnIsFinished) {
  const StreamPtr first = Version(1, {kId, {"a", TypeKind::kInt32, true}});
  const StreamPtr second =
      Version(2, {kId, {"old_a", TypeKind::kInt32, true}, {"a", TypeKind::kText, true}});
  TableFacts facts = FactsOf(first);
  facts.columns["a"].comment = "Millrace copies it to `old_a` and drops it";
  facts.columns["old_a"] = {.type = "Nullable(Int32)", .default_kind = "DEFAULT"};
  EXPECT_THAT(*Alter(second, {first}, facts),
              ElementsAre(HasSubstr("MATERIALIZE COLUMN `old_a`"), HasSubstr("`old_a` REMOVE"),
                          HasSubstr("DROP COLUMN `a`"), HasSubstr("`a` Nullable(String)")));
  // With the default gone every row has its copy, and new ones perhaps none under the former name.
  facts.columns["old_a"] = {.type = "Nullable(Int32)"};
  EXPECT_THAT(*Alter(second, {first}, facts),
              ElementsAre(HasSubstr("DROP COLUMN `a`"), HasSubstr("`a` Nullable(String)")));
}

TEST(AlterTable, AColumnKeepsWhatItsOperatorGaveIt) {
  const StreamPtr first = Version(1, {kId, {"a", TypeKind::kText, true}});
  TableFacts facts = FactsOf(first);
  facts.columns["a"].codec = "CODEC(ZSTD(3))";
  facts.columns["a"].comment = "what's said";
  EXPECT_THAT(Alter(Version(2, {kId, {"b", TypeKind::kText, true}}), {first}, facts)->front(),
              HasSubstr("DEFAULT `a` COMMENT 'what\\'s said' CODEC(ZSTD(3)) AFTER `a`"));
}

TEST(AlterTable, AVersionIsKnownAlthoughAColumnWasDroppedByHand) {
  const auto version = [](uint32_t number, const char* last) {
    return Version(number, {kId, {"a", TypeKind::kInt32, true}, {last, TypeKind::kInt32, true}});
  };
  TableFacts facts = FactsOf(version(1, "b"));
  facts.columns.erase("a");
  EXPECT_THAT(Renamed(*Alter(version(2, "beta"), {version(1, "b")}, facts)),
              ElementsAre("b>beta", "b gone"));
}

TEST(AlterTable, RefusesToTouchASortingKey) {
  const StreamPtr first = Version(1, {kId});
  for (const Field& field :
       {Field{"key", TypeKind::kInt32, false}, Field{"id", TypeKind::kInt64, false}}) {
    const auto statements = Alter(Version(2, {field}), {first}, FactsOf(first));
    EXPECT_EQ(statements.status().code(), Code::kFailedPrecondition);
    EXPECT_THAT(statements.status().message(), HasSubstr("sorting key"));
  }
}

TEST(AlterTable, LeavesAnOperatorsColumnsAlone) {
  const StreamPtr first = Version(1, {kId, {"a", TypeKind::kInt32, true}});
  const StreamPtr second = Version(2, {kId, {"a", TypeKind::kInt64, true}});
  TableFacts facts = FactsOf(first);
  facts.columns["a"].type = "Nullable(String)";
  EXPECT_THAT(*Alter(second, {first}, facts), IsEmpty());
  // A column that every version has was dropped by someone.
  facts.columns.erase("a");
  EXPECT_THAT(*Alter(second, {first}, facts), IsEmpty());
  // Columns of SQL come and go with the configuration.
  const StreamPtr sql = Version(2, {kId, {"z", TypeKind::kInt32, true}}, "");
  EXPECT_THAT(*Alter(sql, {Version(1, {kId}, "")}, FactsOf(first)), IsEmpty());
  // They widen with what they are made of.
  EXPECT_THAT(*Alter(Version(2, {kId, {"a", TypeKind::kInt64, true}}, ""),
                     {Version(1, {kId, {"a", TypeKind::kInt32, true}}, "")}, FactsOf(first)),
              ElementsAre(HasSubstr("MODIFY COLUMN `a` Nullable(Int64)")));
}

TEST(AlterTable, AColumnOfATableMadeAnewIsEmptied) {
  const StreamPtr first = Version(1, {kId, {"a", TypeKind::kText, true}});
  const StreamPtr second = Version(2, {kId, {"a", TypeKind::kInt32, true}});
  EXPECT_THAT(*Alter(second, {first}, FactsOf(first)),
              ElementsAre("ALTER TABLE `app`.`t` DROP COLUMN `a`",
                          HasSubstr("ADD COLUMN IF NOT EXISTS `a` Nullable(Int32)")));
}

std::string Expression(const DataType& type, const std::function<void(Column&)>& append,
                       bool as_string = false) {
  Column column(type);
  append(column);
  return ValueExpression(column, 0, as_string);
}

TEST(ValueExpression, OfEachKind) {
  EXPECT_EQ(Expression(TypeKind::kInt64, [](Column& c) { c.Append<int64_t>(-4); }),
            "CAST('-4' AS Int64)");
  EXPECT_EQ(Expression(TypeKind::kInt64, [](Column& c) { c.AppendNull(); }), "NULL");
  EXPECT_EQ(Expression(TypeKind::kText, [](Column& c) { c.AppendText("it's\\"); }), "'it\\'s\\\\'");
  EXPECT_EQ(Expression(TypeKind::kFloat64, [](Column& c) { c.Append<double>(1.0); }),
            "reinterpretAsFloat64(toUInt64(4607182418800017408))");
  EXPECT_EQ(Expression(TypeKind::kTimestampTz, [](Column& c) { c.Append<int64_t>(-1); }),
            "fromUnixTimestamp64Micro(toInt64(-1), 'UTC')");
  EXPECT_EQ(Expression(DataType::Decimal(6, 2), [](Column& c) { c.Append<int32_t>(-150); }),
            "CAST('-1.50' AS Decimal(6, 2))");
  EXPECT_EQ(Expression(DataType::List(TypeKind::kText),
                       [](Column& c) {
                         c.child().AppendText("a");
                         c.child().AppendNull();
                         c.AppendListEnd();
                       }),
            "['a', NULL]");
  EXPECT_EQ(Expression(
                TypeKind::kInt32, [](Column& c) { c.Append<int32_t>(3); }, true),
            "'3'");
}

}  // namespace
}  // namespace millrace::sinks::clickhouse
