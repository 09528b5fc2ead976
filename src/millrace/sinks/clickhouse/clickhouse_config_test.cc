// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_config.h"

#include <gtest/gtest.h>

#include "millrace/sinks/clickhouse/clickhouse_tables.h"
#include "millrace/sinks/testing/sink_test_support.h"

namespace millrace::sinks::clickhouse {
namespace {

config::Section Read(std::string_view yaml, config::Findings& findings) {
  std::optional<config::Section> section =
      config::ReadSection(yaml, "test.yaml", ClickHouseFields(), findings);
  EXPECT_TRUE(section.has_value()) << (findings.all().empty() ? "" : findings.all()[0].ToString());
  LintClickHouse(*section, findings);
  return *section;
}

// The findings of a file whose fields are right.
std::string Findings(std::string_view yaml) {
  config::Findings findings;
  Read(yaml, findings);
  std::string text;
  for (const config::Finding& finding : findings.all()) {
    text += finding.ToString() + "\n";
  }
  return text;
}

constexpr std::string_view kWhole = R"(
url: https://writer:p%40ss@db.example:8443
database: app
tables:
  - {stream: content_dim}
  - {stream: events, table: events_raw, order_by: [ts, id], partition_by: toYYYYMM(ts), snapshot: false, as: {at: string}}
  - {stream: events, order_by: id}
)";

TEST(ClickHouseConfig, ReadsEveryField) {
  config::Findings findings;
  const config::Section section = Read(kWhole, findings);
  EXPECT_TRUE(findings.all().empty());
  const Result<ClickHouseOptions> options = ReadClickHouseOptions(section);
  ASSERT_TRUE(options.ok()) << options.status().ToString();
  EXPECT_EQ(options->http.url.password, "p@ss");
  EXPECT_EQ(options->database, "app");
  EXPECT_EQ(options->http.request_timeout, std::chrono::minutes(5));
  EXPECT_FALSE(options->accept_inexact_views);
  ASSERT_EQ(options->tables.size(), 3U);
  EXPECT_EQ(options->tables[0].table, "content_dim");
  EXPECT_EQ(options->tables[0].order_by, std::nullopt);
  EXPECT_TRUE(options->tables[0].snapshot);
  EXPECT_EQ(options->tables[1].table, "events_raw");
  EXPECT_EQ(options->tables[1].order_by, (std::vector<std::string>{"ts", "id"}));
  EXPECT_EQ(options->tables[1].as_string, (std::set<std::string>{"at"}));
  EXPECT_FALSE(options->tables[1].snapshot);
}

TEST(ClickHouseConfig, UsesTheStreamsWithTheirAddresses) {
  config::Findings findings;
  const std::vector<StreamUse> uses = ClickHouseSinkType().uses(Read(kWhole, findings));
  ASSERT_EQ(uses.size(), 2U);
  EXPECT_EQ(uses[0].stream, "content_dim");
  EXPECT_TRUE(uses[0].address_columns.empty());
  EXPECT_EQ(uses[1].stream, "events");
  EXPECT_EQ(uses[1].address_columns, (std::vector<std::string>{"ts", "id"}));
}

TEST(ClickHouseConfig, FindsWhatTheFieldsCannotSay) {
  const std::string findings = Findings(R"(
url: redis://:secret@h
tables:
  - {stream: a, table: x, engine: Memory, partition_by: "a; b"}
  - {stream: b, table: x, as: {c: int}, order_by: [a, a]}
)");
  for (const char* part : {"test.yaml:2:", "url: the URL cannot be read", "two streams", "'int'",
                           "'a' stands twice", "MergeTree family", "no semicolon"}) {
    EXPECT_NE(findings.find(part), std::string::npos) << part << " in " << findings;
  }
  EXPECT_EQ(findings.find("secret"), std::string::npos);
}

TEST(ClickHouseConfig, MakeChecksTheStreams) {
  config::Findings findings;
  const config::Section section =
      Read("{url: 'http://h:8123', tables: [{stream: s, order_by: [b]}]}", findings);
  testing::MemoryDeliveryLog log;
  SinkContext context;
  context.delivery_log = &log;
  EXPECT_TRUE(ClickHouseSinkType().make(section, context).ok());  // the stream waits
  context.streams["s"] = testing::MakeStream(
      "s", {{"a", TypeKind::kInt32, false}, {"b", TypeKind::kInt32, false}}, {0});
  const Status status = ClickHouseSinkType().make(section, context).status();
  EXPECT_NE(status.message().find("lacks the key column 'a'"), std::string::npos)
      << status.message();
  context.streams["s"] = testing::MakeStream("s", {{"b", TypeKind::kInt32, false}}, {0});
  EXPECT_TRUE(ClickHouseSinkType().make(section, context).ok());
}

TEST(ParseViewTarget, FindsTheTable) {
  const auto target = [](const std::string& sql) {
    const ViewTarget parsed = ParseViewTarget(sql);
    return parsed.database + "/" + parsed.table;
  };
  EXPECT_EQ(target("CREATE MATERIALIZED VIEW d.v TO d.t (`a` Int8) AS SELECT 1"), "d/t");
  EXPECT_EQ(target("CREATE MATERIALIZED VIEW d.v UUID 'x' TO t (`a` Int8) AS SELECT 1"), "/t");
  EXPECT_EQ(target("CREATE MATERIALIZED VIEW `a.b`.`v TO x` TO `d.e`.`t \\` u` (`a` Int8)"),
            "d.e/t ` u");
  EXPECT_EQ(target("CREATE MATERIALIZED VIEW d.v (`TO x` Int8) ENGINE = Log AS SELECT 1"), "/");
}

}  // namespace
}  // namespace millrace::sinks::clickhouse
