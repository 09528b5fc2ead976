// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace millrace {

// The wall clock in microseconds since 1970-01-01 UTC, to compare with commit times. It may jump:
// intervals are measured with std::chrono::steady_clock.
inline int64_t NowMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// A moment by two clocks, to be compared by a later process too.
struct Moment {
  int64_t wall_ms = 0;  // since 1970-01-01 UTC; may jump
  std::string boot;     // names the start of the machine; empty: not known
  int64_t boot_ms = 0;  // since then, suspensions included; does not jump

  bool operator==(const Moment&) const = default;
};

Moment NowOfMachine();

// How long it was. By the wall clock where the machine was started anew between the two; nothing
// where that clock then went back.
std::optional<std::chrono::milliseconds> Elapsed(const Moment& from, const Moment& to);

}  // namespace millrace
