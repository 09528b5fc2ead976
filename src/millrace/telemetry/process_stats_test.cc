// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/process_stats.h"

#include <ctime>

#include <gtest/gtest.h>
#include <unistd.h>

namespace millrace::telemetry {
namespace {

TEST(ProcessStats, AreThoseOfThisProcess) {
  const ProcessStats before = ReadProcessStats();
  EXPECT_GT(before.resident_bytes, 1'000'000u);
  EXPECT_LT(before.resident_bytes, uint64_t{1} << 40);
  EXPECT_GE(before.max_fds, before.open_fds);
  const auto now = static_cast<double>(std::time(nullptr));
  EXPECT_LE(before.start_time_seconds, now + 2);
  EXPECT_GE(before.start_time_seconds, now - 3600);

  const int fd = dup(STDERR_FILENO);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(ReadProcessStats().open_fds, before.open_fds + 1);
  close(fd);
}

TEST(ProcessStats, CpuTimeGrowsWithWork) {
  const double before = ReadProcessStats().cpu_seconds;
  volatile uint64_t sum = 0;
  const std::clock_t start = std::clock();
  while (std::clock() - start < CLOCKS_PER_SEC / 20) {
    sum = sum + 1;
  }
  EXPECT_GE(ReadProcessStats().cpu_seconds, before + 0.03);
}

}  // namespace
}  // namespace millrace::telemetry
