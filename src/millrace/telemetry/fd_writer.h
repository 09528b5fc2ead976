// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "millrace/common/line_writer.h"

namespace millrace::telemetry {

// Writes lines to a file descriptor that somebody else may have stopped reading. A line waits
// `wait_max` at most; then it is lost, and so are the next ones, without waiting, until there is
// room again. The first line after that is preceded by `lost_line(n)`. Lines stay whole as those of
// a LineWriter do.
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
  // Constant after construction.
  const std::chrono::milliseconds wait_max_;
  const std::function<std::string(uint64_t)> lost_line_;

  LineWriter lines_;
  uint64_t lost_ = 0;
};

}  // namespace millrace::telemetry
