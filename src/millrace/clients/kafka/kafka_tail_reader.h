// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "millrace/clients/kafka/kafka_options.h"
#include "millrace/common/result.h"
#include "millrace/telemetry/log.h"

namespace millrace::kafka {

namespace internal {
class Handle;
}

// Finds the newest committed record of a key in partition 0 of a topic, reading backwards from its
// end in growing steps. Threads: one thread makes every call.
class KafkaTailReader {
 public:
  static Result<std::unique_ptr<KafkaTailReader>> Make(const KafkaOptions& options,
                                                       std::string topic, telemetry::Logger log);
  ~KafkaTailReader();

  // The value of the newest committed record with `key`, up to the last stable offset; nothing if
  // there is none, or if the newest is a tombstone. kUnavailable when the topic cannot be read
  // until `deadline`, kCancelled.
  Result<std::optional<std::string>> ReadLast(std::string_view key, Deadline deadline,
                                              std::stop_token stop);

 private:
  KafkaTailReader(std::unique_ptr<internal::Handle> handle, std::string topic);

  struct Found {
    bool any = false;  // a record of the key, or its tombstone
    std::optional<std::string> value;
  };
  struct Range {
    int64_t low = 0;
    int64_t high = 0;
  };
  Result<Range> QueryRange(Deadline deadline, const std::stop_token& stop);
  Result<Found> ReadFrom(int64_t offset, std::string_view key, Deadline deadline,
                         const std::stop_token& stop);
  Status Assign(int64_t offset);

  const std::unique_ptr<internal::Handle> handle_;
  const std::string topic_;
};

}  // namespace millrace::kafka
