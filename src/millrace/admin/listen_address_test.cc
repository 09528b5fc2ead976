// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/listen_address.h"

#include <gtest/gtest.h>

namespace millrace::admin {
namespace {

TEST(ListenAddress, ParsesAndPrints) {
  for (const char* text : {"127.0.0.1:7070", "[::1]:0", "localhost:65535", "0.0.0.0:80"}) {
    const Result<ListenAddress> address = ParseListenAddress(text);
    ASSERT_TRUE(address.ok()) << text;
    EXPECT_EQ(address->ToString(), text);
  }
  EXPECT_EQ(ParseListenAddress("[::1]:7070")->host, "::1");
}

TEST(ListenAddress, RefusesWhatIsNoAddress) {
  for (const char* text :
       {"", ":7070", "7070", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "a:65536", "a:-1",
        "::1:7070", "[::1]7070", "[::1", "[a]:1", "[]:1", "a b:1", "http://a:1"}) {
    const Result<ListenAddress> address = ParseListenAddress(text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_EQ(address.status().code(), Code::kInvalidArgument);
  }
}

TEST(ListenAddress, KnowsLoopback) {
  for (const char* text : {"127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1"}) {
    EXPECT_TRUE(ParseListenAddress(text)->is_loopback()) << text;
  }
  for (const char* text : {"0.0.0.0:1", "[::]:1", "192.168.1.1:1", "localhost.example.com:1"}) {
    EXPECT_FALSE(ParseListenAddress(text)->is_loopback()) << text;
  }
  EXPECT_TRUE(ParseListenAddress("[::]:1")->is_any());
  EXPECT_TRUE(ParseListenAddress("0.0.0.0:1")->is_any());
  EXPECT_FALSE(ParseListenAddress("127.0.0.1:1")->is_any());
}

TEST(ListenAddress, HostWithoutPort) {
  EXPECT_EQ(HostWithoutPort("localhost"), "localhost");
  EXPECT_EQ(HostWithoutPort("localhost:7070"), "localhost");
  EXPECT_EQ(HostWithoutPort("[::1]:7070"), "::1");
  EXPECT_EQ(HostWithoutPort("[::1]"), "::1");
  EXPECT_EQ(HostWithoutPort("[::1"), "::1");
  EXPECT_EQ(HostWithoutPort(""), "");
}

}  // namespace
}  // namespace millrace::admin
