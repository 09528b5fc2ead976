// SPDX-License-Identifier: Apache-2.0
// RedisSink against a real server. MILLRACE_TEST_REDIS_URL names it; its settings are changed and
// put back, and keys that begin with `mr-test:` are deleted.
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "millrace/clients/redis/resp.h"
#include "millrace/sinks/redis/redis_sink.h"
#include "millrace/sinks/testing/tcp_proxy.h"
#include "millrace/sinks/testing/test_rows.h"

namespace millrace::sinks {
namespace {

using testing::NumberedDelivery;
using testing::SmallContext;
using testing::SmallDelivery;
using testing::SmallStream;
using testing::TcpProxy;

// The end of EXEC, and the beginning of its answer to two commands, XADD and SET, or more.
constexpr char kExec[] = "$4\r\nEXEC\r\n";
constexpr char kExecAnswer[] = "\r\n*";

class RedisSinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* text = std::getenv("MILLRACE_TEST_REDIS_URL");
    ASSERT_NE(text, nullptr)
        << "MILLRACE_TEST_REDIS_URL is not set: name a Redis server that tests may write to";
    const auto url = redis::ParseRedisUrl(text);
    ASSERT_TRUE(url.ok()) << url.status().ToString();
    client_options_.url = *url;
    auto client = redis::RedisClient::Connect(client_options_, {});
    ASSERT_TRUE(client.ok()) << client.status().ToString();
    client_ = std::move(*client);
    Clean();
  }
  void TearDown() override {
    if (client_ != nullptr) {
      Clean();
    }
  }
  void Clean() {
    Run({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
    Run({"CONFIG", "SET", "maxmemory", "0"});
    for (const char* pattern : {"mr-test:*", "millrace:mrtest:*"}) {
      for (const std::string& key : RunList({"KEYS", pattern})) {
        Run({"DEL", key});
      }
    }
  }

  // Runs a command as another client; the text of its answer, or its number.
  std::string Run(std::initializer_list<std::string_view> arguments) {
    Buffer command;
    redis::AppendCommand(command, arguments);
    const Status status = client_->Execute(command, 1, {});
    EXPECT_TRUE(status.ok()) << status.ToString();
    const redis::RedisReply reply = client_->replies()[0];
    return reply.type() == redis::RedisReply::Type::kInteger ? std::to_string(reply.integer())
                                                             : std::string(reply.text());
  }
  std::vector<std::string> RunList(std::initializer_list<std::string_view> arguments) {
    Run(arguments);
    std::vector<std::string> list;
    Flatten(client_->replies()[0], list);
    return list;
  }
  static void Flatten(const redis::RedisReply& reply, std::vector<std::string>& list) {
    if (reply.is_array()) {
      reply.ForEach([&](const redis::RedisReply& element) { Flatten(element, list); });
    } else {
      list.emplace_back(reply.text());
    }
  }

  static RedisWrite Write(RedisCommand command, const char* key) {
    return {.stream = "events", .command = command, .key = *KeyTemplate::Parse(key)};
  }
  std::unique_ptr<RedisSink> MakeSink(std::vector<RedisWrite> writes,
                                      const std::string& instance_id = "instance-1") {
    SinkContext context = SmallContext("mrtest", stream_);
    context.instance_id = instance_id;
    return std::make_unique<RedisSink>(RedisOptions{client_options_, std::move(writes)},
                                       std::move(context));
  }
  std::unique_ptr<RedisSink> MakeXaddSink() {
    return MakeSink({Write(RedisCommand::kXadd, "mr-test:s")});
  }
  // Through a proxy to the same server.
  std::unique_ptr<RedisSink> MakeProxiedSink(const TcpProxy& proxy) {
    SinkContext context = SmallContext("mrtest", stream_);
    RedisOptions options{client_options_, {Write(RedisCommand::kXadd, "mr-test:s")}};
    options.client.url.host = "127.0.0.1";
    options.client.url.port = proxy.port();
    options.client.reply_timeout = std::chrono::milliseconds(2'000);
    return std::make_unique<RedisSink>(std::move(options), std::move(context));
  }

  std::optional<Offset> OpenAt(RedisSink& sink) {
    const Result<SinkPosition> position = sink.Open({});
    EXPECT_TRUE(position.ok()) << position.status().ToString();
    return position.ok() ? position->delivered : std::nullopt;
  }
  static void Deliver(RedisSink& sink, const DeliveryBatch& batch) {
    const Status status = sink.Deliver(batch, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  redis::RedisClientOptions client_options_;
  std::unique_ptr<redis::RedisClient> client_;
  StreamPtr stream_ = SmallStream();
};

TEST_F(RedisSinkTest, WritesRowsByEveryCommand) {
  auto sink = MakeSink(
      {Write(RedisCommand::kXadd, "mr-test:s:{type}"), Write(RedisCommand::kHset, "mr-test:h:{id}"),
       Write(RedisCommand::kSet, "mr-test:v:{id}"), Write(RedisCommand::kPublish, "mr-test:c")});
  EXPECT_EQ(OpenAt(*sink), std::nullopt);
  Deliver(*sink, SmallDelivery(stream_, 0,
                               {{1, "a", "first \r\n\"note\""}, {2, std::nullopt, std::nullopt}}));
  EXPECT_EQ(
      RunList({"XRANGE", "mr-test:s:a", "-", "+"}),
      (std::vector<std::string>{"1700000000000-0", "id", "1", "type", "a", "note",
                                "first \r\n\"note\"", "_version", "75557863725914323419137"}));
  EXPECT_EQ(Run({"XLEN", "mr-test:s:unknown"}), "1");
  EXPECT_EQ(RunList({"HGETALL", "mr-test:h:2"}),
            (std::vector<std::string>{"id", "2", "_version", "75557863725914323419138"}));
  EXPECT_EQ(Run({"GET", "mr-test:v:2"}),
            R"({"id":2,"type":null,"note":null,"_version":"75557863725914323419138",)"
            R"("_commit_ts":"2023-11-14T22:13:20Z"})");
}

TEST_F(RedisSinkTest, DeleteRemovesHashesAndAddsAnEntry) {
  auto sink = MakeSink(
      {Write(RedisCommand::kXadd, "mr-test:s"), Write(RedisCommand::kHset, "mr-test:h:{id}")});
  OpenAt(*sink);
  Deliver(*sink, SmallDelivery(stream_, 0, {{1, "a", "x"}}));
  EXPECT_EQ(Run({"EXISTS", "mr-test:h:1"}), "1");
  Deliver(*sink, SmallDelivery(stream_, 1, {{1, std::nullopt, std::nullopt, OutputOp::kDelete}}));
  EXPECT_EQ(Run({"EXISTS", "mr-test:h:1"}), "0");
  EXPECT_EQ(RunList({"XREVRANGE", "mr-test:s", "+", "-", "COUNT", "1"}),
            (std::vector<std::string>{"1700000000000-1", "id", "1", "_version",
                                      "75576310469988032970753", "_deleted", "1"}));
}

TEST_F(RedisSinkTest, HsetForgetsFieldsThatBecameNull) {
  auto sink = MakeSink({Write(RedisCommand::kHset, "mr-test:h:{id}")});
  OpenAt(*sink);
  Deliver(*sink, SmallDelivery(stream_, 0, {{1, "a", "x"}}));
  Deliver(*sink, SmallDelivery(stream_, 1, {{1, "a", std::nullopt}}));
  EXPECT_EQ(Run({"HEXISTS", "mr-test:h:1", "note"}), "0");
}

TEST_F(RedisSinkTest, ResumesAtThePositionInRedis) {
  auto sink = MakeXaddSink();
  EXPECT_EQ(OpenAt(*sink), std::nullopt);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  EXPECT_EQ(*sink->ReadPosition(), Offset(10));
  sink->Close();
  auto next = MakeXaddSink();
  EXPECT_EQ(OpenAt(*next), Offset(10));
  Deliver(*next, NumberedDelivery(stream_, 10, 5));
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "15");
}

TEST_F(RedisSinkTest, MovesThePositionWithoutRows) {
  auto sink = MakeXaddSink();
  OpenAt(*sink);
  DeliveryBatch empty;
  empty.end = Offset(7);
  Deliver(*sink, empty);
  EXPECT_EQ(*sink->ReadPosition(), Offset(7));
}

// Cases: 56.
TEST_F(RedisSinkTest, ConnectionCutBeforeExecLosesNothing) {
  TcpProxy proxy("127.0.0.1", std::to_string(client_options_.url.port));
  auto sink = MakeProxiedSink(proxy);
  OpenAt(*sink);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  proxy.Arm(TcpProxy::Break::kCutBefore, kExec, "");
  EXPECT_EQ(sink->Deliver(NumberedDelivery(stream_, 10, 10), {}).code(), Code::kUnavailable);
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "10");
  EXPECT_EQ(OpenAt(*sink), Offset(10));
  Deliver(*sink, NumberedDelivery(stream_, 10, 10));
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "20");
}

// Cases: 56.
TEST_F(RedisSinkTest, LostReplyOfExecDoublesNothing) {
  TcpProxy proxy("127.0.0.1", std::to_string(client_options_.url.port));
  auto sink = MakeProxiedSink(proxy);
  OpenAt(*sink);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  proxy.Arm(TcpProxy::Break::kCutAfter, kExec, kExecAnswer);
  EXPECT_EQ(sink->Deliver(NumberedDelivery(stream_, 10, 10), {}).code(), Code::kUnavailable);
  EXPECT_EQ(OpenAt(*sink), Offset(20));
  Deliver(*sink, NumberedDelivery(stream_, 20, 1));
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "21");
}

// An EXEC that is on its way while the sink opens again must not write.
// Cases: 56.
TEST_F(RedisSinkTest, LateExecDoesNothing) {
  TcpProxy proxy("127.0.0.1", std::to_string(client_options_.url.port));
  auto slow = MakeProxiedSink(proxy);
  OpenAt(*slow);
  proxy.Arm(TcpProxy::Break::kHold, kExec, "*-1");
  EXPECT_EQ(slow->Deliver(NumberedDelivery(stream_, 0, 10), {}).code(), Code::kTimedOut);
  auto sink = MakeXaddSink();
  EXPECT_EQ(OpenAt(*sink), std::nullopt);
  proxy.Release();
  proxy.WaitUntilDone();
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "0");
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "10");
}

