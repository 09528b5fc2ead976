// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/kafka/kafka_options.h"

#include <string>

#include <gtest/gtest.h>

#include "millrace/clients/kafka/kafka_admin.h"

namespace millrace::kafka {
namespace {

TEST(KafkaOptions, ReservedProperties) {
  EXPECT_TRUE(IsReservedProperty("transactional.id"));
  EXPECT_TRUE(IsReservedProperty("acks"));
  EXPECT_FALSE(IsReservedProperty("sasl.password"));
  EXPECT_FALSE(IsReservedProperty("security.protocol"));
}

TEST(KafkaOptions, AWrongPropertyIsNamedWithoutItsValue) {
  const auto admin = KafkaAdmin::Make(
      {.brokers = "127.0.0.1:1", .properties = {{"security.protocol", "s3cret"}}}, {});
  ASSERT_FALSE(admin.ok());
  EXPECT_EQ(admin.status().code(), Code::kInvalidArgument);
  EXPECT_NE(admin.status().message().find("security.protocol"), std::string::npos);
  EXPECT_EQ(admin.status().message().find("s3cret"), std::string::npos);
}

}  // namespace
}  // namespace millrace::kafka
