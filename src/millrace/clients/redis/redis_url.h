// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "millrace/common/result.h"

namespace millrace::redis {

// Where a server is and who we are there.
struct RedisUrl {
  std::string host = "127.0.0.1";
  uint16_t port = 6379;
  bool tls = false;
  std::string user;      // empty: `default`
  std::string password;  // empty: none; never printed
  uint32_t database = 0;

  // `127.0.0.1:6379`, `[::1]:6379`: for messages.
  std::string Address() const;
};

// Parses `redis[s]://[[user][:password]@]host[:port][/database]`; user and password may be percent
// encoded, an IPv6 address stands in brackets. kInvalidArgument with a sentence that does not hold
// the URL, which may hold a password.
Result<RedisUrl> ParseRedisUrl(std::string_view url);

}  // namespace millrace::redis