// Cases: 56.
TEST_F(RedisSinkTest, ZombieIsFenced) {
  auto zombie = MakeXaddSink();
  OpenAt(*zombie);
  Deliver(*zombie, NumberedDelivery(stream_, 0, 10));
  auto sink = MakeXaddSink();
  EXPECT_EQ(OpenAt(*sink), Offset(10));
  const Status status = zombie->Deliver(NumberedDelivery(stream_, 10, 10), {});
  EXPECT_EQ(status.code(), Code::kFenced) << status.ToString();
  EXPECT_NE(status.message().find("another process writes"), std::string::npos);
  Deliver(*sink, NumberedDelivery(stream_, 10, 10));
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "20");
}

TEST_F(RedisSinkTest, StopUnblocksWithinOneSecond) {
  TcpProxy proxy("127.0.0.1", std::to_string(client_options_.url.port));
  auto sink = MakeProxiedSink(proxy);
  OpenAt(*sink);
  proxy.Arm(TcpProxy::Break::kHold, kExec, kExecAnswer);
  std::stop_source stop;
  std::chrono::steady_clock::time_point asked;
  std::jthread stopper([&] {
    proxy.WaitUntilHeld();
    asked = std::chrono::steady_clock::now();
    stop.request_stop();
  });
  EXPECT_EQ(sink->Deliver(NumberedDelivery(stream_, 0, 10), stop.get_token()).code(),
            Code::kCancelled);
  stopper.join();
  EXPECT_LT(std::chrono::steady_clock::now() - asked, std::chrono::seconds(1));
  proxy.Release();
}

