// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "millrace/clients/redis/redis_replies.h"
#include "millrace/clients/redis/redis_socket.h"
#include "millrace/clients/redis/redis_url.h"
#include "millrace/common/buffer.h"
#include "millrace/common/result.h"

namespace millrace::redis {

struct RedisClientOptions {
  RedisUrl url;
  TlsOptions tls;
  std::chrono::milliseconds connect_timeout{5'000};
  // How long a pipeline may take from its first byte to its last reply.
  std::chrono::milliseconds reply_timeout{30'000};
};

// One connection to one Redis server. It sends pipelines and reads their replies; it repeats
// nothing and never reconnects. After an error of Execute() the connection is of no more use, and
// whether the server ran the commands is unknown.
//
// Threads: one thread makes every call.
class RedisClient {
 public:
  // Connects, says who we are (AUTH) and selects the database. kUnavailable or kTimedOut when the
  // server cannot be reached, kPermissionDenied when it does not accept the password.
  static Result<std::unique_ptr<RedisClient>> Connect(const RedisClientOptions& options,
                                                      std::stop_token stop);

  // Writes `commands`, RESP of `count` commands, and reads their replies into replies(). An error
  // reply is a reply, not a failure. kUnavailable when the connection broke, kTimedOut, kCancelled
  // within 1 s of `stop`, kCorruption for bytes that are no replies.
  Status Execute(const Buffer& commands, size_t count, std::stop_token stop);

  // Those of the newest Execute(), in the order of its commands.
  const RedisReplies& replies() const { return replies_; }

 private:
  RedisClient(const RedisClientOptions& options, std::unique_ptr<RedisSocket> socket);

  Status Handshake(const RedisUrl& url, std::stop_token stop);
  Status ReadAvailable(size_t count);

  // Constant after construction.
  const std::chrono::milliseconds reply_timeout_;
  const std::unique_ptr<RedisSocket> socket_;

  RedisReplies replies_;
  Buffer input_;
};

// An error reply as a Status: what it means for whoever sent the command. `attempted` says what was
// attempted. Redis' own sentence is shown only where it holds no values.
Status RedisErrorStatus(std::string_view error, std::string_view attempted);

}  // namespace millrace::redis
