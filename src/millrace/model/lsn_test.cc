// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/lsn.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Lsn, PrintsAndParsesAsPostgresDoes) {
  EXPECT_EQ(FormatLsn(Lsn(0x16B374D848)), "16/B374D848");
  EXPECT_EQ(FormatLsn(Lsn(0)), "0/0");
  EXPECT_EQ(*ParseLsn("16/B374D848"), Lsn(0x16B374D848));
  EXPECT_EQ(*ParseLsn("ffffffff/ffffffff"), Lsn(UINT64_MAX));
  for (const char* bad : {"", "/", "1", "1/", "/1", "1/2/3", "100000000/0", "0x1/2", " 1/2"}) {
    EXPECT_FALSE(ParseLsn(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace millrace
