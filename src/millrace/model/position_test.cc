// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/position.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

// The worked example of docs/formats/position.md.
TEST(RowVersion, EncodesAsDocumented) {
  const RowVersion version{Epoch(1), Lsn(0x16B374D848), 3};
  EXPECT_EQ(FormatUInt128(version.Encode()), "1329229794343564699141171554702852099");
}

TEST(RowVersion, OrdersByEpochThenLsnThenOrdinal) {
  const RowVersion a{Epoch(0), Lsn(100), 9};
  const RowVersion b{Epoch(0), Lsn(101), 1};
  const RowVersion c{Epoch(0), Lsn(101), kSnapshotOrdinalBase};
  const RowVersion d{Epoch(1), Lsn(1), 1};
  EXPECT_LT(a, b);
  EXPECT_LT(b, c);
  EXPECT_LT(c, d);
  EXPECT_LT(a.Encode(), b.Encode());
  EXPECT_LT(b.Encode(), c.Encode());
  EXPECT_LT(c.Encode(), d.Encode());
}

}  // namespace
}  // namespace millrace
