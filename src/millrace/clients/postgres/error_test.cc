// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/postgres/error.h"

#include <gtest/gtest.h>

namespace millrace::pg {
namespace {

TEST(SqlState, MapsToTheCodeThatDecidesAboutRetries) {
  EXPECT_EQ(CodeOfSqlState(""), Code::kUnavailable);
  EXPECT_EQ(CodeOfSqlState("08006"), Code::kUnavailable);
  EXPECT_EQ(CodeOfSqlState("57P01"), Code::kUnavailable);
  EXPECT_EQ(CodeOfSqlState("57P03"), Code::kUnavailable);
  EXPECT_EQ(CodeOfSqlState("53300"), Code::kUnavailable);
  EXPECT_EQ(CodeOfSqlState("55006"), Code::kUnavailable);
  EXPECT_EQ(CodeOfSqlState("57014"), Code::kTimedOut);
  EXPECT_EQ(CodeOfSqlState("42501"), Code::kPermissionDenied);
  EXPECT_EQ(CodeOfSqlState("28P01"), Code::kPermissionDenied);
  EXPECT_EQ(CodeOfSqlState("42704"), Code::kNotFound);
  EXPECT_EQ(CodeOfSqlState("42710"), Code::kAlreadyExists);
  EXPECT_EQ(CodeOfSqlState("53400"), Code::kResourceExhausted);
  EXPECT_EQ(CodeOfSqlState("55000"), Code::kFailedPrecondition);
  EXPECT_EQ(CodeOfSqlState("58P01"), Code::kFailedPrecondition);
  EXPECT_EQ(CodeOfSqlState("0A000"), Code::kUnsupported);
  EXPECT_EQ(CodeOfSqlState("42601"), Code::kInternal);
}

}  // namespace
}  // namespace millrace::pg
