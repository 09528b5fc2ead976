// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/redis/resp.h"

#include <string>

#include <gtest/gtest.h>

namespace millrace::redis {
namespace {

TEST(Resp, Commands) {
  Buffer to;
  AppendCommand(to, {"SET", "k", ""});
  EXPECT_EQ(to.view(), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
  to.Clear();
  AppendCommandHeader(to, 12);
  AppendUnsignedArgument(to, UINT64_MAX);
  AppendArgument(to, std::string_view("\r\n\0x", 4));
  EXPECT_EQ(to.view(),
            std::string_view("*12\r\n$20\r\n18446744073709551615\r\n$4\r\n\r\n\0x\r\n", 42));
}

TEST(Resp, LongArgument) {
  Buffer to;
  const std::string value(100'000, 'v');
  AppendArgument(to, value);
  EXPECT_EQ(to.view(), "$100000\r\n" + value + "\r\n");
}

}  // namespace
}  // namespace millrace::redis
