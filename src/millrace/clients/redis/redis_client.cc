// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/redis/redis_client.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "millrace/clients/redis/resp.h"

namespace millrace::redis {

namespace {

constexpr size_t kReadBytes = 64 << 10;

struct ErrorMeaning {
  std::string_view kind;
  Code code;
  std::string_view remedy;
};

// By the first word of the error. What is not here is kFailedPrecondition.
constexpr std::array<ErrorMeaning, 17> kMeanings = {{
    {"OOM", Code::kResourceExhausted, "Redis has reached maxmemory: raise it or let data expire"},
    {"LOADING", Code::kUnavailable, "Redis is loading its data"},
    {"BUSY", Code::kUnavailable, "Redis is busy with a script"},
    {"MASTERDOWN", Code::kUnavailable, "the replica has lost its master"},
    {"TRYAGAIN", Code::kUnavailable, "Redis asks to try again"},
    {"NOREPLICAS", Code::kUnavailable, "too few replicas for min-replicas-to-write"},
    {"UNBLOCKED", Code::kUnavailable, "Redis has changed its role"},
    {"READONLY", Code::kUnavailable, "the server is a read-only replica"},
    {"MISCONF", Code::kUnavailable,
     "Redis cannot persist its data and refuses writes: look into its log"},
    {"NOAUTH", Code::kPermissionDenied, "Redis wants a password: put it into the URL"},
    {"WRONGPASS", Code::kPermissionDenied, "Redis does not accept user and password of the URL"},
    {"NOPERM", Code::kPermissionDenied, "the Redis user lacks a permission: see its ACL"},
    {"MOVED", Code::kFailedPrecondition, "the server is a cluster node, which is not supported"},
    {"ASK", Code::kFailedPrecondition, "the server is a cluster node, which is not supported"},
    {"CLUSTERDOWN", Code::kFailedPrecondition,
     "the server is a cluster node, which is not supported"},
    {"CROSSSLOT", Code::kFailedPrecondition,
     "the server is a cluster node, which is not supported"},
    {"WRONGTYPE", Code::kFailedPrecondition, "the key holds another type: delete or rename it"},
}};

}  // namespace

Status RedisErrorStatus(std::string_view error, std::string_view attempted) {
  const std::string_view kind = error.substr(0, error.find(' '));
  const auto* meaning = std::find_if(kMeanings.begin(), kMeanings.end(),
                                     [&](const ErrorMeaning& m) { return m.kind == kind; });
  if (meaning != kMeanings.end()) {
    return {meaning->code, fmt::format("{}: {}: {}", attempted, kind, meaning->remedy)};
  }
  if (error.find("max number of clients") != std::string_view::npos) {
    return Unavailable(fmt::format("{}: Redis has reached maxclients", attempted));
  }
  return FailedPrecondition(fmt::format("{}: Redis answers {}", attempted, kind));
}

RedisClient::RedisClient(const RedisClientOptions& options, std::unique_ptr<RedisSocket> socket)
    : reply_timeout_(options.reply_timeout), socket_(std::move(socket)) {
  input_.Extend(kReadBytes);
}

Result<std::unique_ptr<RedisClient>> RedisClient::Connect(const RedisClientOptions& options,
                                                          std::stop_token stop) {
  const auto deadline = std::chrono::steady_clock::now() + options.connect_timeout;
  MR_ASSIGN_OR_RETURN(auto socket, RedisSocket::Connect(options.url, options.tls, deadline, stop));
  std::unique_ptr<RedisClient> client(new RedisClient(options, std::move(socket)));
  MR_RETURN_IF_ERROR(client->Handshake(options.url, stop));
  return client;
}

Status RedisClient::Handshake(const RedisUrl& url, std::stop_token stop) {
  Buffer commands;
  size_t count = 0;
  if (!url.password.empty()) {
    if (url.user.empty()) {
      AppendCommand(commands, {"AUTH", url.password});
    } else {
      AppendCommand(commands, {"AUTH", url.user, url.password});
    }
    ++count;
  }
  AppendCommand(commands, {"SELECT", std::to_string(url.database)});
  ++count;
  MR_RETURN_IF_ERROR(Execute(commands, count, stop));
  for (size_t i = 0; i < count; ++i) {
    if (replies_[i].is_error()) {
      const std::string_view attempted =
          i + 1 == count ? "select the database" : "show user and password";
      return RedisErrorStatus(replies_[i].text(),
                              fmt::format("{} at {}", attempted, url.Address()));
    }
  }
  return Status::Ok();
}

// Reads until there is nothing more at present, or `count` replies.
Status RedisClient::ReadAvailable(size_t count) {
  while (replies_.size() < count) {
    MR_ASSIGN_OR_RETURN(const size_t got, socket_->TryRead(input_.data(), kReadBytes));
    if (got == 0) {
      return Status::Ok();
    }
    MR_RETURN_IF_ERROR(replies_.Feed({input_.data(), got}));
  }
  return Status::Ok();
}

Status RedisClient::Execute(const Buffer& commands, size_t count, std::stop_token stop) {
  const auto deadline = std::chrono::steady_clock::now() + reply_timeout_;
  replies_.Clear();
  size_t written = 0;
  while (written < commands.size() || replies_.size() < count) {
    size_t wrote = 0;
    if (written < commands.size()) {
      MR_ASSIGN_OR_RETURN(wrote,
                          socket_->TryWrite(commands.data() + written, commands.size() - written));
      written += wrote;
    }
    // Replies are read while commands are written: neither side's buffers can fill up for good.
    const size_t before = replies_.size();
    MR_RETURN_IF_ERROR(ReadAvailable(count));
    const bool done = written == commands.size() && replies_.size() >= count;
    if (!done && wrote == 0 && replies_.size() == before) {
      MR_RETURN_IF_ERROR(socket_->Wait(written < commands.size(), deadline, stop));
    }
  }
  if (replies_.size() != count || replies_.is_half_read()) {
    return Corruption("Redis sent more replies than there were commands");
  }
  return Status::Ok();
}

}  // namespace millrace::redis
