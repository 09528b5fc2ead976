// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/line_writer.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <map>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "millrace/common/mutex.h"
#include "millrace/common/result.h"

namespace millrace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// The longest that a stop goes unseen.
constexpr milliseconds kStopPoll{100};

// How long to wait at a time; 0 once `deadline` has passed.
milliseconds NextWait(steady_clock::time_point deadline) {
  const auto now = steady_clock::now();
  if (deadline <= now) {
    return milliseconds(0);
  }
  // A part of a millisecond is waited out whole, or the caller would spin through it.
  return deadline - now >= kStopPoll
             ? kStopPoll
             : std::chrono::duration_cast<milliseconds>(deadline - now) + milliseconds(1);
}

// True if we append to a file that ends within a line: an earlier process was killed there.
bool EndsWithinLine(int fd, const struct stat& info) {
  const int flags = fcntl(fd, F_GETFL);
  if (!S_ISREG(info.st_mode) || info.st_size == 0 || flags < 0 || (flags & O_APPEND) == 0) {
    return false;
  }
  // `fd` itself is most often open for writing alone.
  const int reader = open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC);
  if (reader < 0) {
    return false;
  }
  char last = '\n';
  const bool is_read = pread(reader, &last, 1, info.st_size - 1) == 1;
  close(reader);
  return is_read && last != '\n';
}

// A pipe that polls as writable takes PIPE_BUF bytes without blocking, so that is the most that is
// written at a time; as many whole lines of it as there are.
std::string_view NextPiece(std::string_view lines) {
  const std::string_view piece = lines.substr(0, PIPE_BUF);
  const size_t end = piece.rfind('\n');
  return end == std::string_view::npos ? piece : piece.substr(0, end + 1);
}

}  // namespace

// What the writers of one file share.
struct LineWriter::File {
  Mutex mu;
  CondVar released;
  bool is_taken MR_GUARDED_BY(mu) = false;
  // Used by the writer that has taken the file: its last line has no end yet.
  bool is_torn = false;
};

LineWriter::LineWriter(int fd) : fd_(fd), file_(FileOf(fd)) {}

LineWriter::~LineWriter() = default;

std::shared_ptr<LineWriter::File> LineWriter::FileOf(int fd) {
  struct stat info = {};
  if (fstat(fd, &info) != 0) {
    return std::make_shared<File>();  // what is written to it says why
  }
  static Mutex mu;
  static std::map<std::pair<uint64_t, uint64_t>, std::weak_ptr<File>>& files =
      *new std::map<std::pair<uint64_t, uint64_t>, std::weak_ptr<File>>();
  MutexLock lock(mu);
  std::erase_if(files, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<File>& known = files[{info.st_dev, info.st_ino}];
  std::shared_ptr<File> file = known.lock();
  if (file == nullptr) {
    file = std::make_shared<File>();
    file->is_torn = EndsWithinLine(fd, info);
    known = file;
  }
  return file;
}

Status LineWriter::WaitForRoom(steady_clock::time_point deadline,
                               const std::stop_token& stop) const {
  while (!stop.stop_requested()) {
    const milliseconds wait = NextWait(deadline);
    pollfd target = {.fd = fd_, .events = POLLOUT, .revents = 0};
    const int ready = poll(&target, 1, static_cast<int>(wait.count()));
    if (ready > 0) {
      return Status::Ok();
    }
    if (ready == 0 && wait.count() == 0) {
      return TimedOut("nobody reads");
    }
    if (ready < 0 && errno != EINTR) {
      return Unavailable(std::error_code(errno, std::generic_category()).message());
    }
  }
  return Cancelled("asked to stop");
}

Status LineWriter::Take(steady_clock::time_point deadline, const std::stop_token& stop) {
  MutexLock lock(file_->mu);
  while (file_->is_taken) {
    if (stop.stop_requested()) {
      return Cancelled("asked to stop");
    }
    const milliseconds wait = NextWait(deadline);
    if (wait.count() == 0) {
      return TimedOut("another writer is within a line that nobody reads");
    }
    file_->released.WaitUntil(file_->mu, steady_clock::now() + wait);
  }
  file_->is_taken = true;
  return Status::Ok();
}

void LineWriter::Release() {
  MutexLock lock(file_->mu);
  file_->is_taken = false;
  file_->released.NotifyOne();
}

// Takes what it has written off `lines`. REQUIRES: the file is taken.
Status LineWriter::WriteToLineEnd(std::string_view& lines, steady_clock::time_point deadline,
                                  const std::stop_token& stop) {
  const bool ends_other = file_->is_torn;
  std::string_view left = ends_other ? std::string_view("\n") : lines;
  do {
    MR_RETURN_IF_ERROR(WaitForRoom(deadline, stop));
    const std::string_view piece = NextPiece(left);
    const ssize_t written = write(fd_, piece.data(), piece.size());
    if (written < 0 && errno != EINTR && errno != EAGAIN) {
      return Unavailable(std::error_code(errno, std::generic_category()).message());
    }
    if (written > 0) {
      left.remove_prefix(static_cast<size_t>(written));
      file_->is_torn = piece[static_cast<size_t>(written) - 1] != '\n';
    }
  } while (file_->is_torn);
  if (!ends_other) {
    lines = left;
  }
  return Status::Ok();
}

Status LineWriter::Write(std::string_view lines, steady_clock::time_point deadline,
                         const std::stop_token& stop) {
  while (!lines.empty()) {
    // Others may write while there is no room for us.
    MR_RETURN_IF_ERROR(WaitForRoom(deadline, stop));
    MR_RETURN_IF_ERROR(Take(deadline, stop));
    const Status status = WriteToLineEnd(lines, deadline, stop);
    Release();
    MR_RETURN_IF_ERROR(status);
  }
  return Status::Ok();
}

}  // namespace millrace
