// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace millrace::telemetry {

// What the kernel counts for this process. What cannot be read is 0.
struct ProcessStats {
  uint64_t resident_bytes = 0;
  double cpu_seconds = 0;  // user and system
  uint64_t open_fds = 0;
  uint64_t max_fds = 0;
  double start_time_seconds = 0;  // since 1970-01-01 UTC
};

// Reads /proc/self. Threads: any.
ProcessStats ReadProcessStats();

}  // namespace millrace::telemetry
