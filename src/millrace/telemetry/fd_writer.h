// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace millrace::telemetry {

// Writes lines to a file descriptor that somebody else may have stopped reading. A line waits
// `wait_max` at most; then it is lost, and so are the next ones, without waiting, until there is
// room again. The first line after that is preceded by `lost_line(n)`.
//
// Threads: one at a time. Does not own the descriptor.
class FdWriter {
 public:
  FdWriter(int fd, std::chrono::milliseconds wait_max,
           std::function<std::string(uint64_t lost)> lost_line);

  // Writes `line` and a line end.
  void WriteLine(std::string_view line);

  // Lines lost since the last one that was written.
  uint64_t lost() const { return lost_; }

 private:
  bool WriteAll(std::string_view bytes, std::chrono::milliseconds wait);

  // Constant after construction.
  const int fd_;
  const std::chrono::milliseconds wait_max_;
  const std::function<std::string(uint64_t)> lost_line_;

  uint64_t lost_ = 0;
  bool is_torn_ = false;  // part of a line was written
};

}  // namespace millrace::telemetry
