// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
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
  // After which Kafka ends a transaction that does not.
  std::chrono::milliseconds transaction_timeout{60'000};
  // How long each step of Open() may take.
  std::chrono::milliseconds open_timeout{30'000};
  // How long the answer to a commit is waited for: Kafka's own time-out of a transaction.
  std::chrono::milliseconds commit_timeout{60'000};
};

// The fields of `type: kafka`.
std::vector<config::FieldSpec> KafkaFields();

std::vector<StreamUse> KafkaUses(const config::Section& section);

void LintKafka(const config::Section& section, config::Findings& findings);

// kInvalidArgument or kUnsupported with the sentence that LintKafka() says.
Result<KafkaSinkOptions> ParseKafkaOptions(const config::Section& section);

}  // namespace millrace::sinks
