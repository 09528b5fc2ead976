// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/redis/redis_sink.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <random>

#include <fmt/format.h>

#include "millrace/clients/redis/resp.h"
#include "millrace/common/failpoint.h"
#include "millrace/sinks/position_record.h"

namespace millrace::sinks {

namespace {

using redis::RedisReply;

// WATCH compares each key with all that are watched, so that more of them would be dear. Streams
// beyond it are read as well, but another writer's entry between reading and EXEC goes unseen until
// EXEC, which then fails.
constexpr size_t kWatchedStreamsMax = 256;
// How often a delivery is made anew because another client wrote to one of its streams.
constexpr int kAttemptsMax = 10;
// Keys whose type is remembered; above it they are looked at again.
constexpr size_t kLookedAtMax = 1'000'000;
constexpr int kMajorVersionMin = 5;

std::string RandomName() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

// The value of a `name:value` line of INFO's text; empty where there is none.
std::string_view InfoField(std::string_view info, std::string_view name) {
  size_t at = 0;
  while (at < info.size()) {
    const size_t end = std::min(info.find("\r\n", at), info.size());
    const std::string_view line = info.substr(at, end - at);
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ':') {
      return line.substr(name.size() + 1);
    }
    at = end + 2;
  }
  return {};
}

std::string_view TypeName(RedisCommand command) {
  switch (command) {
    case RedisCommand::kXadd:
      return "stream";
    case RedisCommand::kHset:
      return "hash";
    case RedisCommand::kSet:
      return "string";
    case RedisCommand::kPublish:
      return "channel";
  }
  return {};
}

std::string WrongType(const RedisWrite& write) {
  return fmt::format(
      "a key of template '{}' (stream '{}') exists with another type than {}: delete or rename it, "
      "or change the template",
      write.key.text(), write.stream, TypeName(write.command));
}

// The last id in XINFO STREAM's list of names and values.
std::optional<XaddId> LastGeneratedId(const RedisReply& reply) {
  std::optional<XaddId> id;
  bool is_next = false;
  reply.ForEach([&](const RedisReply& element) {
    if (is_next) {
      id = ParseXaddId(element.text());
    }
    is_next = element.text() == "last-generated-id";
  });
  return id;
}

Status CheckStreams(const RedisOptions& options, const SinkContext& context) {
  for (const RedisWrite& write : options.writes) {
    const StreamPtr& stream = context.streams.at(write.stream);
    MR_RETURN_IF_ERROR(BoundKeyTemplate::Bind(write.key, *stream).status());
  }
  return Status::Ok();
}

Result<std::unique_ptr<Sink>> MakeRedisSink(const config::Section& section, SinkContext context) {
  MR_ASSIGN_OR_RETURN(RedisOptions options, ParseRedisOptions(section));
  std::erase_if(options.writes,
                [&](const RedisWrite& write) { return !context.streams.contains(write.stream); });
  MR_RETURN_IF_ERROR(CheckStreams(options, context));
  return std::unique_ptr<Sink>(std::make_unique<RedisSink>(std::move(options), std::move(context)));
}

Status CheckRedisTarget(const config::Section& section, const telemetry::Logger& log) {
  MR_ASSIGN_OR_RETURN(RedisOptions options, ParseRedisOptions(section));
  SinkContext context;
  context.log = log;
  return RedisSink(std::move(options), std::move(context)).CheckTarget({});
}

}  // namespace

SinkType RedisSinkType() {
  // Rows do not wait for company: while one delivery is under way the next one gathers.
  return {.spec = {.type = "redis",
                   .description = "Redis streams, hashes, strings and channels, exactly once.",
                   .fields = RedisFields(),
                   .batch_defaults = {.rows_max = 10'000,
                                      .bytes_max = uint64_t{8} << 20,
                                      .wait_max = std::chrono::milliseconds(0)},
                   .lint = LintRedis},
          .uses = RedisUses,
          .make = MakeRedisSink,
          .check = CheckRedisTarget};
}

RedisSink::RedisSink(RedisOptions options, SinkContext context)
    : options_(std::move(options)),
      context_(std::move(context)),
      position_key_(fmt::format("millrace:{}:{}:position", context_.pipeline, context_.name)),
      owner_key_(fmt::format("millrace:{}:{}:owner", context_.pipeline, context_.name)),
      owner_(RandomName()),
      encoder_(options_.writes) {}

