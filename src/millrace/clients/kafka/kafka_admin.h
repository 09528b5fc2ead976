// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "millrace/clients/kafka/kafka_options.h"
#include "millrace/common/result.h"
#include "millrace/telemetry/log.h"

namespace millrace::kafka {

namespace internal {
class Handle;
}

// A topic as it is made when it is missing; one that exists is left as it is.
struct KafkaTopic {
  std::string name;
  int partitions = 1;
  int replication_factor = -1;  // -1: the broker's default
  std::vector<std::pair<std::string, std::string>> settings;
};

// Makes topics and looks at their settings. Threads: one thread makes every call.
class KafkaAdmin {
 public:
  static Result<std::unique_ptr<KafkaAdmin>> Make(const KafkaOptions& options,
                                                  telemetry::Logger log);
  ~KafkaAdmin();

  // kUnavailable when no broker answers.
  Status CheckBroker(Deadline deadline);

  // Makes those of `topics` that are missing, and gives the greatest message that each takes
  // (max.message.bytes), or nothing where we may not ask. kUnavailable when no broker answers,
  // kPermissionDenied when a missing topic may not be made, kCancelled.
  Result<std::map<std::string, std::optional<size_t>>> EnsureTopics(
      const std::vector<KafkaTopic>& topics, Deadline deadline, std::stop_token stop);

 private:
  // What DescribeConfigs says of a topic.
  struct Described {
    bool is_missing = false;
    std::optional<size_t> message_bytes_max;
  };
  explicit KafkaAdmin(std::unique_ptr<internal::Handle> handle);

  Result<std::map<std::string, Described>> Describe(const std::vector<KafkaTopic>& topics,
                                                    Deadline deadline, const std::stop_token& stop);
  Status Create(const std::vector<KafkaTopic>& topics, Deadline deadline,
                const std::stop_token& stop);

  const std::unique_ptr<internal::Handle> handle_;
};

}  // namespace millrace::kafka
