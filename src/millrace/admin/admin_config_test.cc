// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/admin_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace::admin {
namespace {

TEST(AdminConfig, ATokenIsAskedForBeyondLoopback) {
  EXPECT_TRUE(ValidateAdminOptions({}).ok());
  EXPECT_TRUE(ValidateAdminOptions({.listen = "[::1]:1"}).ok());
  EXPECT_TRUE(ValidateAdminOptions({.listen = "0.0.0.0:7070", .token = "t"}).ok());
  const Status open = ValidateAdminOptions({.listen = "0.0.0.0:7070"});
  EXPECT_EQ(open.code(), Code::kInvalidArgument);
  EXPECT_THAT(open.message(), testing::HasSubstr("set admin.token, or listen on 127.0.0.1"));
}

TEST(AdminConfig, TheAddressIsChecked) {
  const Status status = ValidateAdminOptions({.listen = "7070"});
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), testing::StartsWith("admin.listen: '7070' is not host:port"));
}

TEST(AdminConfig, TheTokenIsSecret) {
  for (const config::FieldSpec& field : AdminFields()) {
    EXPECT_EQ(field.secret, field.name == "token") << field.name;
  }
}

}  // namespace
}  // namespace millrace::admin
