// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/clock.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

using std::chrono::milliseconds;

TEST(ClockTest, AJumpOfTheWallClockChangesNothingWithinAStartOfTheMachine) {
  const Moment from{.wall_ms = 1'000'000, .boot = "a", .boot_ms = 500};
  EXPECT_EQ(Elapsed(from, {.wall_ms = 0, .boot = "a", .boot_ms = 700}), milliseconds(200));
  EXPECT_EQ(Elapsed(from, {.wall_ms = 1 << 30, .boot = "a", .boot_ms = 700}), milliseconds(200));
}

TEST(ClockTest, AcrossStartsTheWallClockCounts) {
  const Moment from{.wall_ms = 1'000'000, .boot = "a", .boot_ms = 500};
  EXPECT_EQ(Elapsed(from, {.wall_ms = 1'000'300, .boot = "b", .boot_ms = 7}), milliseconds(300));
  EXPECT_EQ(Elapsed(from, {.wall_ms = 999'000, .boot = "b", .boot_ms = 7}), std::nullopt);
  EXPECT_EQ(Elapsed({.wall_ms = 5}, {.wall_ms = 9}), milliseconds(4));
}

TEST(ClockTest, TheMachineTellsItsStart) {
  const Moment from = NowOfMachine();
  EXPECT_FALSE(from.boot.empty());
  EXPECT_GT(from.boot_ms, 0);
  EXPECT_TRUE(Elapsed(from, NowOfMachine()).has_value());
}

}  // namespace
}  // namespace millrace
