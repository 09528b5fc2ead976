// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "millrace/clients/kafka/kafka_options.h"
#include "millrace/common/result.h"

namespace millrace::kafka::testing {

struct Record {
  int partition = 0;
  std::optional<std::string> key;
  std::optional<std::string> value;
};

// Everything that a read_committed consumer sees in partitions [0, `partitions`) of a topic, up to
// the last stable offset at this moment, partition by partition.
Result<std::vector<Record>> DumpTopic(const KafkaOptions& options, const std::string& topic,
                                      int partitions);

}  // namespace millrace::kafka::testing