RedisSink::~RedisSink() = default;

void RedisSink::Close() {
  client_.reset();
  position_.reset();
  looked_at_.clear();
}

// After a failure the replies that are still to come would be taken for those of the next commands.
Status RedisSink::Execute(const Buffer& commands, size_t count, const std::stop_token& stop) {
  if (client_ == nullptr) {
    return Unavailable("the connection to Redis is closed");
  }
  const Status status = client_->Execute(commands, count, stop);
  if (!status.ok()) {
    client_.reset();
  }
  return status;
}

Status RedisSink::CheckServer(std::string_view info) const {
  const std::string address = options_.client.url.Address();
  const std::string_view version = InfoField(info, "redis_version");
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  if (major < kMajorVersionMin) {
    return FailedPrecondition(fmt::format("Redis at {} has version '{}', {} or newer is needed",
                                          address, version, kMajorVersionMin));
  }
  if (InfoField(info, "cluster_enabled") == "1") {
    return FailedPrecondition(fmt::format(
        "Redis at {} is a cluster node: data and position could not change in one transaction; "
        "name a server that is not in a cluster",
        address));
  }
  if (InfoField(info, "role") != "master") {
    return FailedPrecondition(fmt::format(
        "Redis at {} is a read-only replica: put the address of its master into the URL", address));
  }
  const std::string_view policy = InfoField(info, "maxmemory_policy");
  if (policy.starts_with("allkeys-")) {
    return FailedPrecondition(fmt::format(
        "Redis at {} has maxmemory-policy {}, which may evict the position: set it to noeviction "
        "or to a volatile- policy",
        address, policy));
  }
  return Status::Ok();
}

Result<std::optional<Offset>> RedisSink::ParsePosition(const RedisReply& reply) const {
  if (reply.is_error()) {
    return redis::RedisErrorStatus(reply.text(), "read the position in Redis");
  }
  if (reply.is_nil()) {
    return std::optional<Offset>();
  }
  MR_ASSIGN_OR_RETURN(const PositionRecord record,
                      ReadOwnPosition(reply.text(), context_.instance_id,
                                      fmt::format("Redis key '{}'", position_key_)));
  return std::optional<Offset>(record.end);
}

Status RedisSink::CheckTarget(std::stop_token stop) {
  Close();
  MR_ASSIGN_OR_RETURN(client_, redis::RedisClient::Connect(options_.client, stop));
  commands_.Clear();
  redis::AppendCommand(commands_, {"INFO"});
  MR_RETURN_IF_ERROR(Execute(commands_, 1, stop));
  const RedisReply info = client_->replies()[0];
  if (info.is_error()) {
    return redis::RedisErrorStatus(info.text(), "ask Redis for INFO");
  }
  return CheckServer(info.text());
}

Result<SinkPosition> RedisSink::Open(std::stop_token stop) {
  Close();
  MR_ASSIGN_OR_RETURN(client_, redis::RedisClient::Connect(options_.client, stop));
  commands_.Clear();
  redis::AppendCommand(commands_, {"INFO"});
  redis::AppendCommand(commands_, {"GET", position_key_});
  MR_RETURN_IF_ERROR(Execute(commands_, 2, stop));
  const RedisReply info = client_->replies()[0];
  if (info.is_error()) {
    return redis::RedisErrorStatus(info.text(), "ask Redis for INFO");
  }
  MR_RETURN_IF_ERROR(CheckServer(info.text()));
  // Before anything is written: a position of another data_dir is left alone.
  MR_RETURN_IF_ERROR(ParsePosition(client_->replies()[1]).status());

  // Once the owner is written, no earlier process and no late EXEC of our own can move the
  // position.
  commands_.Clear();
  redis::AppendCommand(commands_, {"SET", owner_key_, owner_});
  redis::AppendCommand(commands_, {"GET", position_key_});
  MR_RETURN_IF_ERROR(Execute(commands_, 2, stop));
  const RedisReply set = client_->replies()[0];
  if (set.is_error()) {
    return redis::RedisErrorStatus(set.text(), "write to Redis");
  }
  const RedisReply position = client_->replies()[1];
  MR_ASSIGN_OR_RETURN(const std::optional<Offset> delivered, ParsePosition(position));
  if (delivered.has_value()) {
    position_ = std::string(position.text());
  }
  context_.log.Info("Redis sink opened", {{"address", options_.client.url.Address()}});
  return SinkPosition{.delivered = delivered, .pending_end = std::nullopt};
}

