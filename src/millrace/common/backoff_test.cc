// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/backoff.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

using std::chrono::milliseconds;

TEST(Backoff, DoublesUpToTheBoundLessAtMostHalf) {
  Backoff backoff({milliseconds(100), milliseconds(1000)}, 7);
  for (const int64_t longest : {100, 200, 400, 800, 1000, 1000}) {
    const milliseconds wait = backoff.NextWait();
    EXPECT_LE(wait.count(), longest);
    EXPECT_GE(wait.count(), longest / 2);
  }
  EXPECT_EQ(backoff.attempts(), 6);
  backoff.Reset();
  EXPECT_LE(backoff.NextWait(), milliseconds(100));
}

}  // namespace
}  // namespace millrace
