// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/kafka/kafka_config.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace millrace::sinks {
namespace {

std::string Text(const config::Findings& findings) {
  std::string text;
  for (const config::Finding& finding : findings.all()) {
    text += finding.text + "\n";
  }
  return text;
}

config::Section Read(const std::string& yaml) {
  config::Findings findings;
  auto section = config::ReadSection(yaml, "test.yaml", KafkaFields(), findings);
  EXPECT_FALSE(findings.has_errors()) << Text(findings);
  return *section;
}

config::Section OneTopic(const std::string& entry) {
  return Read("brokers: localhost:9092\ntopics:\n  - {stream: s, " + entry + "}\n");
}

TEST(KafkaConfig, Parses) {
  const auto options = ParseKafkaOptions(
      Read("brokers: a:1,b:2\n"
           "properties: {security.protocol: sasl_ssl, sasl.password: x}\n"
           "topics:\n"
           "  - {stream: a, topic: t.a, key: content_id, partitions: 12, replication_factor: 3}\n"
           "  - {stream: b, snapshot: false}\n"));
  ASSERT_TRUE(options.ok()) << options.status().ToString();
  EXPECT_EQ(options->kafka.brokers, "a:1,b:2");
  EXPECT_EQ(options->kafka.properties.size(), 2U);
  ASSERT_EQ(options->topics.size(), 2U);
  EXPECT_EQ(options->topics[0].partitions, 12);
  EXPECT_EQ(options->topics[0].replication_factor, 3);
  EXPECT_EQ(options->topics[1].topic, "b");
  EXPECT_EQ(options->topics[1].key, "");
  EXPECT_EQ(options->topics[1].replication_factor, -1);
  EXPECT_FALSE(options->topics[1].snapshot);
}

TEST(KafkaConfig, UsesNamesTheKeyColumn) {
  const auto uses = KafkaUses(OneTopic("topic: t, key: c"));
  ASSERT_EQ(uses.size(), 1U);
  EXPECT_EQ(uses[0].address_columns, (std::vector<std::string>{"c"}));
}

TEST(KafkaConfig, RefusesWhatMakesNoSense) {
  struct Case {
    const char* entry;
    const char* text;
  };
  for (const Case& c : std::vector<Case>{{"topic: 'a b'", "no topic name"},
                                         {"topic: ..", "no topic name"},
                                         {"partitions: 0", "from 1 to"},
                                         {"replication_factor: 0", "1 or more"}}) {
    const config::Section section = OneTopic(c.entry);
    const Status status = ParseKafkaOptions(section).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << c.entry;
    EXPECT_NE(status.message().find(c.text), std::string::npos) << status.message();
    config::Findings findings;
    LintKafka(section, findings);
    EXPECT_NE(Text(findings).find(c.text), std::string::npos) << c.entry;
  }
}

TEST(KafkaConfig, DebeziumJsonLintsCleanButIsNotSupported) {
  const config::Section section = OneTopic("format: debezium_json");
  config::Findings findings;
  LintKafka(section, findings);
  EXPECT_EQ(Text(findings), "");
  EXPECT_EQ(ParseKafkaOptions(section).status().code(), Code::kUnsupported);
}

TEST(KafkaConfig, RefusesPropertiesThatExactlyOnceDependsOn) {
  const auto options =
      ParseKafkaOptions(Read("brokers: a:1\nproperties: {acks: \"1\"}\ntopics: [{stream: s}]\n"));
  EXPECT_EQ(options.status().code(), Code::kInvalidArgument);
  EXPECT_NE(options.status().message().find("'acks'"), std::string::npos);
}

}  // namespace
}  // namespace millrace::sinks
