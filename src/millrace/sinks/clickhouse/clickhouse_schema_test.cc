// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_schema.h"

#include <gtest/gtest.h>

#include "millrace/sinks/testing/sink_test_support.h"

namespace millrace::sinks::clickhouse {
namespace {

using testing::MakeStream;

StreamPtr Orders() {
  return MakeStream("orders",
                    {{"id", TypeKind::kInt64, false},
                     {"at", TypeKind::kTimestampTz, true},
                     {"kind", TypeKind::kEnum, true},
                     {"tags", DataType::List(TypeKind::kText), true}},
                    {0});
}

TableNeed Need(const TableOptions& options = {.stream = "orders", .table = "orders"},
               const StreamPtr& stream = Orders()) {
  const Result<TableNeed> need = MakeTableNeed(options, "app", stream, "");
  EXPECT_TRUE(need.ok()) << need.status().ToString();
  return *need;
}

Code NeedError(const TableOptions& options, const StreamPtr& stream = Orders()) {
  return MakeTableNeed(options, "app", stream, "").status().code();
}

TEST(ColumnType, OfEveryKind) {
  struct Case {
    DataType type;
    const char* plain = nullptr;
    const char* nullable = nullptr;
  };
  const Case cases[] = {
      {TypeKind::kBool, "Bool", "Nullable(Bool)"},
      {TypeKind::kInt128, "Int128", "Nullable(Int128)"},
      {TypeKind::kUInt64, "UInt64", "Nullable(UInt64)"},
      {DataType::Decimal(10, 2), "Decimal(10, 2)", "Nullable(Decimal(10, 2))"},
      {TypeKind::kDate, "Date32", "Nullable(Date32)"},
      {TypeKind::kTimestamp, "DateTime64(6)", "Nullable(DateTime64(6))"},
      {TypeKind::kTimestampTz, "DateTime64(6, 'UTC')", "Nullable(DateTime64(6, 'UTC'))"},
      {TypeKind::kUuid, "UUID", "Nullable(UUID)"},
      {TypeKind::kTime, "String", "Nullable(String)"},
      {TypeKind::kInterval, "String", "Nullable(String)"},
      {TypeKind::kJson, "String", "Nullable(String)"},
      {TypeKind::kBytes, "String", "Nullable(String)"},
      {TypeKind::kEnum, "LowCardinality(String)", "LowCardinality(Nullable(String))"},
      {DataType::List(TypeKind::kEnum), "Array(Nullable(String))", "Array(Nullable(String))"},
      {DataType::List(TypeKind::kUuid), "Array(Nullable(UUID))", "Array(Nullable(UUID))"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(ColumnType(c.type, false, false, ""), c.plain);
    EXPECT_EQ(ColumnType(c.type, true, false, ""), c.nullable);
    EXPECT_EQ(ColumnType(c.type, true, true, ""), "Nullable(String)");
  }
  EXPECT_EQ(ColumnType(TypeKind::kTimestamp, false, false, "UTC"), "DateTime64(6, 'UTC')");
}

TEST(CreateTableSql, Mutable) {
  EXPECT_EQ(
      CreateTableSql(Need({.stream = "orders",
                           .table = "orders",
                           .order_by = {{"at", "id"}},
                           .partition_by = "toYYYYMM(at)"})),
      "CREATE TABLE IF NOT EXISTS `app`.`orders` (`id` Int64, `at` Nullable(DateTime64(6, "
      "'UTC')), `kind` LowCardinality(Nullable(String)), `tags` Array(Nullable(String)), "
      "`_version` UInt128, `_commit_ts` DateTime64(6, 'UTC'), `_deleted` UInt8, INDEX "
      "millrace_version _version TYPE minmax GRANULARITY 1) ENGINE = "
      "ReplacingMergeTree(_version, _deleted) PARTITION BY (toYYYYMM(at)) ORDER BY (`at`, `id`) "
      "SETTINGS non_replicated_deduplication_window = 10000, allow_nullable_key = 1");
}

TEST(CreateTableSql, AppendOnlyWithoutKey) {
  const StreamPtr stream = MakeStream("log", {{"t", TypeKind::kText, false}}, {});
  EXPECT_EQ(
      CreateTableSql(Need({.stream = "log", .table = "log"}, stream)),
      "CREATE TABLE IF NOT EXISTS `app`.`log` (`t` String, `_version` UInt128, `_commit_ts` "
      "DateTime64(6, 'UTC'), INDEX millrace_version _version TYPE minmax GRANULARITY 1) ENGINE = "
      "MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 10000");
}

TEST(Quote, LetsNothingOut) {
  EXPECT_EQ(QuoteIdentifier("a`; DROP TABLE b; -- \\"), "`a\\`; DROP TABLE b; -- \\\\`");
  EXPECT_EQ(QuoteString("it's \\"), "'it\\'s \\\\'");
  EXPECT_EQ(QuoteString(std::string_view("\0", 1)), "'\\0'");
}

TEST(MakeTableNeed, RefusesWhatWouldLoseRows) {
  EXPECT_EQ(NeedError({.stream = "orders", .table = "t", .order_by = {{"at"}}}),
            Code::kInvalidArgument);
  EXPECT_EQ(NeedError({.stream = "orders", .table = "t", .order_by = {{"nothing"}}}),
            Code::kInvalidArgument);
  EXPECT_EQ(NeedError({.stream = "orders", .table = "t", .partition_by = "toYYYYMM(at)"}),
            Code::kInvalidArgument);
  EXPECT_EQ(NeedError({.stream = "orders", .table = "t", .engine = "MergeTree"}),
            Code::kInvalidArgument);
  EXPECT_EQ(NeedError({.stream = "orders", .table = "t", .engine = "ReplacingMergeTree(at)"}),
            Code::kInvalidArgument);
  EXPECT_EQ(NeedError({.stream = "orders", .table = "t", .as_string = {"nothing"}}),
            Code::kInvalidArgument);
  EXPECT_EQ(NeedError({.stream = "s", .table = "t"},
                      MakeStream("s", {{"_version", TypeKind::kText, false}}, {})),
            Code::kInvalidArgument);
}

TEST(CheckEngine, OneEngineAndNothingBehind) {
  EXPECT_TRUE(CheckEngine("", true).ok());
  EXPECT_TRUE(CheckEngine("SharedReplacingMergeTree", true).ok());
  EXPECT_TRUE(
      CheckEngine("ReplicatedReplacingMergeTree('/t/{uuid})', '{replica}', _version, _deleted)",
                  true)
          .ok());
  EXPECT_TRUE(CheckEngine("SummingMergeTree(a)", false).ok());
  for (const char* bad : {"Memory", "MergeTree() ORDER BY x", "MergeTree(a) SETTINGS b = (c)",
                          "MergeTree(a); DROP TABLE b", "MergeTree('", "MergeTree(a", "Merge Tree",
                          "MergeTree('(') PARTITION BY (a)"}) {
    EXPECT_FALSE(CheckEngine(bad, false).ok()) << bad;
  }
}

TEST(CheckExpression, WholeExpressionsOnly) {
  for (const char* good :
       {"", "toYYYYMM(at)", "(a, intDiv(b, 7))", "concat('it''s', `x)`)", "[1, 2]", "a - b"}) {
    EXPECT_TRUE(CheckExpression(good).ok()) << good;
  }
  for (const char* bad :
       {"a) ORDER BY b", "(a", "a; b", "a -- b", "a /* b", "'a", "`a", "a # b", "(a]"}) {
    EXPECT_FALSE(CheckExpression(bad).ok()) << bad;
  }
}

TEST(ExpressionColumns, AreNamesWithoutFunctions) {
  EXPECT_EQ(ExpressionColumns("toYYYYMM (at), intDiv(`my id`, 7), 'text', \"q\""),
            (std::vector<std::string>{"at", "my id", "q"}));
}

// The table that CreateTableSql() makes, as a server describes it.
TableFacts Facts() {
  TableFacts facts;
  facts.engine = "ReplacingMergeTree";
  facts.engine_full =
      "ReplacingMergeTree(_version, _deleted) ORDER BY id SETTINGS "
      "non_replicated_deduplication_window = 10000, index_granularity = 8192";
  facts.sorting_key = "id";
  facts.columns = {{"id", {"Int64", "", false}},
                   {"at", {"Nullable(DateTime64(6, 'UTC'))", "", false}},
                   {"kind", {"LowCardinality(Nullable(String))", "", false}},
                   {"tags", {"Array(Nullable(String))", "", false}},
                   {"_version", {"UInt128", "", false}},
                   {"_commit_ts", {"DateTime64(6, 'UTC')", "", false}},
                   {"_deleted", {"UInt8", "", false}}};
  return facts;
}

const MergeTreeSettings kDefaults = {{"non_replicated_deduplication_window", "0"},
                                     {"replicated_deduplication_window", "10000"}};

TEST(CheckTable, TakesItsOwnAndWhatHoldsTheSame) {
  EXPECT_TRUE(CheckTable(Need(), Facts(), kDefaults).ok());
  TableFacts facts = Facts();
  facts.columns["id"].type = "Nullable(Int64)";
  facts.columns["kind"].type = "Nullable(String)";
  facts.columns["at"].type = "Nullable(DateTime64(6, 'Europe/Berlin'))";
  facts.columns["extra"] = {"String", "DEFAULT", false};
  facts.engine = "SharedReplacingMergeTree";
  facts.sorting_key = "(id)";
  const Status status = CheckTable(Need(), facts, kDefaults);
  EXPECT_TRUE(status.ok()) << status.ToString();
}

TEST(CheckTable, RefusesWithTheStatementToRun) {
  struct Case {
    const char* remedy;
    std::function<void(TableFacts&)> change;
  };
  const Case cases[] = {
      {"ALTER TABLE `app`.`orders` ADD COLUMN `kind` LowCardinality(Nullable(String))",
       [](TableFacts& f) { f.columns.erase("kind"); }},
      {"ALTER TABLE `app`.`orders` ADD COLUMN `_version` UInt128",
       [](TableFacts& f) { f.columns.erase("_version"); }},
      {"ALTER TABLE `app`.`orders` MODIFY COLUMN `id` Int64",
       [](TableFacts& f) { f.columns["id"].type = "Int32"; }},
      {"ALTER TABLE `app`.`orders` MODIFY COLUMN `kind` LowCardinality(Nullable(String))",
       [](TableFacts& f) { f.columns["kind"].type = "LowCardinality(String)"; }},
      {"ALTER TABLE `app`.`orders` MODIFY COLUMN `at`",
       [](TableFacts& f) { f.columns["at"].type = "Nullable(DateTime64(3, 'UTC'))"; }},
      {"ALTER TABLE `app`.`orders` MODIFY COLUMN `id` Int64",
       [](TableFacts& f) { f.columns["id"].default_kind = "MATERIALIZED"; }},
      {"ALTER TABLE `app`.`orders` MODIFY SETTING non_replicated_deduplication_window = 10000",
       [](TableFacts& f) { f.engine_full = "ReplacingMergeTree(_version, _deleted) ORDER BY id"; }},
      {"let Millrace create it", [](TableFacts& f) { f.engine = "MergeTree"; }},
      {"let Millrace create it",
       [](TableFacts& f) { f.engine_full = "ReplacingMergeTree(_version) ORDER BY id"; }},
      {"let Millrace create it", [](TableFacts& f) { f.sorting_key = "id, at"; }},
      {"let Millrace create it", [](TableFacts& f) { f.columns["at"].is_in_partition_key = true; }},
  };
  for (const Case& c : cases) {
    TableFacts facts = Facts();
    c.change(facts);
    const Status status = CheckTable(Need(), facts, kDefaults);
    EXPECT_EQ(status.code(), Code::kFailedPrecondition) << c.remedy;
    EXPECT_NE(status.message().find(c.remedy), std::string::npos) << status.message();
  }
}

TEST(CheckTable, ZonesOfTimesWithoutZone) {
  const StreamPtr stream = MakeStream("s", {{"at", TypeKind::kTimestamp, false}}, {});
  TableFacts facts;
  facts.engine = "MergeTree";
  facts.engine_full = "MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 5";
  facts.columns = {{"_version", {"UInt128", "", false}},
                   {"_commit_ts", {"DateTime64(6)", "", false}}};
  const auto check = [&](std::string_view naive_zone, const char* type) {
    facts.columns["at"].type = type;
    return CheckTable(*MakeTableNeed({.stream = "s", .table = "s"}, "app", stream, naive_zone),
                      facts, kDefaults)
        .ok();
  };
  EXPECT_TRUE(check("", "DateTime64(6)"));
  EXPECT_TRUE(check("", "DateTime64(6, 'UTC')"));
  EXPECT_FALSE(check("", "DateTime64(6, 'Asia/Tokyo')"));
  EXPECT_TRUE(check("UTC", "DateTime64(6, 'UTC')"));
  EXPECT_FALSE(check("UTC", "DateTime64(6)"));
}

}  // namespace
}  // namespace millrace::sinks::clickhouse
