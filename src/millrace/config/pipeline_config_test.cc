// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/pipeline_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/config/pipeline_lint.h"
#include "millrace/config/testing/example_config.h"

namespace millrace::config {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

LoadOptions TestOptions(bool variables_are_set = true) {
  LoadOptions options{.sink_types = testing::ExampleSinkTypes()};
  options.read.environment =
      [variables_are_set](const std::string& name) -> std::optional<std::string> {
    return variables_are_set ? std::optional("hunter2 " + name) : std::nullopt;
  };
  return options;
}

std::vector<std::string> Lines(const Findings& findings) {
  std::vector<std::string> lines;
  for (const Finding& finding : findings.all()) {
    lines.push_back(finding.ToString());
  }
  return lines;
}

PipelineConfig Load(const std::string& yaml, const std::string& file = "/etc/m/f.yaml") {
  Findings findings;
  auto config = LoadPipelineConfig(yaml, file, TestOptions(), findings);
  EXPECT_THAT(Lines(findings), ElementsAre());
  return config.value();
}

TEST(PipelineConfigTest, TheEmbeddedExampleIsClean) {
  const PipelineConfig config = Load(testing::EmbeddedExample());
  EXPECT_EQ(config.pipeline, "engagement");
  EXPECT_EQ(config.data_dir, "/etc/m/var/engagement");
  EXPECT_EQ(config.source.kind, SourceKind::kPostgres);
  EXPECT_EQ(config.source.url, "hunter2 DATABASE_URL");
  EXPECT_THAT(config.source.tables, ElementsAre("public.content", "public.engagement_events"));
  EXPECT_EQ(config.source.table_patterns.size(), 2U);
  EXPECT_EQ(config.source.slot, "millrace_engagement");
  EXPECT_EQ(config.source.heartbeat_interval, milliseconds(10'000));
  EXPECT_EQ(config.source.snapshot_mode, SnapshotMode::kInitial);
  EXPECT_EQ(config.engine.kind, EngineKind::kDuckDb);
  EXPECT_EQ(config.engine.batch, (BatchLimits{16384, uint64_t{8} << 20, milliseconds(5)}));
  EXPECT_EQ(config.engine.memory_bytes, uint64_t{128} << 20);
  EXPECT_EQ(config.storage.max_bytes, uint64_t{50} << 30);
  EXPECT_EQ(config.storage.retain_time, milliseconds(600'000));

  ASSERT_EQ(config.streams.size(), 4U);
  EXPECT_EQ(config.streams[0].name, "content_dim");
  EXPECT_TRUE(config.streams[0].is_mirror());
  EXPECT_EQ(config.streams[0].from.table, (TableName{"public", "content"}));
  const StreamConfig& enriched = config.streams[1];
  EXPECT_EQ(enriched.lookups.at(0).table, (TableName{"public", "content"}));
  EXPECT_THAT(enriched.key, ElementsAre("event_id"));
  EXPECT_EQ(enriched.on_error, OnError::kDeadLetter);
  EXPECT_THAT(enriched.sql, HasSubstr("LEFT JOIN content"));
  EXPECT_EQ(config.streams[2].from.stream, "enriched_engagements");
  EXPECT_TRUE(config.streams[2].has_window);

  ASSERT_EQ(config.sinks.size(), 3U);
  const SinkConfig& warehouse = config.sinks[0];
  EXPECT_EQ(warehouse.name, "warehouse");
  EXPECT_EQ(warehouse.type, "clickhouse");
  // bytes_max is the type's.
  EXPECT_EQ(warehouse.batch, (BatchLimits{100'000, uint64_t{64} << 20, milliseconds(200)}));
  EXPECT_EQ(warehouse.section.GetString("url"), "http://user:hunter2 CH_PASSWORD@127.0.0.1:8123");
  EXPECT_EQ(warehouse.section.GetSectionList("tables").size(), 2U);
  EXPECT_EQ(warehouse.on_full, OnFull::kPark);
  EXPECT_EQ(config.sinks[1].batch, (BatchLimits{1'000, uint64_t{4} << 20, milliseconds(5)}));
  EXPECT_EQ(config.sinks[2].retry_wait_max, milliseconds(30'000));
  EXPECT_EQ(config.admin.host, "127.0.0.1");
  EXPECT_EQ(config.admin.port, 7070);
  EXPECT_EQ(config.admin.token, "hunter2 MILLRACE_TOKEN");
  EXPECT_EQ(config.streams[1].section.LocationOf("sql").line, 28);
}

TEST(PipelineConfigTest, TheDistributedExampleIsClean) {
  const PipelineConfig config = Load(testing::DistributedExample());
  EXPECT_EQ(config.source.kind, SourceKind::kDebezium);
  EXPECT_EQ(config.engine.kind, EngineKind::kSpark);
  EXPECT_EQ(config.data_dir, "/etc/m/var/engagement");
}

TEST(PipelineConfigTest, TheExamplesHaveOnlyWarningsWhereVariablesAreNotSet) {
  LoadOptions options = TestOptions(/*variables_are_set=*/false);
  Findings strict;
  EXPECT_FALSE(LoadPipelineConfig(testing::EmbeddedExample(), "f.yaml", options, strict));
  options.read.lenient_references = true;
  Findings findings;
  EXPECT_TRUE(LoadPipelineConfig(testing::EmbeddedExample(), "f.yaml", options, findings));
  EXPECT_EQ(findings.all().size(), 3U);
  EXPECT_FALSE(findings.has_errors());
}

TEST(PipelineConfigTest, ShortFilesHaveDefaults) {
  const PipelineConfig config = Load(
      "pipeline: p\nsource: {type: postgres, url: u, tables: t}\nstreams: {s: {from: t}}\n"
      "sinks: {k: {type: redis, url: u, writes: [{stream: s, hset: h}]}}\n",
      "f.yaml");
  EXPECT_EQ(config.data_dir, "var/p");
  EXPECT_EQ(config.source.slot, "millrace_p");
  EXPECT_EQ(config.source.publication, "millrace_p");
  EXPECT_EQ(config.sinks[0].on_full, OnFull::kBackpressure);  // the only one
  EXPECT_EQ(config.admin.port, 7070);
  EXPECT_FALSE(config.admin.is_configured);
}

TEST(PipelineConfigTest, ATableWinsOverTheStreamOfItsOwnName) {
  const PipelineConfig config = Load(
      "pipeline: p\nsource: {type: postgres, url: u, tables: [t]}\nstreams: {t: {from: t}}\n"
      "sinks: {k: {type: redis, url: u, writes: [{stream: t, hset: h}]}}\n");
  EXPECT_FALSE(config.streams[0].from.is_stream());
}

// A small good file, in which a test replaces one part by a bad one.
struct Parts {
  std::string head = "pipeline: p";
  std::string source = "type: postgres, url: u, tables: [t, shop.*]";
  std::string top;
  std::string stream = "from: t, key: [a], sql: SELECT 1";
  std::string sink = "type: redis, url: u, writes: [{stream: s, hset: h}]";
  std::string admin = "listen: 127.0.0.1:1";
};

std::string Yaml(const Parts& parts) {
  return parts.head + "\nsource: {" + parts.source + "}\n" + "streams: {s: {" + parts.stream +
         "}}\nsinks: {k: {" + parts.sink + "}}\nadmin: {" + parts.admin + "}\n" + parts.top;
}

void ExpectFindings(const Parts& parts, const std::vector<std::string>& expected) {
  Findings findings;
  LoadPipelineConfig(Yaml(parts), "f.yaml", TestOptions(), findings);
  EXPECT_THAT(Lines(findings), ::testing::ElementsAreArray(expected)) << Yaml(parts);
}

TEST(PipelineLintTest, TheGoodFileIsClean) { ExpectFindings({}, {}); }

TEST(PipelineLintTest, Names) {
  ExpectFindings({.head = "pipeline: Upper"},
                 {"f.yaml:1:11: error: pipeline: must match [a-z][a-z0-9_]{0,39} [bad-name]"});
  ExpectFindings({.head = "pipeline: " + std::string(41, 'a')},
                 {"f.yaml:1:11: error: pipeline: must match [a-z][a-z0-9_]{0,39} [bad-name]"});
  ExpectFindings(
      {.stream = "from: t}, a-b: {from: t",
       .sink = "type: redis, url: u, writes: [{stream: s, hset: h}, {stream: a-b, hset: i}]"},
      {"f.yaml:3:25: error: streams: a stream's name must match "
       "[A-Za-z_][A-Za-z0-9_]{0,62} [bad-name]"});
  ExpectFindings(
      {.sink = "type: redis, url: u, writes: [{stream: s, hset: h}]}, a/b: {type: kafka, "
               "brokers: b, topics: [{stream: s}]"},
      {"f.yaml:4:67: error: sinks: a sink's name must match "
       "[A-Za-z_][A-Za-z0-9_-]{0,62} [bad-name]"});
  ExpectFindings({.source = "type: postgres, url: u, tables: [t], slot: A"},
                 {"f.yaml:2:53: error: source.slot: must be 1 to 63 of a-z, 0-9 and _ [bad-name]"});
}

TEST(PipelineLintTest, Source) {
  ExpectFindings({.head = "pipeline: p", .source = "type: mysql, tables: [t]"},
                 {"f.yaml:2:16: error: source.type: must be postgres or debezium, found 'mysql' "
                  "[invalid-choice]"});
  ExpectFindings({.source = "type: postgres, tables: [t]"},
                 {"f.yaml:2:9: error: source.url: required, but missing [missing-field]"});
  ExpectFindings({.source = "type: postgres, url: u, tables: []"},
                 {"f.yaml:2:42: error: source.tables: required, but empty [missing-field]"});
  ExpectFindings({.source = "type: postgres, url: u, tables: [t, a.b.c]"},
                 {"f.yaml:2:46: error: source.tables[1]: is no table; write schema.table, with "
                  "quotes around parts of other characters: '\"My Schema\".\"Table\"' "
                  "[bad-table-name]"});
  ExpectFindings({.source = "type: postgres, url: u, tables: [t, t]"},
                 {"f.yaml:2:46: warning: source.tables[1]: is listed twice [duplicate-table]"});
  ExpectFindings({.source = "type: postgres, url: u, tables: [t], confirm: backed_up"},
                 {"f.yaml:2:56: error: source.confirm: 'backed_up' needs a `backup` section "
                  "[backup-missing]"});
  ExpectFindings({.source = "type: postgres, url: u, tables: [t], snapshot: {parallelism: 0}"},
                 {"f.yaml:2:71: error: source.snapshot.parallelism: must be at least 1 "
                  "[out-of-range]"});
}

TEST(PipelineLintTest, Inputs) {
  ExpectFindings({.stream = "from: x, key: [a], sql: SELECT 1"},
                 {"f.yaml:3:21: error: streams.s.from: no such table in source.tables and no such "
                  "stream [unknown-input]"});
  ExpectFindings({.stream = "from: public.tt, key: [a], sql: SELECT 1"},
                 {"f.yaml:3:21: error: streams.s.from: no such table in source.tables and no such "
                  "stream, did you mean 'public.t'? [unknown-input]"});
  ExpectFindings({.stream = "from: shop.any, key: [a], sql: SELECT 1"}, {});
  ExpectFindings({.stream = "from: s"},
                 {"f.yaml:3:21: error: streams.s.from: a stream cannot read itself [cycle]"});
  ExpectFindings({.stream = "from: 'a b'"},
                 {"f.yaml:3:21: error: streams.s.from: is no table or stream; a table is written "
                  "schema.table [bad-table-name]"});
  ExpectFindings({.stream = "from: t, key: [a], sql: SELECT 1, lookup: [shop.a, shop.a]"},
                 {"f.yaml:3:66: error: streams.s.lookup[1]: is listed twice [duplicate-lookup]"});
  ExpectFindings({.stream = "from: t, lookup: [shop.a]"},
                 {"f.yaml:3:32: error: streams.s.lookup: has no use without `sql`; a mirror joins "
                  "nothing [lookup-without-sql]"});
  ExpectFindings(
      {.stream = "from: public.t, key: [a], sql: SELECT 1, lookup: [t]}, t: {from: "
                 "public.t",
       .sink = "type: redis, url: u, writes: [{stream: s, hset: h}, {stream: t, hset: i}]"},
      {"f.yaml:3:65: error: streams.s.lookup[0]: 't' is a stream and a table; write "
       "public.t for the table, or give the stream another name [ambiguous-name]"});
}

TEST(PipelineLintTest, Cycles) {
  ExpectFindings({.stream = "from: b, key: [a], sql: SELECT 1}, b: {from: c, key: [a], sql: "
                            "SELECT 1}, c: {from: t, lookup: [s], key: [a], sql: SELECT 1"},
                 {"f.yaml:3:99: error: streams.c.from: streams read each other in a circle: s <- b "
                  "<- c <- s [cycle]"});
  ExpectFindings({.stream = "from: b, key: [a], sql: SELECT 1}, b: {from: c, key: [a], sql: "
                            "SELECT 1}, c: {from: t, key: [a], sql: SELECT 1"},
                 {});
}

TEST(PipelineLintTest, Keys) {
  ExpectFindings({.stream = "from: t, sql: SELECT 1"},
                 {"f.yaml:3:11: error: streams.s.key: required, because it addresses the rows that "
                  "`sql` gives; name the columns, or say append_only: true [key-missing]"});
  ExpectFindings({.stream = "from: t, sql: SELECT 1, append_only: true"}, {});
  ExpectFindings({.stream = "from: t, key: [a, a], sql: SELECT 1"},
                 {"f.yaml:3:33: error: streams.s.key[1]: is listed twice [duplicate-column]"});
  ExpectFindings(
      {.stream = "from: t, key: [a]"},
      {"f.yaml:3:29: warning: streams.s.key: has no use without `sql`; a mirror's key is "
       "its table's [unused-field]"});
  ExpectFindings({.stream = "from: t, sql: ' '"},
                 {"f.yaml:3:29: error: streams.s.sql: is empty; leave it out for a mirror "
                  "[empty-sql]"});
}

TEST(PipelineLintTest, Windows) {
  const auto window = [](const std::string& text) {
    return Parts{.stream = "from: t, key: [a], sql: SELECT 1, window: {" + text + "}"};
  };
  ExpectFindings(window("tumble: 1m, time: x"), {});
  ExpectFindings(window("session: 30m, time: x"), {});
  ExpectFindings(window("hop: 1m, size: 5m, time: x, idle: 30s, late: dead_letter"), {});
  ExpectFindings(window("time: x"),
                 {"f.yaml:3:57: error: streams.s.window: needs exactly one of hop, tumble and "
                  "session [window-shape]"});
  ExpectFindings(window("tumble: 1m, session: 1m, time: x"),
                 {"f.yaml:3:57: error: streams.s.window: needs exactly one of hop, tumble and "
                  "session [window-shape]"});
  ExpectFindings(window("tumble: 1m"),
                 {"f.yaml:3:57: error: streams.s.window: needs `time`, the column that holds the "
                  "event time [window-without-time]"});
  ExpectFindings(window("hop: 1m, time: x"),
                 {"f.yaml:3:57: error: streams.s.window: hop needs `size`, the length of a window "
                  "[window-size]"});
  ExpectFindings(window("tumble: 1m, size: 1m, time: x"),
                 {"f.yaml:3:76: error: streams.s.window.size: belongs to hop; the others are their "
                  "own size [window-size]"});
  ExpectFindings(
      window("hop: 10m, size: 1m, time: x"),
      {"f.yaml:3:74: error: streams.s.window.size: is shorter than hop: rows between two "
       "windows would be in none [window-size]"});
  ExpectFindings(window("tumble: 0, time: x"),
                 {"f.yaml:3:66: error: streams.s.window.tumble: must be at least 1ms "
                  "[out-of-range]"});
  ExpectFindings({.stream = "from: t, key: [a], sql: SELECT 1, emit: close"},
                 {"f.yaml:3:55: error: streams.s.emit: 'close' needs a `window` "
                  "[emit-without-window]"});
  ExpectFindings({.stream = "from: t, window: {tumble: 1m, time: x}"},
                 {"f.yaml:3:32: error: streams.s.window: needs `sql` that gives totals "
                  "[window-without-sql]"});
}

TEST(PipelineLintTest, Sinks) {
  ExpectFindings({.sink = "type: reddis, url: u"},
                 {"f.yaml:4:19: error: sinks.k.type: must be clickhouse, redis or kafka, found "
                  "'reddis', did you mean 'redis'? [invalid-choice]"});
  ExpectFindings({.sink = "type: redis, url: u, writes: [{stream: s, hset: h}, {stream: q, hset: "
                          "i}]"},
                 {"f.yaml:4:74: error: sinks.k.writes[1].stream: there is no stream 'q' "
                  "[unknown-stream]"});
  ExpectFindings({.stream = "from: t}, events: {from: t",
                  .sink = "type: redis, url: u, writes: [{stream: s, hset: h}, {stream: event, "
                          "hset: i}]"},
                 {"f.yaml:4:74: error: sinks.k.writes[1].stream: there is no stream 'event', did "
                  "you mean 'events'? [unknown-stream]"});
  ExpectFindings({.sink = "type: redis, url: u, writes: [{stream: s, hset: h}, {stream: s, xadd: "
                          "h}]"},
                 {"f.yaml:4:83: error: sinks.k.writes[1].xadd: the same target as of "
                  "sinks.k.writes[0] [duplicate-target]"});
  ExpectFindings({.sink = "type: clickhouse, url: u, tables: [{stream: s, table: x}]}, l: {type: "
                          "clickhouse, url: u, tables: [{stream: s, table: x}]"},
                 {"f.yaml:4:131: error: sinks.l.tables[0].table: the same target as of "
                  "sinks.k.tables[0] [duplicate-target]"});
  ExpectFindings({.sink = "type: clickhouse, url: u, tables: [{stream: s}]}, l: {type: "
                          "clickhouse, url: v, tables: [{stream: s}]"},
                 {});
  ExpectFindings({.sink = "type: clickhouse, url: u, tables: [{stream: s}, {stream: s}]"},
                 {"f.yaml:4:70: error: sinks.k.tables[1].stream: the same target as of "
                  "sinks.k.tables[0] [duplicate-target]"});
  ExpectFindings({.sink = "type: redis, url: u, writes: [{stream: s, hset: h}], retry: {wait_min: "
                          "1m}"},
                 {"f.yaml:4:84: error: sinks.k.retry.wait_min: wait_min is longer than wait_max "
                  "[retry-waits]"});
  ExpectFindings({.stream = "from: t}, u: {from: t"},
                 {"f.yaml:3:25: warning: streams.u: no sink and no stream reads it "
                  "[unused-stream]"});
  ExpectFindings(
      {.stream = "from: t, key: [a], sql: SELECT a FROM t GROUP BY a",
       .sink = "type: kafka, brokers: b, topics: [{stream: s, topic: x}]"},
      {"f.yaml:4:66: warning: sinks.k.topics[0].topic: keeps every output, and 's' gives "
       "early results; a stream with `window` and emit: close gives final ones "
       "[early-results]"});
}

TEST(PipelineLintTest, SortingKeys) {
  const auto table = [](const std::string& text) {
    return Parts{.sink = "type: clickhouse, url: u, tables: [{stream: s, " + text + "}]"};
  };
  ExpectFindings(table("order_by: [b]"),
                 {"f.yaml:4:70: error: sinks.k.tables[0].order_by: must contain the key column 'a' "
                  "of the stream, or rows of different keys replace each other "
                  "[order-by-without-key]"});
  ExpectFindings(table("order_by: [b, a], partition_by: toYYYYMM(b)"), {});
  ExpectFindings(table("partition_by: a"), {});
  ExpectFindings(table("partition_by: 'toStartOfInterval(c, INTERVAL 1 DAY)'"), {});
  for (const char* expression : {"c", "toYYYYMM(c)"}) {
    ExpectFindings(table(std::string("partition_by: ") + expression),
                   {"f.yaml:4:74: error: sinks.k.tables[0].partition_by: must use columns of "
                    "order_by only, or versions of a row stay in different partitions "
                    "[partition-by-without-order]"});
  }
  // Rows are never replaced; a mirror's key is not known here.
  Parts parts = table("order_by: [b], partition_by: c");
  parts.stream = "from: t, sql: SELECT 1, append_only: true";
  ExpectFindings(parts, {});
  parts.stream = "from: t";
  ExpectFindings(parts, {});
}

TEST(PipelineLintTest, ARuleThatNamesNoFieldGetsThePathOfItsSink) {
  LoadOptions options = TestOptions();
  options.sink_types[1].lint = [](const Section& sink, Findings& findings) {
    findings.Error(sink.LocationOf("url"), "is no URL", "bad-url");
  };
  Findings findings;
  EXPECT_FALSE(LoadPipelineConfig(Yaml({}), "f.yaml", options, findings));
  EXPECT_THAT(Lines(findings), ElementsAre("f.yaml:4:31: error: sinks.k: is no URL [bad-url]"));

  // Not where the value is unknown, nor where the section has findings of its own.
  options.read.lenient_references = true;
  options.read.environment = [](const std::string&) { return std::nullopt; };
  Findings unset;
  EXPECT_TRUE(LoadPipelineConfig(
      Yaml({.sink = "type: redis, url: '${env:U}', writes: [{stream: s, hset: h}]"}), "f.yaml",
      options, unset));
  EXPECT_EQ(unset.all().size(), 1U);
  Findings broken;
  EXPECT_FALSE(
      LoadPipelineConfig(Yaml({.sink = "type: redis, url: u, writes: [{stream: s, hsett: h}]"}),
                         "f.yaml", options, broken));
  EXPECT_EQ(broken.all().size(), 1U);
}

TEST(PipelineLintTest, SqlIsJudgedByItsCallback) {
  LoadOptions options = TestOptions();
  options.check_sql = [](const StreamConfig& stream, Findings& findings) {
    findings.Error(stream.section.LocationOf("sql"), stream.section.PathOf("sql") + ": no",
                   "bad-sql");
  };
  Findings findings;
  EXPECT_FALSE(LoadPipelineConfig(Yaml({}), "f.yaml", options, findings));
  EXPECT_THAT(Lines(findings), ElementsAre("f.yaml:3:39: error: streams.s.sql: no [bad-sql]"));
  Findings mirror;
  EXPECT_TRUE(LoadPipelineConfig(Yaml({.stream = "from: t"}), "f.yaml", options, mirror));
}

TEST(PipelineLintTest, Admin) {
  ExpectFindings({.admin = "listen: 0.0.0.0:7070"},
                 {"f.yaml:5:8: error: admin.token: required, because `listen` is not a loopback "
                  "address; write token: ${env:MILLRACE_TOKEN} [token-missing]"});
  ExpectFindings({.admin = "listen: 0.0.0.0:7070, token: ''"},
                 {"f.yaml:5:38: error: admin.token: required, because `listen` is not a loopback "
                  "address; write token: ${env:MILLRACE_TOKEN} [token-missing]"});
  ExpectFindings({.admin = "listen: 0.0.0.0:7070, token: x"}, {});
  ExpectFindings({.admin = "listen: '[::1]:7070'"}, {});
  ExpectFindings({.admin = "listen: 7070"},
                 {"f.yaml:5:17: error: admin.listen: expected host:port, such as 127.0.0.1:7070 or "
                  "[::1]:7070 [bad-address]"});
}

TEST(PipelineLintTest, OneMistakeIsSaidOnce) {
  ExpectFindings({.source = "type: postgres, url: u, tabels: [t]"},
                 {"f.yaml:2:34: error: source.tabels: unknown field, did you mean 'tables'? "
                  "[unknown-field]"});
  ExpectFindings({.stream = "form: t, key: [a], sql: SELECT 1"},
                 {"f.yaml:3:15: error: streams.s.form: unknown field, did you mean 'from'? "
                  "[unknown-field]"});
  ExpectFindings({.stream = "from: t, keys: [a], sql: SELECT 1"},
                 {"f.yaml:3:24: error: streams.s.keys: unknown field, did you mean 'key'? "
                  "[unknown-field]"});
  ExpectFindings({.sink = "type: redis, url: u, write: [{stream: s, hset: h}]"},
                 {"f.yaml:4:34: error: sinks.k.write: unknown field, did you mean 'writes'? "
                  "[unknown-field]"});
}

TEST(PipelineLintTest, AMisspelledWindowIsSaidOnce) {
  ExpectFindings({.stream = "from: t, key: [a], sql: SELECT 1, window: {tumbel: 1m, tiem: x}"},
                 {"f.yaml:3:58: error: streams.s.window.tumbel: unknown field, did you mean "
                  "'tumble'? [unknown-field]",
                  "f.yaml:3:70: error: streams.s.window.tiem: unknown field, did you mean 'time'? "
                  "[unknown-field]"});
}

TEST(PipelineLintTest, MissingPartsAreNamed) {
  Findings findings;
  EXPECT_FALSE(LoadPipelineConfig("pipeline: p", "f.yaml", TestOptions(), findings));
  EXPECT_THAT(Lines(findings),
              ElementsAre("f.yaml:1:1: error: source: required, but missing [missing-field]",
                          "f.yaml:1:1: error: streams: required, but missing [missing-field]",
                          "f.yaml:1:1: error: sinks: required, but missing [missing-field]"));
}

TEST(PipelineLintTest, SecretsAreInNoFinding) {
  std::string yaml = Yaml({.source = "type: postgres, url: '${env:A}', tables: ['${env:A}'], slot: "
                                     "'${env:A}', confirm: '${env:A}'",
                           .stream = "from: '${env:A}', lookup: ['${env:A}', '${env:A}'], key: "
                                     "['${env:A}', '${env:A}'], sql: '${env:A}'",
                           .sink = "type: redis, url: u, writes: [{stream: '${env:A}', hset: "
                                   "'${env:A}'}]",
                           .admin = "listen: '${env:A}'"});
  Findings findings;
  EXPECT_FALSE(LoadPipelineConfig(yaml, "f.yaml", TestOptions(), findings));
  EXPECT_GE(findings.all().size(), 5U);
  for (const std::string& line : Lines(findings)) {
    EXPECT_THAT(line, Not(HasSubstr("hunter2")));
  }
}

}  // namespace
}  // namespace millrace::config