Status RedisSink::Deliver(const DeliveryBatch& batch, std::stop_token stop) {
  refused_ = {};
  MR_RETURN_IF_ERROR(encoder_.Begin(batch));
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    MR_RETURN_IF_ERROR(WatchAndLook(stop));
    MR_ASSIGN_OR_RETURN(const bool done, ExecuteDelivery(batch, stop));
    if (done) {
      return Status::Ok();
    }
    // Nothing happened. Was it the position, or did another client add to one of the streams?
  }
  return Unavailable(fmt::format(
      "deliver to Redis: other clients wrote to the streams of this sink in each of {} tries",
      kAttemptsMax));
}

// Watches owner, position and streams, and reads what the delivery depends on.
Status RedisSink::WatchAndLook(const std::stop_token& stop) {
  commands_.Clear();
  std::vector<RedisEncoder::Key*> looked_at;
  size_t watched_streams = 0;
  if (looked_at_.size() > kLookedAtMax) {
    looked_at_.clear();
  }
  Buffer looks;
  std::vector<std::string_view> watched = {"WATCH", owner_key_, position_key_};
  for (RedisEncoder::Key& key : encoder_.keys()) {
    const RedisCommand command = encoder_.write(key.write).command;
    if (command == RedisCommand::kXadd) {
      redis::AppendCommand(looks, {"XINFO", "STREAM", key.name});
      looked_at.push_back(&key);
      if (watched_streams < kWatchedStreamsMax) {
        watched.push_back(key.name);
        ++watched_streams;
      }
    } else if (command != RedisCommand::kPublish &&
               looked_at_.count(std::hash<std::string_view>()(key.name)) == 0) {
      redis::AppendCommand(looks, {"TYPE", key.name});
      looked_at.push_back(&key);
    }
  }
  redis::AppendCommandHeader(commands_, watched.size());
  for (const std::string_view argument : watched) {
    redis::AppendArgument(commands_, argument);
  }
  redis::AppendCommand(commands_, {"GET", owner_key_});
  redis::AppendCommand(commands_, {"GET", position_key_});
  commands_.Append(looks.view());
  MR_RETURN_IF_ERROR(Execute(commands_, 3 + looked_at.size(), stop));
  MR_RETURN_IF_ERROR(CheckOwnership());
  for (size_t i = 0; i < looked_at.size(); ++i) {
    const RedisEncoder::Key& key = *looked_at[i];
    MR_ASSIGN_OR_RETURN(const bool fits, LookAt(*looked_at[i], client_->replies()[3 + i]));
    for (const Offset row : fits ? std::vector<Offset>() : encoder_.RowsOf(key)) {
      refused_.rows.emplace(row, WrongType(encoder_.write(key.write)));
    }
  }
  return refused_.rows.empty() ? Status::Ok() : FailedPrecondition(refused_.rows.begin()->second);
}

Status RedisSink::CheckOwnership() const {
  const redis::RedisReplies& replies = client_->replies();
  for (size_t i = 0; i < 3; ++i) {
    if (replies[i].is_error()) {
      return redis::RedisErrorStatus(replies[i].text(), "read the position in Redis");
    }
  }
  if (!replies[1].is_nil() && replies[1].text() != owner_) {
    return Fenced(fmt::format(
        "another process writes as sink '{}' of pipeline '{}' into Redis at {}: stop one of them",
        context_.name, context_.pipeline, options_.client.url.Address()));
  }
  const bool position_stands = position_.has_value()
                                   ? !replies[2].is_nil() && replies[2].text() == *position_
                                   : replies[2].is_nil();
  if (replies[1].is_nil() || !position_stands) {
    return Unavailable(
        fmt::format("Redis at {} has lost or changed what it had acknowledged; the position is "
                    "read again",
                    options_.client.url.Address()));
  }
  return Status::Ok();
}

