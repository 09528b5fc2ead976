// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "millrace/clients/kafka/kafka_options.h"
#include "millrace/common/result.h"
#include "millrace/config/section.h"
#include "millrace/sinks/sink.h"

namespace millrace::sinks {

// One entry of `topics:`.
struct KafkaTopicEntry {
  std::string stream;
  std::string topic;
  std::string key;              // a column; empty: the stream's key
  int partitions = 1;           // of a topic that is made
  int replication_factor = -1;  // -1: the broker's default
  bool snapshot = true;         // false: rows of the snapshot are left out
};

struct KafkaSinkOptions {
  kafka::KafkaOptions kafka;
  std::vector<KafkaTopicEntry> topics;
};

// The fields of `type: kafka`.
std::vector<config::FieldSpec> KafkaFields();

std::vector<StreamUse> KafkaUses(const config::Section& section);

void LintKafka(const config::Section& section, config::Findings& findings);

// kInvalidArgument or kUnsupported with the sentence that LintKafka() says.
Result<KafkaSinkOptions> ParseKafkaOptions(const config::Section& section);

}  // namespace millrace::sinks