// Cases: 56.
TEST_F(RedisSinkTest, RefusesPoliciesThatEvictThePosition) {
  Run({"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"});
  const Status status = MakeXaddSink()->Open({}).status();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_NE(status.message().find("allkeys-lru"), std::string::npos);
  Run({"CONFIG", "SET", "maxmemory-policy", "volatile-lru"});
  EXPECT_TRUE(MakeXaddSink()->Open({}).ok());
}

// Cases: 56.
TEST_F(RedisSinkTest, RefusesAReplica) {
  Run({"REPLICAOF", "127.0.0.1", "1"});
  const Status status = MakeXaddSink()->Open({}).status();
  Run({"REPLICAOF", "NO", "ONE"});
  EXPECT_EQ(status.code(), Code::kFailedPrecondition) << status.ToString();
  EXPECT_NE(status.message().find("replica"), std::string::npos);
}

// Cases: 56.
TEST_F(RedisSinkTest, WrongTypeIsRefusedBeforeAnythingIsWritten) {
  Run({"SET", "mr-test:secretkey", "x"});
  Run({"SADD", "mr-test:h:2", "x"});
  for (auto [command, key] : {std::pair{RedisCommand::kXadd, "mr-test:{type}"},
                              std::pair{RedisCommand::kHset, "mr-test:h:{id}"}}) {
    auto sink = MakeSink({Write(command, key)});
    OpenAt(*sink);
    const Status status =
        sink->Deliver(SmallDelivery(stream_, 0, {{1, "fine", "x"}, {2, "secretkey", "x"}}), {});
    EXPECT_EQ(status.code(), Code::kFailedPrecondition) << status.ToString();
    EXPECT_NE(status.message().find(key), std::string::npos);
    EXPECT_EQ(status.message().find("secretkey"), std::string::npos);
    EXPECT_EQ(*sink->ReadPosition(), std::nullopt);
    EXPECT_EQ(Run({"EXISTS", "mr-test:fine", "mr-test:h:1"}), "0");
  }
}

