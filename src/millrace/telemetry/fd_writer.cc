// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/fd_writer.h"

#include <utility>

namespace millrace::telemetry {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

FdWriter::FdWriter(int fd, milliseconds wait_max,
                   std::function<std::string(uint64_t lost)> lost_line)
    : wait_max_(wait_max), lost_line_(std::move(lost_line)), lines_(fd) {}

void FdWriter::WriteLine(std::string_view line) {
  std::string bytes;
  bytes.reserve(line.size() + 1);
  if (lost_ != 0) {
    bytes += lost_line_(lost_);
    bytes += '\n';
  }
  bytes += line;
  bytes += '\n';
  const milliseconds wait = lost_ == 0 ? wait_max_ : milliseconds(0);
  const bool is_written = lines_.Write(bytes, steady_clock::now() + wait, {}).ok();
  lost_ = is_written ? 0 : lost_ + 1;
}

}  // namespace millrace::telemetry
