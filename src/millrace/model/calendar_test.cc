// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/calendar.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Calendar, KnownDays) {
  EXPECT_EQ(DaysFromCivil({1970, 1, 1}), 0);
  EXPECT_EQ(DaysFromCivil({2000, 3, 1}), 11017);
  EXPECT_EQ(DaysFromCivil({0, 2, 29}), -719469);
  EXPECT_EQ(DaysFromCivil({-4713, 11, 24}), -2440588);
}

TEST(Calendar, BothWaysAgree) {
  for (int64_t day = -2'440'588; day < 107'000'000; day += 97) {
    EXPECT_EQ(DaysFromCivil(CivilFromDays(day)), day);
  }
}

}  // namespace
}  // namespace millrace
