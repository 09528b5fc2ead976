// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/fd_writer.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <limits.h>
#include <poll.h>
#include <unistd.h>

namespace millrace::telemetry {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

FdWriter::FdWriter(int fd, milliseconds wait_max,
                   std::function<std::string(uint64_t lost)> lost_line)
    : fd_(fd), wait_max_(wait_max), lost_line_(std::move(lost_line)) {}

void FdWriter::WriteLine(std::string_view line) {
  std::string bytes;
  bytes.reserve(line.size() + 2);
  if (is_torn_) {
    bytes += '\n';
  }
  if (lost_ != 0) {
    bytes += lost_line_(lost_);
    bytes += '\n';
  }
  bytes += line;
  bytes += '\n';
  if (WriteAll(bytes, lost_ == 0 ? wait_max_ : milliseconds(0))) {
    lost_ = 0;
    is_torn_ = false;
  } else {
    ++lost_;
  }
}

// A pipe that polls as writable takes PIPE_BUF bytes without blocking, so that is the piece written
// at a time.
bool FdWriter::WriteAll(std::string_view bytes, milliseconds wait) {
  const steady_clock::time_point deadline = steady_clock::now() + wait;
  while (!bytes.empty()) {
    const auto left =
        std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now()).count();
    pollfd target{.fd = fd_, .events = POLLOUT, .revents = 0};
    const int ready = poll(&target, 1, static_cast<int>(std::max<int64_t>(left, 0)));
    if (ready < 0 && errno == EINTR) {
      continue;
    }
    if (ready <= 0) {
      return false;
    }
    const ssize_t written = write(fd_, bytes.data(), std::min<size_t>(bytes.size(), PIPE_BUF));
    if (written < 0) {
      if (errno == EINTR || errno == EAGAIN) {
        continue;
      }
      return false;
    }
    bytes.remove_prefix(static_cast<size_t>(written));
    is_torn_ = !bytes.empty();
  }
  return true;
}

}  // namespace millrace::telemetry
