// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/status.h"

#include <gtest/gtest.h>

#include "millrace/common/result.h"

namespace millrace {
namespace {

Result<int> Half(int v) {
  if (v % 2 != 0) {
    return InvalidArgument("an odd number has no half");
  }
  return v / 2;
}

Status Quarter(int v, int& quarter) {
  MR_ASSIGN_OR_RETURN(const int half, Half(v));
  MR_ASSIGN_OR_RETURN(quarter, Half(half));
  return Status::Ok();
}

TEST(Status, AddsContextOutward) {
  const Status status =
      NotFound("no such table").WithContext("insert into a.b").WithContext("sink 'c'");
  EXPECT_EQ(status.message(), "sink 'c': insert into a.b: no such table");
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_EQ(status.ToString(), "not_found: sink 'c': insert into a.b: no such table");
  EXPECT_TRUE(Status::Ok().WithContext("anything").ok());
}

TEST(Result, MacrosPassValuesAndFailures) {
  int quarter = 0;
  EXPECT_TRUE(Quarter(12, quarter).ok());
  EXPECT_EQ(quarter, 3);
  EXPECT_EQ(Quarter(6, quarter).code(), Code::kInvalidArgument);
}

TEST(ResultDeathTest, ValueOfAFailureAborts) { EXPECT_DEATH((void)*Half(1), "broken invariant"); }

}  // namespace
}  // namespace millrace
