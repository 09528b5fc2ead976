// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "millrace/telemetry/log.h"

namespace millrace::telemetry {

// What a Logger is made of; for tests and for log.cc.
struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
  // Text only: whether lines begin with time and level.
  bool has_prefix = true;
  // How long a repeated warning or error is held back; zero: never.
  std::chrono::milliseconds repeat_interval{10'000};
  // How many different warnings and errors are remembered for that; others are written.
  size_t repeat_entries_max = 1024;
  // Takes each finished line, one at a time.
  std::function<void(LogLevel, const std::string& line)> write;
  std::function<std::chrono::system_clock::time_point()> wall_clock;
  std::function<std::chrono::steady_clock::time_point()> steady_clock;
};

Logger MakeLogger(LogOptions options);

}  // namespace millrace::telemetry
