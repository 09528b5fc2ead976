// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace::kafka {

using Deadline = std::chrono::steady_clock::time_point;

// What every connection to a cluster is made with.
struct KafkaOptions {
  std::string brokers;  // host:port,host:port
  std::string client_id = "millrace";
  // Extra librdkafka properties by their names: security.protocol, sasl.*, ssl.* ... Values may be
  // secrets.
  std::vector<std::pair<std::string, std::string>> properties;
};

// True for a property that Millrace sets itself, because exactly once depends on it.
bool IsReservedProperty(std::string_view name);

}  // namespace millrace::kafka
