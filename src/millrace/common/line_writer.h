// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <stop_token>
#include <string_view>

#include "millrace/common/status.h"

namespace millrace {

// Writes whole lines to a file, pipe, socket or terminal that others in this process write to as
// well: `2>&1` makes one file of stdout and stderr, and several sinks print to stdout. Whoever
// writes a line keeps other writers of the same file off until its end, whichever descriptor they
// have of it.
//
// A line of which only a part could be written, by this process or by an earlier one that was
// killed while it appended to a file, is ended before the next one begins.
//
// Threads: one at a time; any number of LineWriters at once. Does not own the descriptor, which
// must stay open.
class LineWriter {
 public:
  explicit LineWriter(int fd);
  ~LineWriter();

  // Writes `lines`, the last of which ends with '\n' too, and waits for a reader until `deadline`.
  // An error means that some lines are not written: kTimedOut; kCancelled soon after `stop`;
  // kUnavailable when the file is closed or full. Between two lines others may write theirs.
  Status Write(std::string_view lines, std::chrono::steady_clock::time_point deadline,
               const std::stop_token& stop);

 private:
  struct File;

  static std::shared_ptr<File> FileOf(int fd);
  Status WaitForRoom(std::chrono::steady_clock::time_point deadline,
                     const std::stop_token& stop) const;
  Status Take(std::chrono::steady_clock::time_point deadline, const std::stop_token& stop);
  void Release();
  Status WriteToLineEnd(std::string_view& lines, std::chrono::steady_clock::time_point deadline,
                        const std::stop_token& stop);

  // Constant after construction.
  const int fd_;
  const std::shared_ptr<File> file_;
};

}  // namespace millrace
