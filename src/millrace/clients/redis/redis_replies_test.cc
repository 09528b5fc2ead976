// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/redis/redis_replies.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace millrace::redis {
namespace {

TEST(RedisReplies, EveryType) {
  RedisReplies replies;
  ASSERT_TRUE(
      replies.Feed("+OK\r\n-WRONGTYPE no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*0\r\n").ok());
  ASSERT_EQ(replies.size(), 7U);
  EXPECT_EQ(replies[0].text(), "OK");
  EXPECT_EQ(replies[1].error_kind(), "WRONGTYPE");
  EXPECT_EQ(replies[2].integer(), -7);
  EXPECT_EQ(replies[3].text(), "a\r\n");
  EXPECT_TRUE(replies[4].is_nil());
  EXPECT_TRUE(replies[5].is_nil());
  EXPECT_TRUE(replies[6].is_array());
  EXPECT_EQ(replies[6].size(), 0U);
}

TEST(RedisReplies, NestedArraysInPiecesOfOneByte) {
  RedisReplies replies;
  const std::string bytes = "*3\r\n*2\r\n:1\r\n*1\r\n+x\r\n*0\r\n$1\r\nz\r\n:9\r\n";
  for (const char byte : bytes) {
    ASSERT_TRUE(replies.Feed({&byte, 1}).ok());
  }
  ASSERT_EQ(replies.size(), 2U);
  const RedisReply outer = replies[0];
  ASSERT_EQ(outer.size(), 3U);
  EXPECT_EQ(outer[0][0].integer(), 1);
  EXPECT_EQ(outer[0][1][0].text(), "x");
  EXPECT_EQ(outer[1].size(), 0U);
  EXPECT_EQ(outer[2].text(), "z");
  std::vector<RedisReply::Type> types;
  outer.ForEach([&](RedisReply element) { types.push_back(element.type()); });
  EXPECT_EQ(types, (std::vector{RedisReply::Type::kArray, RedisReply::Type::kArray,
                                RedisReply::Type::kString}));
  EXPECT_EQ(replies[1].integer(), 9);
  replies.Clear();
  EXPECT_EQ(replies.size(), 0U);
  ASSERT_TRUE(replies.Feed("+PONG\r\n").ok());
  EXPECT_EQ(replies[0].text(), "PONG");
}

TEST(RedisReplies, RefusesWhatIsNoReply) {
  for (const char* bytes : {"HTTP/1.1 400\r\n", "*2000000000\r\n", "*-7\r\n", "$-9\r\n"}) {
    RedisReplies replies;
    EXPECT_EQ(replies.Feed(bytes).code(), Code::kCorruption) << bytes;
  }
}

}  // namespace
}  // namespace millrace::redis
