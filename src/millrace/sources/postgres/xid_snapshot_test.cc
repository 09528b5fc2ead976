// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/xid_snapshot.h"

#include <gtest/gtest.h>

namespace millrace::sources::postgres {
namespace {

TEST(XidSnapshotTest, ItSeesWhatHadEnded) {
  const Result<XidSnapshot> snapshot = XidSnapshot::Parse("10:20:10,14,19");
  ASSERT_TRUE(snapshot.ok());
  for (FullXid xid = 5; xid < 25; ++xid) {
    EXPECT_EQ(snapshot->Sees(xid), xid < 20 && xid != 10 && xid != 14 && xid != 19) << xid;
  }
  const Result<XidSnapshot> idle = XidSnapshot::Parse("20:20:");
  ASSERT_TRUE(idle.ok());
  EXPECT_TRUE(idle->Sees(19));
  EXPECT_FALSE(idle->Sees(20));
}

TEST(XidSnapshotTest, XidsAreWidenedAcrossTheWrap) {
  XidSnapshot snapshot;
  snapshot.xmax = (FullXid{3} << 32) + 5;
  EXPECT_EQ(snapshot.Widen(Xid(3)), (FullXid{3} << 32) + 3);
  EXPECT_EQ(snapshot.Widen(Xid(100)), (FullXid{3} << 32) + 100);
  EXPECT_EQ(snapshot.Widen(Xid(UINT32_MAX)), (FullXid{3} << 32) - 1);
}

TEST(XidSnapshotTest, OtherTextIsCorruption) {
  for (const char* text : {"", "10", "10:", "x:20:", "20:10:", "10:20:9", "10:20:20", "10:20:12,11",
                           "10:20:12;13", "10:20:12,x", "-1:20:"}) {
    EXPECT_EQ(XidSnapshot::Parse(text).status().code(), Code::kCorruption) << text;
  }
}

}  // namespace
}  // namespace millrace::sources::postgres
