// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/config/pipeline_config.h"
#include "millrace/config/sql_words.h"
#include "millrace/config/testing/example_config.h"

namespace millrace::config {
namespace {

using ::testing::HasSubstr;

Status Supported(const std::string& yaml) {
  Findings findings;
  LoadOptions options{.sink_types = testing::ExampleSinkTypes()};
  options.read.environment = [](const std::string&) { return "value"; };
  const auto config = LoadPipelineConfig(yaml, "f.yaml", options, findings);
  for (const Finding& finding : findings.all()) {
    EXPECT_EQ(finding.level, Finding::Level::kWarning) << finding.ToString();
  }
  EXPECT_TRUE(config.has_value());
  return config ? CheckSupported(*config) : Internal("not loaded");
}

struct Parts {
  std::string source = "type: postgres, url: u, tables: [t, l]";
  std::string top;
  std::string stream = "from: t";
  std::string write = "stream: s, hset: k";
};

std::string Yaml(const Parts& parts) {
  return "pipeline: p\nsource: {" + parts.source + "}\n" + parts.top + "streams: {s: {" +
         parts.stream + "}}\nsinks: {k: {type: redis, url: u, writes: [{" + parts.write + "}]}}\n";
}

TEST(SupportedTest, MirrorsAndRowByRowStreamsRun) {
  EXPECT_TRUE(Supported(Yaml({})).ok());
  EXPECT_TRUE(Supported(Yaml({.stream = "from: t, lookup: [l], key: [id], sql: 'SELECT t.id FROM t "
                                        "JOIN l ON t.id = l.id', on_error: dead_letter"}))
                  .ok());
}

TEST(SupportedTest, WhatDoesNotRunIsRefusedByItsName) {
  const std::vector<std::pair<Parts, std::string>> cases = {
      {{.source = "type: debezium, brokers: b, topic_prefix: x, tables: [t]"}, "debezium"},
      {{.top = "log: {type: kafka, brokers: b, topic_prefix: x}\n"}, "a log between processes"},
      {{.top = "engine: {type: spark, remote: r, checkpoint: c}\n"}, "spark"},
      {{.top = "backup: {to: d}\n"}, "backups"},
      {{.source = "type: postgres, url: u, tables: [t], confirm: delivered"}, "source.confirm"},
      {{.stream = "from: t, key: [a], sql: 'SELECT 1', window: {tumble: 1m, time: x}"}, "windows"},
      {{.stream = "from: t}, r: {from: s, key: [a], sql: 'SELECT 1'"},
       "streams that read other streams"},
      {{.stream = "from: t}, r: {from: t, lookup: [s], key: [a], sql: 'SELECT 1'"},
       "streams that read other streams"},
      {{.stream = "from: t, key: [a], sql: 'SELECT a, count(*) FROM t group\n by a'"}, "totals"},
      {{.stream = "from: t, state_ttl: 30d"}, "state_ttl"},
      {{.stream = "from: t, ttl: 30d"}, "ttl"},
      {{.write = "stream: s, zadd: k, member: m, score: x"}, "zadd"},
  };
  for (const auto& [parts, word] : cases) {
    const Status status = Supported(Yaml(parts));
    EXPECT_EQ(status.code(), Code::kUnsupported) << word;
    EXPECT_THAT(status.message(), HasSubstr(word));
    EXPECT_THAT(status.message(), ::testing::StartsWith("f.yaml:")) << word;
  }
}

TEST(SupportedTest, ThePlaceIsThatOfTheOption) {
  EXPECT_EQ(Supported(Yaml({.stream = "from: t, ttl: 30d"})).message(),
            "f.yaml:3:29: this version does not run stream option ttl: remove it");
}

TEST(SqlWordsTest, GroupByIsFoundOutsideOfQuotesAndComments) {
  for (const char* sql :
       {"SELECT a FROM t GROUP BY a", "select a from t group\n\tby all",
        "SELECT a FROM t GROUP /* x */ BY a", "SELECT a FROM t GROUP -- x\nBY a"}) {
    EXPECT_TRUE(HasGroupBy(sql)) << sql;
  }
  for (const char* sql :
       {"", "SELECT a FROM t", "SELECT 'GROUP BY' FROM t", "SELECT \"group by\" FROM t",
        "SELECT a -- GROUP BY\nFROM t", "SELECT /* GROUP BY */ a", "SELECT $$GROUP BY$$",
        "SELECT $x$GROUP BY$x$", "SELECT t.group, by", "SELECT 'it''s GROUP BY'",
        "SELECT a AS groupx by", "SELECT 'open GROUP BY", "SELECT /* open GROUP BY", "GROUP", "$",
        "group ' ' by"}) {
    EXPECT_FALSE(HasGroupBy(sql)) << sql;
  }
}

TEST(SupportedTest, TopicsAreJson) {
  const auto with_format = [](const std::string& format) {
    return Supported(
        "pipeline: p\nsource: {type: postgres, url: u, tables: [t]}\nstreams: {s: {from: t}}\n"
        "sinks: {k: {type: kafka, brokers: b, topics: [{stream: s, topic: x, key: id, format: " +
        format + "}]}}\n");
  };
  EXPECT_TRUE(with_format("json").ok());
  EXPECT_THAT(with_format("debezium_json").message(), HasSubstr("topic format debezium_json"));
}

}  // namespace
}  // namespace millrace::config
