// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/redis/redis_url.h"

#include <gtest/gtest.h>

namespace millrace::redis {
namespace {

TEST(RedisUrl, Parses) {
  const auto plain = ParseRedisUrl("redis://example.org");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->Address(), "example.org:6379");
  EXPECT_FALSE(plain->tls);
  EXPECT_EQ(plain->database, 0U);

  const auto full = ParseRedisUrl("rediss://mill%40:p%3Aw@[::1]:7000/3");
  ASSERT_TRUE(full.ok()) << full.status().ToString();
  EXPECT_TRUE(full->tls);
  EXPECT_EQ(full->user, "mill@");
  EXPECT_EQ(full->password, "p:w");
  EXPECT_EQ(full->Address(), "[::1]:7000");
  EXPECT_EQ(full->database, 3U);

  const auto password = ParseRedisUrl("redis://:secret@h:1/");
  ASSERT_TRUE(password.ok());
  EXPECT_EQ(password->user, "");
  EXPECT_EQ(password->password, "secret");
}

TEST(RedisUrl, RefusesWithoutShowingThePassword) {
  for (const char* text : {"", "http://:secret@h", "redis://", "redis://:secret@",
                           "redis://:secret@h:0", "redis://:secret@h:65536", "redis://:secret@h:x",
                           "redis://:secret@h/x", "redis://:secret@h/65536", "redis://:secret%@h",
                           "redis://:secret%2@h", "redis://:secret%zz@h", "redis://:secret@[::1",
                           "redis://:secret@[::1]x", "redis://:secret@h/1?a=b", "redis://h/-1"}) {
    const auto url = ParseRedisUrl(text);
    ASSERT_FALSE(url.ok()) << text;
    EXPECT_EQ(url.status().code(), Code::kInvalidArgument);
    EXPECT_EQ(url.status().message().find("secret"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace millrace::redis
