// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/kafka/kafka_config.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "millrace/sinks/option_problems.h"

namespace millrace::sinks {

namespace {

using config::FieldSpec;
using config::FieldType;

constexpr size_t kTopicNameMax = 249;
constexpr int64_t kPartitionsMax = 10'000;

std::vector<FieldSpec> TopicFields() {
  return {
      {.name = "stream", .description = "The stream whose rows are written.", .required = true},
      {.name = "topic",
       .description = "The topic, made if it is missing. Default: the stream's name."},
      {.name = "key",
       .description = "Column whose value is the message key. Default: the stream's key, as a "
                      "JSON array where it has several columns. Rows keep their order within a "
                      "key. Where it is the stream's key, a null tombstone follows each delete."},
      {.name = "format",
       .description = "json: an object of all columns with `_version` and `_commit_ts`.",
       .default_value = "json",
       .one_of = {"json", "debezium_json"}},
      {.name = "partitions",
       .type = FieldType::kInteger,
       .description = "Partitions of a topic that is made.",
       .default_value = "1"},
      {.name = "replication_factor",
       .type = FieldType::kInteger,
       .description = "Replicas of a topic that is made. Default: the broker's default."},
      {.name = "snapshot",
       .type = FieldType::kBoolean,
       .description = "false leaves out the rows of the snapshot.",
       .default_value = "true"},
  };
}

bool IsTopicName(std::string_view name) {
  const auto is_allowed = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kTopicNameMax && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(), is_allowed);
}

KafkaTopicEntry ParseTopic(const config::Section& section, OptionProblems& problems) {
  KafkaTopicEntry entry;
  entry.stream = section.GetString("stream");
  entry.topic = section.Has("topic") ? section.GetString("topic") : entry.stream;
  entry.key = section.GetString("key");
  entry.snapshot = section.GetBoolean("snapshot");
  if (!IsTopicName(entry.topic)) {
    problems.Add({section.LocationOf("topic"),
                  fmt::format("'{}' is no topic name: letters, digits, '.', '_' and '-', at most "
                              "{} of them",
                              entry.topic, kTopicNameMax),
                  "kafka-topic"});
  }
  if (section.GetString("format") != "json") {
    problems.Add({section.LocationOf("format"),
                  fmt::format("format '{}' is not in this version", section.GetString("format")),
                  "kafka-format", /*is_unsupported=*/true});
  }
  const int64_t partitions = section.GetInteger("partitions");
  if (partitions < 1 || partitions > kPartitionsMax) {
    problems.Add({section.LocationOf("partitions"),
                  fmt::format("'partitions' must be from 1 to {}", kPartitionsMax),
                  "kafka-option"});
  } else {
    entry.partitions = static_cast<int>(partitions);
  }
  if (section.Has("replication_factor")) {
    const int64_t factor = section.GetInteger("replication_factor");
    if (factor < 1 || factor > std::numeric_limits<int16_t>::max()) {
      problems.Add({section.LocationOf("replication_factor"),
                    "'replication_factor' must be 1 or more", "kafka-option"});
    } else {
      entry.replication_factor = static_cast<int>(factor);
    }
  }
  return entry;
}

KafkaSinkOptions ParseAll(const config::Section& section, OptionProblems& problems) {
  KafkaSinkOptions options;
  options.kafka.brokers = section.GetString("brokers");
  options.kafka.properties = section.GetStringMap("properties");
  for (const auto& property : options.kafka.properties) {
    if (kafka::IsReservedProperty(property.first)) {
      problems.Add({section.LocationOf("properties"),
                    fmt::format("property '{}' is Millrace's own: exactly once depends on it",
                                property.first),
                    "kafka-property"});
    }
  }
  const std::vector<config::Section> topics = section.GetSectionList("topics");
  if (topics.empty()) {
    problems.Add({section.LocationOf("topics"), "'topics' is empty: the sink would do nothing",
                  "kafka-topics"});
  }
  for (const config::Section& topic : topics) {
    options.topics.push_back(ParseTopic(topic, problems));
  }
  return options;
}

}  // namespace

std::vector<FieldSpec> KafkaFields() {
  return {
      {.name = "brokers",
       .description = "Brokers to begin with: host:port,host:port.",
       .required = true},
      {.name = "properties",
       .type = FieldType::kStringMap,
       .description = "Extra librdkafka properties, such as security.protocol, sasl.mechanism, "
                      "sasl.username, sasl.password, ssl.ca.location.",
       .secret = true},
      {.name = "topics",
       .type = FieldType::kSectionList,
       .description = "What is written, one entry for each stream and topic.",
       .required = true,
       .fields = TopicFields()},
  };
}

std::vector<StreamUse> KafkaUses(const config::Section& section) {
  std::vector<StreamUse> uses;
  for (const config::Section& entry : section.GetSectionList("topics")) {
    StreamUse use{.stream = entry.GetString("stream")};
    if (entry.Has("key")) {
      use.address_columns.push_back(entry.GetString("key"));
    }
    uses.push_back(std::move(use));
  }
  return uses;
}

void LintKafka(const config::Section& section, config::Findings& findings) {
  OptionProblems problems;
  (void)ParseAll(section, problems);
  problems.AddTo(findings);
}

Result<KafkaSinkOptions> ParseKafkaOptions(const config::Section& section) {
  OptionProblems problems;
  KafkaSinkOptions options = ParseAll(section, problems);
  MR_RETURN_IF_ERROR(problems.First());
  return options;
}

}  // namespace millrace::sinks