Result<bool> RedisSink::LookAt(RedisEncoder::Key& key, const RedisReply& reply) {
  const RedisWrite& write = encoder_.write(key.write);
  if (write.command != RedisCommand::kXadd) {
    if (reply.is_error()) {
      return redis::RedisErrorStatus(
          reply.text(), fmt::format("look at the type of template '{}'", write.key.text()));
    }
    if (reply.text() != "none" && reply.text() != TypeName(write.command)) {
      return false;
    }
    looked_at_.insert(std::hash<std::string_view>()(key.name));
    return true;
  }
  if (reply.is_error()) {
    if (reply.error_kind() == "WRONGTYPE") {
      return false;
    }
    if (reply.text().find("no such key") != std::string_view::npos) {
      key.last_id = {};
      return true;
    }
    return redis::RedisErrorStatus(
        reply.text(), fmt::format("look at a stream of template '{}'", write.key.text()));
  }
  const std::optional<XaddId> id = LastGeneratedId(reply);
  if (!id.has_value()) {
    return Corruption("Redis' answer to XINFO STREAM has no last-generated-id");
  }
  key.last_id = *id;
  return true;
}

Result<bool> RedisSink::ExecuteDelivery(const DeliveryBatch& batch, const std::stop_token& stop) {
  std::string position = FormatPositionRecord(PositionAfter(batch, context_.instance_id));
  commands_.Clear();
  redis::AppendCommand(commands_, {"MULTI"});
  MR_RETURN_IF_ERROR(encoder_.Encode(commands_, refused_.rows));
  redis::AppendCommand(commands_, {"SET", position_key_, position});
  redis::AppendCommand(commands_, {"EXEC"});
  const size_t queued = encoder_.command_count() + 1;

  MR_FAILPOINT("redis.before_exec");
  MR_RETURN_IF_ERROR(
      Execute(commands_, queued + 2, stop).WithContext("deliver to Redis, outcome unknown"));
  MR_FAILPOINT("redis.after_exec");

  const RedisReply exec = client_->replies()[queued + 1];
  if (exec.is_nil()) {
    return false;
  }
  if (exec.is_error()) {
    return QueueFailure();
  }
  if (!exec.is_array() || exec.size() != queued) {
    return Corruption("Redis' answer to EXEC has another number of results than commands");
  }
  // The position has moved, whatever the results are.
  position_ = std::move(position);
  MR_RETURN_IF_ERROR(CheckResults(exec));
  return true;
}

// EXEC was refused and nothing happened: the first command that was not queued says why.
Status RedisSink::QueueFailure() const {
  const redis::RedisReplies& replies = client_->replies();
  size_t at = 1;  // behind MULTI
  for (const RedisEncoder::Run& run : encoder_.runs()) {
    for (size_t i = 0; i < run.count; ++i, ++at) {
      if (replies[at].is_error()) {
        const RedisWrite& write = encoder_.write(run.write);
        return redis::RedisErrorStatus(replies[at].text(),
                                       fmt::format("write stream '{}' to template '{}' in Redis",
                                                   write.stream, write.key.text()));
      }
    }
  }
  for (size_t i = 0; i < replies.size(); ++i) {
    if (replies[i].is_error()) {
      return redis::RedisErrorStatus(replies[i].text(), "write the position to Redis");
    }
  }
  return Internal("Redis refused EXEC without a reason");
}

// What failed inside EXEC. Redis does not roll back: the other rows and the position stand.
Status RedisSink::CheckResults(const RedisReply& results) {
  size_t failures = 0;
  std::string first;
  size_t command = 0;
  results.ForEach([&](const RedisReply& result) {
    if (result.is_error()) {
      ++failures;
      const std::string reason = fmt::format(
          "a command failed ({}) inside EXEC: find out who changed its key", result.error_kind());
      first = first.empty() ? reason : first;
      if (const auto row = encoder_.RowOfCommand(command)) {
        refused_.rows.emplace(*row, reason);
      }
    }
    ++command;
  });
  if (failures == 0) {
    return Status::Ok();
  }
  refused_.is_rest_delivered = true;
  return FailedPrecondition(fmt::format(
      "{} commands failed inside EXEC, of {} rows, which are dead letters now; the rest of the "
      "delivery stands; the first: {}",
      failures, refused_.rows.size(), first));
}

Result<std::optional<Offset>> RedisSink::ReadPosition() {
  commands_.Clear();
  redis::AppendCommand(commands_, {"GET", position_key_});
  MR_RETURN_IF_ERROR(Execute(commands_, 1, std::stop_token()));
  return ParsePosition(client_->replies()[0]);
}

}  // namespace millrace::sinks
