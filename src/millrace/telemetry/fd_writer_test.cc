// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/fd_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace millrace::telemetry {
namespace {

using std::chrono::milliseconds;

// A small pipe, whose reader reads only when asked.
class FdWriterTest : public testing::Test {
 public:
  ~FdWriterTest() override {
    close(ends_[0]);
    close(ends_[1]);
  }

 protected:
  FdWriterTest() {
    EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    EXPECT_EQ(fcntl(ends_[0], F_SETFL, O_NONBLOCK), 0);
    capacity_ = static_cast<size_t>(fcntl(ends_[1], F_SETPIPE_SZ, 16384));
  }

  std::string ReadAll() {
    std::string all;
    char piece[4096];
    for (ssize_t n = 0; (n = read(ends_[0], piece, sizeof(piece))) > 0;) {
      all.append(piece, static_cast<size_t>(n));
    }
    return all;
  }

  int ends_[2] = {-1, -1};
  size_t capacity_ = 0;
  FdWriter Make(milliseconds wait_max) {
    return {ends_[1], wait_max, [](uint64_t lost) { return "lost " + std::to_string(lost); }};
  }
};

TEST_F(FdWriterTest, WritesLines) {
  FdWriter writer = Make(milliseconds(1000));
  writer.WriteLine("one");
  writer.WriteLine("two");
  EXPECT_EQ(ReadAll(), "one\ntwo\n");
}

TEST_F(FdWriterTest, LosesAndCountsLinesThatNobodyReads) {
  FdWriter writer = Make(milliseconds(1));
  const std::string page(capacity_ - 1, 'x');
  writer.WriteLine(page);
  writer.WriteLine("two");
  writer.WriteLine("three");
  EXPECT_EQ(writer.lost(), 2u);
  EXPECT_EQ(ReadAll(), page + "\n");
  writer.WriteLine("four");
  EXPECT_EQ(ReadAll(), "lost 2\nfour\n");
  EXPECT_EQ(writer.lost(), 0u);
}

TEST_F(FdWriterTest, WaitsOnceForAReaderThatIsStuck) {
  FdWriter writer = Make(milliseconds(50));
  writer.WriteLine(std::string(capacity_, 'x'));
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) {
    writer.WriteLine("line");
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(1000));
  EXPECT_EQ(writer.lost(), 101u);
}

TEST_F(FdWriterTest, EndsTheTornLineFirst) {
  FdWriter writer = Make(milliseconds(1));
  const std::string long_line(capacity_ + 100, 'x');
  writer.WriteLine(long_line);
  EXPECT_EQ(writer.lost(), 1u);
  EXPECT_EQ(ReadAll(), std::string(capacity_, 'x'));
  writer.WriteLine("next");
  EXPECT_EQ(ReadAll(), "\nlost 1\nnext\n");
}

}  // namespace
}  // namespace millrace::telemetry
