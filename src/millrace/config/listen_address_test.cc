// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/listen_address.h"

#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace millrace::config {
namespace {

TEST(ListenAddressTest, AddressesAndLoopback) {
  EXPECT_EQ(ParseListenAddress("127.0.0.1:80"), std::pair(std::string("127.0.0.1"), 80));
  EXPECT_EQ(ParseListenAddress("[::1]:80"), std::pair(std::string("::1"), 80));
  EXPECT_EQ(ParseListenAddress(":80"), std::pair(std::string(), 80));
  for (const char* address : {"127.0.0.1:80", "[::1]:80", ":80"}) {
    const auto parsed = ParseListenAddress(address);
    EXPECT_EQ(FormatListenAddress(parsed->first, parsed->second), address);
  }
  for (const char* bad :
       {"", "80", "a:b", "a:70000", "a:-1", "::1:80", "[]:80", "a:", "http://a:80"}) {
    EXPECT_FALSE(ParseListenAddress(bad)) << bad;
  }
  for (const char* host : {"localhost", "127.0.0.1", "127.1.2.3", "::1"}) {
    EXPECT_TRUE(IsLoopback(host)) << host;
  }
  for (const char* host : {"", "0.0.0.0", "::", "10.0.0.1", "127.example.com", "12.7.0.1"}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

}  // namespace
}  // namespace millrace::config
