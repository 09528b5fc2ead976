// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/line_writer.h"

#include <array>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace millrace {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr size_t kPipeBytes = 16384;

steady_clock::time_point In(milliseconds wait) { return steady_clock::now() + wait; }
const auto kNoDeadline = steady_clock::time_point::max();

std::string Line(size_t size, char c) { return std::string(size, c) + "\n"; }

// A small pipe with two descriptors to write to, as stdout and stderr are after 2>&1.
class LineWriterTest : public testing::Test {
 protected:
  LineWriterTest() {
    EXPECT_EQ(pipe2(ends_.data(), O_CLOEXEC), 0);
    EXPECT_EQ(fcntl(ends_[1], F_SETPIPE_SZ, kPipeBytes), static_cast<int>(kPipeBytes));
    other_ = fcntl(ends_[1], F_DUPFD_CLOEXEC, 0);
  }
  ~LineWriterTest() override {
    close(ends_[0]);
    CloseWriters();
  }
  void CloseWriters() {
    close(std::exchange(ends_[1], -1));
    close(std::exchange(other_, -1));
  }
  // What is there, up to `size` bytes.
  std::string Read(size_t size) {
    std::string text(size, '\0');
    const ssize_t n = read(ends_[0], text.data(), size);
    text.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return text;
  }
  std::string ReadToEnd() {
    std::string text;
    for (std::string piece; !(piece = Read(4096)).empty();) {
      text += piece;
    }
    return text;
  }

  std::array<int, 2> ends_{};
  int other_ = -1;
};

TEST_F(LineWriterTest, LongLinesOfSeveralWritersStayWhole) {
  constexpr int kRounds = 50;
  // Longer than the pipe, a little more than fits at once, and several at once.
  const std::vector<std::string> texts = {Line(3 * kPipeBytes, 'a'), Line(5000, 'b'),
                                          Line(10, 'c') + Line(6000, 'c')};
  std::vector<std::thread> writers;
  for (size_t i = 0; i < texts.size(); ++i) {
    writers.emplace_back([&, i] {
      LineWriter writer(i == 0 ? ends_[1] : other_);
      for (int round = 0; round < kRounds; ++round) {
        EXPECT_TRUE(writer.Write(texts[i], kNoDeadline, {}).ok());
      }
    });
  }
  std::thread end([&] {
    for (std::thread& writer : writers) {
      writer.join();
    }
    CloseWriters();
  });
  const std::string all = ReadToEnd();
  end.join();
  size_t lines = 0;
  for (size_t begin = 0, line_end = 0; begin < all.size(); begin = line_end + 1, ++lines) {
    line_end = all.find('\n', begin);
    ASSERT_NE(line_end, std::string::npos);
    ASSERT_EQ(all.find_first_not_of(all[begin], begin), line_end) << "a line holds another's bytes";
  }
  EXPECT_EQ(lines, size_t{kRounds} * 4);
}

TEST_F(LineWriterTest, OnlyWritersOfTheSameFileWaitForTheEndOfALine) {
  std::stop_source stop;
  std::thread holder([&] {
    LineWriter stuck(ends_[1]);
    EXPECT_EQ(stuck.Write(Line(2 * kPipeBytes, 'a'), kNoDeadline, stop.get_token()).code(),
              Code::kCancelled);
  });
  for (int held = 0; held < static_cast<int>(kPipeBytes); std::this_thread::yield()) {
    ASSERT_EQ(ioctl(ends_[0], FIONREAD, &held), 0);
  }
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  EXPECT_TRUE(LineWriter(ends[1]).Write("x\n", In(milliseconds(0)), {}).ok());
  // One of the same file gives up in time.
  EXPECT_EQ(LineWriter(other_).Write("x\n", In(milliseconds(10)), {}).code(), Code::kTimedOut);
  stop.request_stop();
  holder.join();
  close(ends[0]);
  close(ends[1]);
}

TEST_F(LineWriterTest, AnyWriterEndsALineThatWasLeftTorn) {
  LineWriter writer(ends_[1]);
  LineWriter other(other_);
  EXPECT_EQ(writer.Write(Line(kPipeBytes, 'a'), In(milliseconds(0)), {}).code(), Code::kTimedOut);
  EXPECT_EQ(Read(kPipeBytes), std::string(kPipeBytes, 'a'));
  EXPECT_TRUE(other.Write("next\n", kNoDeadline, {}).ok());
  EXPECT_TRUE(writer.Write("again\n", kNoDeadline, {}).ok());
  CloseWriters();
  EXPECT_EQ(ReadToEnd(), "\nnext\nagain\n");
}

TEST(LineWriterFileTest, EndsTheLineInWhichAnEarlierProcessDied) {
  std::string path = testing::TempDir() + "line_writer_XXXXXX";
  const int made = mkstemp(path.data());
  ASSERT_GE(made, 0);
  ASSERT_EQ(write(made, "torn", 4), 4);
  const auto append = [&](const std::string& lines) {
    const int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    EXPECT_TRUE(LineWriter(fd).Write(lines, kNoDeadline, {}).ok());
    close(fd);
  };
  append("one\n");
  append("two\nthree\n");
  std::string text(64, '\0');
  text.resize(static_cast<size_t>(pread(made, text.data(), text.size(), 0)));
  EXPECT_EQ(text, "torn\none\ntwo\nthree\n");
  close(made);
  unlink(path.c_str());
}

TEST(LineWriterFileTest, SaysWhyItCannotWrite) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  const Status status = LineWriter(full).Write("x\n", kNoDeadline, {});
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_EQ(status.message(), "No space left on device");
  close(full);
}

}  // namespace
}  // namespace millrace
