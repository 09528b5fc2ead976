// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/position_record.h"

#include <string>

#include <gtest/gtest.h>

namespace millrace::sinks {
namespace {

const PositionRecord kRecord{.instance_id = "a\"b",
                             .source = {Epoch(3), Lsn(0x16'B374'D848)},
                             .first = Offset(100),
                             .end = Offset(UINT64_MAX)};

TEST(PositionRecord, RoundTrips) {
  const std::string text = FormatPositionRecord(kRecord);
  EXPECT_EQ(text,
            R"({"version":1,"instance_id":"a\"b","epoch":3,"end_lsn":"16/B374D848","first":100,)"
            R"("end":18446744073709551615})");
  const Result<PositionRecord> parsed = ParsePositionRecord(text);
  ASSERT_TRUE(parsed.ok()) << parsed.status().ToString();
  EXPECT_EQ(*parsed, kRecord);
}

TEST(PositionRecord, RefusesWhatItIsNot) {
  for (const char* text :
       {"", "7", "[]", "{}", "{\"version\":1}",
        R"({"version":1,"instance_id":"a","epoch":0,"end_lsn":"x","first":0,"end":1})",
        R"({"version":1,"instance_id":"a","epoch":128,"end_lsn":"0/1","first":0,"end":1})",
        R"({"version":1,"instance_id":"a","epoch":0,"end_lsn":"0/1","first":-1,"end":1})"}) {
    EXPECT_FALSE(ParsePositionRecord(text).ok()) << text;
  }
}

TEST(PositionRecord, RefusesANewerVersion) {
  EXPECT_EQ(ParsePositionRecord(R"({"version":2})").status().code(), Code::kUnsupported);
}

TEST(PositionRecord, RefusesAnotherDataDir) {
  const std::string text = FormatPositionRecord(kRecord);
  EXPECT_TRUE(ReadOwnPosition(text, "a\"b", "key 'x'").ok());
  const Status status = ReadOwnPosition(text, "other", "key 'x'").status();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_NE(status.message().find("another data_dir"), std::string::npos);
}

}  // namespace
}  // namespace millrace::sinks
