// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include "millrace/sinks/clickhouse/clickhouse_client.h"
#include "millrace/sinks/clickhouse/clickhouse_schema.h"
#include "millrace/sinks/clickhouse/clickhouse_sink.h"
#include "millrace/sinks/testing/sink_test_support.h"
#include "millrace/sinks/testing/tcp_proxy.h"

// What the tests against a real server share. Its address is in MILLRACE_TEST_CLICKHOUSE_URL; each
// test has a database of its own.
namespace millrace::sinks::clickhouse {

using testing::MakeDelivery;
using testing::MakeStream;
using testing::MemoryDeliveryLog;
using testing::OutputWriter;
using testing::TcpProxy;

inline std::string ServerUrl() {
  const char* url = std::getenv("MILLRACE_TEST_CLICKHOUSE_URL");
  return url == nullptr ? "" : url;
}

// A server without a URL is a failure, never a skip.
inline constexpr const char* kNoServer =
    "MILLRACE_TEST_CLICKHOUSE_URL is not set: start a server (tools/servers.sh start clickhouse) "
    "and "
    "set it to http://127.0.0.1:<port>";

inline http::HttpOptions DirectOptions() {
  http::HttpOptions options;
  options.url = *http::ParseHttpUrl(ServerUrl());
  options.response_bytes_max = size_t{256} << 20;
  return options;
}

// One database, with a link to the server that can be cut.
class Target {
 public:
  Target()
      : proxy(DirectOptions().url.host, DirectOptions().url.port),
        client(*ClickHouseClient::Make(DirectOptions())),
        database(fmt::format("mr_{:016x}", std::random_device()() * uint64_t{0x100000001} ^
                                               static_cast<uint64_t>(getpid()))) {
    options.http = DirectOptions();
    options.http.url.host = "127.0.0.1";
    options.http.url.port = std::to_string(proxy.port());
    options.database = database;
  }
  ~Target() { Run("DROP DATABASE IF EXISTS " + database); }

  void Run(const std::string& sql) {
    const Status status = client->Execute(sql, {});
    EXPECT_TRUE(status.ok()) << sql << ": " << status.ToString();
  }
  ClickHouseClient::Rows Read(const std::string& sql) {
    auto rows = client->Select(sql, {});
    EXPECT_TRUE(rows.ok()) << sql << ": " << rows.status().ToString();
    return rows.ok() ? *rows : ClickHouseClient::Rows();
  }
  // A ClickHouse out of libchdb may abort up to seconds after a client was cut off inside an
  // INSERT, and is started again by its watchdog: waits until that is over.
  void WaitOutAnAbort() {
    using std::chrono::seconds;
    using std::chrono::steady_clock;
    const auto answers = [this] { return client->Select("SELECT 1", {}).ok(); };
    const auto quiet = steady_clock::now() + seconds(5);
    while (answers() && steady_clock::now() < quiet) {
      poll(nullptr, 0, 20);
    }
    const auto deadline = steady_clock::now() + seconds(30);
    while (!answers()) {
      ASSERT_LT(steady_clock::now(), deadline) << "the server does not come back";
      poll(nullptr, 0, 50);
    }
  }
  std::string ReadOne(const std::string& sql) {
    const auto rows = Read(sql);
    return rows.empty() || rows[0].empty() ? "(nothing)" : rows[0][0];
  }
  std::string Count(const std::string& table) {
    return ReadOne(fmt::format("SELECT toString(count()) FROM {}.{}", database, table));
  }

  SinkContext Context(const std::vector<StreamPtr>& streams) {
    SinkContext context;
    context.pipeline = "tests";
    context.name = "warehouse";
    context.instance_id = database;
    for (const StreamPtr& stream : streams) {
      context.streams[stream->name] = stream;
      versions[{stream->id, stream->schema_version}] = stream;
    }
    context.find_stream = [this](StreamId id, SchemaVersion version) {
      const auto found = versions.find({id, version});
      return found == versions.end() ? nullptr : found->second;
    };
    context.delivery_log = &log;
    context.log = telemetry::MakeCapturingLogger(
        [this](telemetry::LogLevel, const std::string& line) { log_lines.push_back(line); });
    return context;
  }
  Moment Now() const {
    Moment now = NowOfMachine();
    now.wall_ms += (passed + wall_jump).count();
    now.boot_ms += passed.count();
    return now;
  }
  std::unique_ptr<Sink> MakeSink(const std::vector<StreamPtr>& streams) {
    auto sink = ClickHouseSink::Make(options, Context(streams), [this] { return Now(); });
    EXPECT_TRUE(sink.ok()) << sink.status().ToString();
    return *std::move(sink);
  }
  // A sink with one table of the same name for each stream.
  void MapStreams(const std::vector<StreamPtr>& streams) {
    options.tables.clear();
    for (const StreamPtr& stream : streams) {
      options.tables.push_back({.stream = stream->name, .table = stream->name});
    }
  }