TEST_F(RedisSinkTest, AnotherDataDirIsRefused) {
  auto sink = MakeXaddSink();
  OpenAt(*sink);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  auto other = MakeSink({Write(RedisCommand::kXadd, "mr-test:s")}, "instance-2");
  const Status status = other->Open({}).status();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_NE(status.message().find("another data_dir"), std::string::npos);
  // The first one is not disturbed.
  Deliver(*sink, NumberedDelivery(stream_, 10, 1));
}

// Cases: 56.
TEST_F(RedisSinkTest, OutOfMemoryChangesNothingAndCanBeRepeated) {
  auto sink = MakeXaddSink();
  OpenAt(*sink);
  Run({"CONFIG", "SET", "maxmemory", "1"});
  const Status status = sink->Deliver(NumberedDelivery(stream_, 0, 10), {});
  EXPECT_EQ(status.code(), Code::kResourceExhausted) << status.ToString();
  EXPECT_EQ(Run({"EXISTS", "mr-test:s"}), "0");
  Run({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_EQ(OpenAt(*sink), std::nullopt);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "10");
}

// Ids grow although the stream is ahead of the commit times, and although its newest entry is gone.
// Cases: 56.
TEST_F(RedisSinkTest, IdsFollowAStreamThatIsAhead) {
  Run({"XADD", "mr-test:s", "1900000000000-5", "foreign", "1"});
  Run({"XDEL", "mr-test:s", "1900000000000-5"});
  auto sink = MakeXaddSink();
  OpenAt(*sink);
  Deliver(*sink, NumberedDelivery(stream_, 0, 2));
  const std::vector<std::string> entries = RunList({"XRANGE", "mr-test:s", "-", "+"});
  ASSERT_FALSE(entries.empty());
  EXPECT_EQ(entries[0], "1900000000000-6");
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "2");
}

// Another client adds entries with ids of its own all the time: no row is lost to an id that does
// not grow.
// Cases: 56.
TEST_F(RedisSinkTest, AForeignWriterOfTheStreamCostsNoRow) {
  std::jthread foreign([&](std::stop_token stop) {
    auto client = redis::RedisClient::Connect(client_options_, {});
    Buffer add;
    redis::AppendCommand(add, {"XADD", "mr-test:s", "*", "foreign", "1"});
    Buffer ping;
    redis::AppendCommand(ping, {"PING"});
    // The pings leave gaps in which a delivery can come through.
    for (size_t i = 0; !stop.stop_requested(); ++i) {
      EXPECT_TRUE((*client)->Execute(i % 16 == 0 ? add : ping, 1, {}).ok());
    }
  });
  auto sink = MakeXaddSink();
  OpenAt(*sink);
  uint64_t delivered = 0;
  for (int i = 0; i < 200; ++i) {
    const Status status = sink->Deliver(NumberedDelivery(stream_, delivered, 3), {});
    if (status.ok()) {
      delivered += 3;
    } else {
      // Given up after a number of tries: nothing happened.
      ASSERT_EQ(status.code(), Code::kUnavailable) << status.ToString();
      OpenAt(*sink);
    }
  }
  foreign.request_stop();
  foreign.join();
  size_t ours = 0;
  for (const std::string& text : RunList({"XRANGE", "mr-test:s", "-", "+"})) {
    ours += text == "_version" ? 1 : 0;
  }
  EXPECT_GT(delivered, 0U);
  EXPECT_EQ(ours, delivered);
}

