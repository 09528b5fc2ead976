// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/backoff.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

namespace millrace {

std::chrono::milliseconds Backoff::NextWait() {
  const auto longest = next_.count();
  next_ = std::min(next_ * 2, options_.wait_max);
  ++attempts_;
  std::uniform_int_distribution<int64_t> wait((longest + 1) / 2, longest);
  return std::chrono::milliseconds(wait(random_));
}

bool WaitUnlessStopped(std::chrono::milliseconds time, std::stop_token stop) {
  std::mutex mu;
  std::condition_variable_any stopped;
  std::unique_lock lock(mu);
  stopped.wait_for(lock, stop, time, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace millrace