  TcpProxy proxy;
  std::unique_ptr<ClickHouseClient> client;  // past the proxy
  std::string database;
  ClickHouseOptions options;
  MemoryDeliveryLog log;
  // Every version that a sink was made with, as the store of a data_dir keeps them.
  std::map<std::pair<StreamId, SchemaVersion>, StreamPtr> versions;
  std::vector<std::string> log_lines;
  std::chrono::milliseconds passed{0};     // since the test began, it says
  std::chrono::milliseconds wall_jump{0};  // of the wall clock alone
};

class ClickHouseSinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_FALSE(ServerUrl().empty()) << kNoServer;
    target_ = std::make_unique<Target>();
  }

  static StreamPtr Events(uint32_t id = 1) {
    return MakeStream("events", {{"id", TypeKind::kInt64, false}, {"note", TypeKind::kText, true}},
                      {}, id);
  }
  // A mutable stream whose sorting key holds more than its key.
  static StreamPtr Orders(uint32_t id = 2) {
    return MakeStream("orders",
                      {{"id", TypeKind::kInt64, false},
                       {"at", TypeKind::kTimestampTz, true},
                       {"note", TypeKind::kText, false}},
                      {0}, id);
  }

  OutputBatchPtr Rows(const StreamPtr& stream, int64_t first, size_t count,
                      OutputOp op = OutputOp::kUpsert) {
    return writer_.Write(stream, std::vector<OutputOp>(count, op), [&](RowBatch& rows) {
      for (size_t i = 0; i < count; ++i) {
        rows.column(0).Append<int64_t>(first + static_cast<int64_t>(i));
        rows.column(1).AppendText("note");
      }
    });
  }
  OutputBatchPtr Order(const StreamPtr& stream, OutputOp op, int64_t id, std::optional<int64_t> at,
                       std::optional<std::string> note) {
    return writer_.Write(stream, {op}, [&](RowBatch& rows) {
      rows.column(0).Append<int64_t>(id);
      at ? rows.column(1).Append<int64_t>(*at) : rows.column(1).AppendNull();
      note ? rows.column(2).AppendText(*note) : rows.column(2).AppendNull();
    });
  }

  // A sink that opens at `delivered`.
  std::unique_ptr<Sink> Open(const std::vector<StreamPtr>& streams) {
    auto sink = target_->MakeSink(streams);
    const auto position = sink->Open({});
    EXPECT_TRUE(position.ok()) << position.status().ToString();
    return sink;
  }
  Status OpenError(const std::vector<StreamPtr>& streams) {
    return target_->MakeSink(streams)->Open({}).status();
  }
  void Deliver(Sink& sink, const DeliveryBatch& batch) {
    const Status status = sink.Deliver(batch, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  // Runs `batch` as a process that dies once its rows are in and before that is known.
  void DeliverAndDie(const std::vector<StreamPtr>& streams, const DeliveryBatch& batch) {
    auto sink = Open(streams);
    target_->log.fail_positions = true;
    EXPECT_FALSE(sink->Deliver(batch, {}).ok());
    target_->log.fail_positions = false;
  }

  // A server that was cut off may be away for a moment.
  std::unique_ptr<Sink> OpenWithRetries(const std::vector<StreamPtr>& streams) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    std::unique_ptr<Sink> sink = target_->MakeSink(streams);
    while (!sink->Open({}).ok() && std::chrono::steady_clock::now() < deadline) {
      poll(nullptr, 0, 50);
    }
    return sink;
  }
  // What the pipeline does with `batch`: opens and offers it until it is taken.
  void DeliverAsThePipeline(const DeliveryBatch& batch) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    Status status;
    do {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << status.ToString();
      std::unique_ptr<Sink> sink = target_->MakeSink({batch.slices[0].batch->stream});
      status = sink->Open({}).status();
      if (status.ok()) {
        status = sink->Deliver(batch, {});
      }
    } while (!status.ok());
  }
  // Rows [0, n) of Events() are in the plain table, each once; ids below 0 are others'.
  void ExpectRows(size_t n) {
    EXPECT_EQ(target_->Read(fmt::format("SELECT toString(count()), toString(uniqExact(id)), "
                                        "toString(uniqExact(_version)), toString(max(id)) FROM "
                                        "{}.events WHERE id >= 0 AND _version > 1",
                                        target_->database)),
              (ClickHouseClient::Rows{{std::to_string(n), std::to_string(n), std::to_string(n),
                                       std::to_string(n - 1)}}));
  }
  // A materialized view with a window that counts the rows of Events(); what it has counted.
  void MakeTotals() {
    target_->Run(fmt::format(
        "CREATE TABLE {}.totals (n UInt64) ENGINE = MergeTree ORDER BY tuple() SETTINGS "
        "non_replicated_deduplication_window = 1000",
        target_->database));
    target_->Run(fmt::format(
        "CREATE MATERIALIZED VIEW {0}.v TO {0}.totals AS SELECT count() AS n FROM {0}.events",
        target_->database));
  }
  std::string Total() {
    return target_->ReadOne(
        fmt::format("SELECT toString(sum(n)) FROM {}.totals", target_->database));
  }

  std::unique_ptr<Target> target_;
  OutputWriter writer_;
};

}  // namespace millrace::sinks::clickhouse
