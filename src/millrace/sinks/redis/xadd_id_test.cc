// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/redis/xadd_id.h"

#include <gtest/gtest.h>

namespace millrace::sinks {
namespace {

TEST(XaddId, Next) {
  // A new stream, and commits at and before 1970: 0-0 is no id.
  EXPECT_EQ(NextXaddId({}, 1'700'000'000'123'999), (XaddId{1'700'000'000'123, 0}));
  EXPECT_EQ(NextXaddId({}, 0), (XaddId{0, 1}));
  EXPECT_EQ(NextXaddId({}, -5'000), (XaddId{0, 1}));
  // The same millisecond; a commit time that went back; a stream that is ahead.
  EXPECT_EQ(NextXaddId({5, 0}, 5'999), (XaddId{5, 1}));
  EXPECT_EQ(NextXaddId({5, 7}, 4'000), (XaddId{5, 8}));
  EXPECT_EQ(NextXaddId({5, 7}, 6'000), (XaddId{6, 0}));
  // The end of a millisecond and of all.
  EXPECT_EQ(NextXaddId({5, UINT64_MAX}, 5'000), (XaddId{6, 0}));
  EXPECT_EQ(NextXaddId({UINT64_MAX, UINT64_MAX}, 5'000), std::nullopt);
  EXPECT_EQ(NextXaddId({UINT64_MAX, 1}, 5'000), (XaddId{UINT64_MAX, 2}));
}

TEST(XaddId, Parse) {
  EXPECT_EQ(ParseXaddId("1700000000123-4"), (XaddId{1'700'000'000'123, 4}));
  EXPECT_EQ(ParseXaddId("0-0"), (XaddId{}));
  EXPECT_EQ(ParseXaddId("18446744073709551615-18446744073709551615"),
            (XaddId{UINT64_MAX, UINT64_MAX}));
  for (const char* text : {"", "1", "1-", "-1", "1-2x", "x-1", "18446744073709551616-0"}) {
    EXPECT_EQ(ParseXaddId(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace millrace::sinks
