// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <random>
#include <stop_token>

namespace millrace {

struct BackoffOptions {
  std::chrono::milliseconds wait_min{100};
  std::chrono::milliseconds wait_max{10'000};
};

// Growing waits between tries: each is twice the last, at most wait_max, less a random part of up
// to half, so that many clients of one server do not come back together. Not thread-safe.
class Backoff {
 public:
  explicit Backoff(BackoffOptions options, uint64_t seed = std::random_device{}())
      : options_(options), next_(options.wait_min), random_(seed) {}

  // How long to wait before the next try.
  std::chrono::milliseconds NextWait();
  // After a success: the next wait is wait_min again.
  void Reset() {
    next_ = options_.wait_min;
    attempts_ = 0;
  }
  // Waits given since the last Reset().
  int attempts() const { return attempts_; }

 private:
  BackoffOptions options_;
  std::chrono::milliseconds next_;
  std::mt19937_64 random_;
  int attempts_ = 0;
};

// Waits for `time` or until `stop`; true if it was not stopped.
bool WaitUnlessStopped(std::chrono::milliseconds time, std::stop_token stop);

}  // namespace millrace