// Cases: 56.
TEST_F(RedisSinkTest, ALostPositionIsSeen) {
  auto sink = MakeXaddSink();
  OpenAt(*sink);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  Run({"DEL", "millrace:mrtest:live:position"});
  EXPECT_EQ(sink->Deliver(NumberedDelivery(stream_, 10, 10), {}).code(), Code::kUnavailable);
  EXPECT_EQ(OpenAt(*sink), std::nullopt);
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "10");
}

// A failover: the server becomes a replica beneath an open sink.
// Cases: 56.
TEST_F(RedisSinkTest, ADemotedMasterTakesNothing) {
  auto sink = MakeXaddSink();
  OpenAt(*sink);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  Run({"REPLICAOF", "127.0.0.1", "1"});
  const Status status = sink->Deliver(NumberedDelivery(stream_, 10, 10), {});
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("READONLY"), std::string::npos) << status.ToString();
  EXPECT_EQ(sink->Open({}).status().code(), Code::kFailedPrecondition);
  Run({"REPLICAOF", "NO", "ONE"});
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "10");
  EXPECT_EQ(OpenAt(*sink), Offset(10));
  Deliver(*sink, NumberedDelivery(stream_, 10, 10));
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "20");
}

// Redis comes back as it was some deliveries ago, as after a crash with appendfsync everysec or a
// failover: those are delivered again, in order and once.
// Cases: 56.
TEST_F(RedisSinkTest, WhatRedisForgotIsDeliveredAgainOnce) {
  constexpr char kPosition[] = "millrace:mrtest:live:position";
  auto sink = MakeXaddSink();
  OpenAt(*sink);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  Run({"COPY", "mr-test:s", "mr-test:s-before"});
  Run({"COPY", kPosition, "mr-test:position-before"});
  Deliver(*sink, NumberedDelivery(stream_, 10, 10));
  Deliver(*sink, NumberedDelivery(stream_, 20, 10));
  Run({"RENAME", "mr-test:s-before", "mr-test:s"});
  Run({"RENAME", "mr-test:position-before", kPosition});
  EXPECT_EQ(*sink->ReadPosition(), Offset(10));
  EXPECT_EQ(sink->Deliver(NumberedDelivery(stream_, 30, 10), {}).code(), Code::kUnavailable);
  EXPECT_EQ(OpenAt(*sink), Offset(10));
  Deliver(*sink, NumberedDelivery(stream_, 10, 25));
  EXPECT_EQ(*sink->ReadPosition(), Offset(35));
  std::vector<std::string> ids;
  const std::vector<std::string> entries = RunList({"XRANGE", "mr-test:s", "-", "+"});
  for (size_t i = 0; i + 1 < entries.size(); ++i) {
    if (entries[i] == "id") {
      ids.push_back(entries[i + 1]);
    }
  }
  ASSERT_EQ(ids.size(), 35U);
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(ids[i], std::to_string(i));
  }
}

TEST_F(RedisSinkTest, ReconnectsWhenOpenedAgain) {
  auto sink = MakeXaddSink();
  OpenAt(*sink);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  Run({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
  EXPECT_EQ(sink->Deliver(NumberedDelivery(stream_, 10, 10), {}).code(), Code::kUnavailable);
  EXPECT_EQ(OpenAt(*sink), Offset(10));
  Deliver(*sink, NumberedDelivery(stream_, 10, 10));
  EXPECT_EQ(Run({"XLEN", "mr-test:s"}), "20");
}

TEST_F(RedisSinkTest, UnreachableServerIsUnavailable) {
  client_options_.url.port = 1;
  EXPECT_EQ(MakeXaddSink()->Open({}).status().code(), Code::kUnavailable);
}

TEST_F(RedisSinkTest, TrimsAndExpires) {
  RedisWrite trimmed = Write(RedisCommand::kXadd, "mr-test:s");
  trimmed.maxlen = 100;
  RedisWrite expiring = Write(RedisCommand::kHset, "mr-test:h:{id}");
  expiring.ttl = std::chrono::hours(1);
  auto sink = MakeSink({trimmed, expiring});
  OpenAt(*sink);
  Deliver(*sink, NumberedDelivery(stream_, 0, 5'000));
  EXPECT_LT(std::stoi(Run({"XLEN", "mr-test:s"})), 400);
  EXPECT_GT(std::stoi(Run({"TTL", "mr-test:h:17"})), 3'500);
}

}  // namespace
}  // namespace millrace::sinks
