// SPDX-License-Identifier: Apache-2.0
//
// ClickHouseSink against a real server, whose address is in MILLRACE_TEST_CLICKHOUSE_URL. Each test
// has a database of its own.
#include <chrono>
#include <cstdlib>
#include <map>
#include <random>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "millrace/sinks/clickhouse/clickhouse_client.h"
#include "millrace/sinks/clickhouse/clickhouse_schema.h"
#include "millrace/sinks/clickhouse/clickhouse_sink.h"
#include "millrace/sinks/testing/sink_conformance.h"
#include "millrace/sinks/testing/tcp_proxy.h"

namespace millrace::sinks::clickhouse {
namespace {

using testing::MakeDelivery;
using testing::MakeStream;
using testing::MemoryDeliveryLog;
using testing::OutputWriter;
using testing::TcpProxy;

std::string ServerUrl() {
  const char* url = std::getenv("MILLRACE_TEST_CLICKHOUSE_URL");
  return url == nullptr ? "" : url;
}

// A server without a URL is a failure, never a skip.
constexpr const char* kNoServer =
    "MILLRACE_TEST_CLICKHOUSE_URL is not set: start a server (tools/servers.sh start clickhouse) "
    "and "
    "set it to http://127.0.0.1:<port>";

http::HttpOptions DirectOptions() {
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
  std::unique_ptr<Sink> MakeSink(const std::vector<StreamPtr>& streams) {
    auto sink = ClickHouseSink::Make(options, Context(streams), [this] { return now; });
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
  std::chrono::system_clock::time_point now = std::chrono::system_clock::now();
};

// ---- the conformance suite ----

// ClickHouse's text of a value as the conformance suite prints it.
std::string CanonicalText(const DataType& type, std::string text) {
  const auto replace_all = [&](const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
      text.replace(at, from.size(), to);
    }
  };
  if (text == "NULL") {
    return text;
  }
  switch (type.kind) {
    case TypeKind::kFloat32:
    case TypeKind::kFloat64:
      return text == "nan"    ? "NaN"
             : text == "-inf" ? "-Infinity"
             : text == "inf"  ? "Infinity"
                              : text;
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz: {
      replace_all(" ", "T");
      while (text.ends_with('0')) {
        text.pop_back();
      }
      if (text.ends_with('.')) {
        text.pop_back();
      }
      return type.kind == TypeKind::kTimestampTz ? text + "Z" : text;
    }
    case TypeKind::kList:
      replace_all("NULL", "null");
      return text;
    default:
      return text;
  }
}

class ClickHouseFixture : public testing::SinkFixture {
 public:
  std::unique_ptr<Sink> MakeSink(const StreamPtr& stream) override {
    target_.MapStreams({stream});
    return target_.MakeSink({stream});
  }
  MemoryDeliveryLog& delivery_log() override { return target_.log; }

  std::vector<std::vector<std::string>> ReadRows(const StreamPtr& stream) override {
    std::string list;
    for (const Field& field : *stream->columns) {
      const std::string name = QuoteIdentifier(field.name);
      // Raw bytes are not UTF-8 and do not survive JSON.
      const std::string text = field.type.kind == TypeKind::kBytes ? fmt::format("hex({})", name)
                               : field.type.kind == TypeKind::kDecimal
                                   ? fmt::format("toDecimalString({}, {})", name, field.type.scale)
                                   : fmt::format("toString({})", name);
      list += fmt::format("{}ifNull({}, 'NULL')", list.empty() ? "" : ", ", text);
    }
    auto rows = target_.Read(
        fmt::format("SELECT {} FROM {}.{} {} ORDER BY {}", list, target_.database, stream->name,
                    stream->append_only ? "" : "FINAL", (*stream->columns)[0].name));
    for (auto& row : rows) {
      for (size_t i = 0; i < row.size(); ++i) {
        const DataType& type = (*stream->columns)[i].type;
        row[i] = type.kind == TypeKind::kBytes && row[i] != "NULL" ? FromHex(row[i])
                                                                   : CanonicalText(type, row[i]);
      }
    }
    return rows;
  }
  size_t CountCopies(const StreamPtr& stream) override {
    return std::stoul(target_.Count(stream->name));
  }
  void CutConnections() override { target_.proxy.Cut(); }
  void StallConnections() override { target_.proxy.SetMode(TcpProxy::Mode::kStall); }
  void WaitForStalledBytes() override { target_.proxy.WaitForStalledBytes(); }
  bool LoseNextReply() override {
    // libcurl itself repeats a request once whose kept connection ends without a reply.
    target_.proxy.DropReplies(2);
    return true;
  }

 private:
  static std::string FromHex(const std::string& hex) {
    std::string bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) {
      bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    }
    return bytes;
  }

  Target target_;
};

std::unique_ptr<testing::SinkFixture> MakeClickHouseFixture() {
  if (ServerUrl().empty()) {
    ADD_FAILURE() << kNoServer;
    return nullptr;
  }
  return std::make_unique<ClickHouseFixture>();
}

// ---- what only ClickHouse has ----

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

  std::unique_ptr<Target> target_;
  OutputWriter writer_;
};

TEST_F(ClickHouseSinkTest, RetryUnderTheTokenLeavesOneCopyWithoutFinal) {
  target_->MapStreams({Events(), Orders()});
  target_->options.tables[0].partition_by = "id % 7";
  target_->options.tables[1].order_by = {{"at", "id"}};
  const DeliveryBatch batch =
      MakeDelivery({Rows(Events(), 0, 5000), Order(Orders(), OutputOp::kUpsert, 1, 5, "a"),
                    Rows(Events(), 5000, 100)});
  DeliverAndDie({Events(), Orders()}, batch);
  EXPECT_EQ(target_->Count("events"), "5100");
  for (int i = 0; i < 3; ++i) {
    DeliverAndDie({Events(), Orders()}, batch);
  }
  auto sink = target_->MakeSink({Events(), Orders()});
  const auto position = sink->Open({});
  ASSERT_TRUE(position.ok());
  EXPECT_EQ(position->delivered, Offset(0));
  EXPECT_EQ(position->pending_end, Offset(5101));
  Deliver(*sink, batch);
  EXPECT_EQ(target_->Count("events"), "5100");
  EXPECT_EQ(target_->Count("orders"), "1");
  EXPECT_EQ(target_->ReadOne(fmt::format("SELECT toString(uniqExact(_version)) FROM {}.events",
                                         target_->database)),
            "5100");
  EXPECT_EQ(target_->log.plans, 1);
}

TEST_F(ClickHouseSinkTest, CrashBetweenTheTablesIsFinished) {
  target_->MapStreams({Events(), Orders()});
  const DeliveryBatch batch =
      MakeDelivery({Rows(Events(), 0, 10), Order(Orders(), OutputOp::kUpsert, 1, 5, "a")});
  auto sink = Open({Events(), Orders()});
  // The second table refuses.
  target_->Run(
      fmt::format("ALTER TABLE {}.orders ADD CONSTRAINT c CHECK note != 'a'", target_->database));
  const Status refused = sink->Deliver(batch, {});
  EXPECT_EQ(refused.code(), Code::kFailedPrecondition) << refused.ToString();
  EXPECT_NE(refused.message().find("VIOLATED_CONSTRAINT"), std::string::npos);
  EXPECT_EQ(refused.message().find("note"), std::string::npos) << refused.message();
  EXPECT_EQ(target_->Count("events"), "10");
  target_->Run(fmt::format("ALTER TABLE {}.orders DROP CONSTRAINT c", target_->database));
  sink = Open({Events(), Orders()});
  Deliver(*sink, batch);
  EXPECT_EQ(target_->Count("events"), "10");
  EXPECT_EQ(target_->Count("orders"), "1");
}

TEST_F(ClickHouseSinkTest, RequestCutInTheMiddleLeavesNothing) {
  target_->MapStreams({Events()});
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 200'000)});
  auto sink = Open({Events()});
  target_->proxy.SetMode(TcpProxy::Mode::kCutRequests);
  const Status status = sink->Deliver(batch, {});
  EXPECT_FALSE(status.ok());
  target_->proxy.SetMode(TcpProxy::Mode::kPass);
  target_->WaitOutAnAbort();
  EXPECT_EQ(target_->Count("events"), "0");
  sink = Open({Events()});
  Deliver(*sink, batch);
  EXPECT_EQ(target_->Count("events"), "200000");
}

TEST_F(ClickHouseSinkTest, OtherRowsUnderAUsedTokenAreRefused) {
  target_->MapStreams({Events()});
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 10)});
  DeliverAndDie({Events()}, batch);
  auto sink = Open({Events()});
  EXPECT_EQ(sink->Deliver(testing::MakeEmptyDelivery(0, 5), {}).code(), Code::kInternal);
  EXPECT_EQ(sink->Deliver(testing::MakeEmptyDelivery(0, 10), {}).code(), Code::kFailedPrecondition);
  OutputWriter other;
  const DeliveryBatch changed = MakeDelivery(
      {other.Write(Events(), std::vector<OutputOp>(10, OutputOp::kUpsert), [&](RowBatch& rows) {
        for (int64_t i = 0; i < 10; ++i) {
          rows.column(0).Append<int64_t>(i + (i == 9 ? 1 : 0));
          rows.column(1).AppendText("note");
        }
      })});
  EXPECT_EQ(sink->Deliver(changed, {}).code(), Code::kCorruption);
  // The plan is still open, and its own rows are still taken.
  Deliver(*sink, batch);
  EXPECT_EQ(target_->Count("events"), "10");
}

TEST_F(ClickHouseSinkTest, BadRowIsFoundBeforeAnythingIsPlanned) {
  target_->MapStreams({Events(), Orders()});
  auto sink = Open({Events(), Orders()});
  const DeliveryBatch batch = MakeDelivery(
      {Rows(Events(), 0, 10), Order(Orders(), OutputOp::kUpsert, 1, kTimestampInfinity, "a")});
  const Status status = sink->Deliver(batch, {});
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("stream 'orders', column 'at'"), std::string::npos);
  EXPECT_EQ(target_->log.plans, 0);
  EXPECT_EQ(target_->Count("events"), "0");
  // The bad row is left out by the pipeline; the rest goes.
  DeliveryBatch rest = batch;
  rest.slices.pop_back();
  Deliver(*sink, rest);
  EXPECT_EQ(target_->Count("events"), "10");
}

TEST_F(ClickHouseSinkTest, PlanThatIsNotDurableSendsNothing) {
  target_->MapStreams({Events()});
  auto sink = Open({Events()});
  target_->log.fail_plans = true;
  EXPECT_EQ(sink->Deliver(MakeDelivery({Rows(Events(), 0, 10)}), {}).code(),
            Code::kResourceExhausted);
  EXPECT_EQ(target_->Count("events"), "0");
}

TEST_F(ClickHouseSinkTest, DeletesAndMovesShowWithFinal) {
  const StreamPtr orders = Orders();
  target_->MapStreams({orders});
  target_->options.tables[0].order_by = {{"at", "id"}};
  target_->options.tables[0].partition_by = "toYYYYMM(at)";
  auto sink = Open({orders});
  const int64_t day = 86'400'000'000;
  Deliver(*sink, MakeDelivery({Order(orders, OutputOp::kRead, 1, 1000 * day, "a"),
                               Order(orders, OutputOp::kUpsert, 2, std::nullopt, "b"),
                               Order(orders, OutputOp::kUpsert, 3, 1000 * day, "c")}));
  // 1 moves to another partition and sorting key, 2 goes, 3 changes in place.
  Deliver(*sink, MakeDelivery({Order(orders, OutputOp::kMovedAway, 1, 1000 * day, std::nullopt),
                               Order(orders, OutputOp::kUpsert, 1, 2000 * day, "a2"),
                               Order(orders, OutputOp::kDelete, 2, std::nullopt, std::nullopt),
                               Order(orders, OutputOp::kUpsert, 3, 1000 * day, "c2")}));
  const std::string query =
      fmt::format("SELECT toString(id), note FROM {}.orders FINAL ORDER BY id", target_->database);
  EXPECT_EQ(target_->Read(query), (ClickHouseClient::Rows{{"1", "a2"}, {"3", "c2"}}));
  // And back again.
  Deliver(*sink, MakeDelivery({Order(orders, OutputOp::kMovedAway, 1, 2000 * day, std::nullopt),
                               Order(orders, OutputOp::kUpsert, 1, 1000 * day, "a3")}));
  EXPECT_EQ(target_->Read(query), (ClickHouseClient::Rows{{"1", "a3"}, {"3", "c2"}}));
  target_->Run(fmt::format("OPTIMIZE TABLE {}.orders FINAL", target_->database));
  EXPECT_EQ(target_->Read(query), (ClickHouseClient::Rows{{"1", "a3"}, {"3", "c2"}}));
}

TEST_F(ClickHouseSinkTest, SnapshotRowsCanBeLeftOut) {
  target_->MapStreams({Events()});
  target_->options.tables.push_back({.stream = "events", .table = "live_only", .snapshot = false});
  const DeliveryBatch batch =
      MakeDelivery({Rows(Events(), 0, 10, OutputOp::kRead), Rows(Events(), 10, 3),
                    Rows(Events(), 13, 1, OutputOp::kRead)});
  DeliverAndDie({Events()}, batch);
  Deliver(*Open({Events()}), batch);
  EXPECT_EQ(target_->Count("events"), "14");
  EXPECT_EQ(target_->Count("live_only"), "3");
}

TEST_F(ClickHouseSinkTest, VersionAndCommitTimeAreExact) {
  target_->MapStreams({Events()});
  const OutputBatchPtr rows = Rows(Events(), 0, 1);
  Deliver(*Open({Events()}), MakeDelivery({rows}));
  EXPECT_EQ(
      target_->ReadOne(fmt::format("SELECT toString(_version) FROM {}.events", target_->database)),
      FormatUInt128(rows->VersionOf(0).Encode()));
  EXPECT_EQ(
      target_->ReadOne(fmt::format(
          "SELECT toString(toUnixTimestamp64Micro(_commit_ts)) FROM {}.events", target_->database)),
      std::to_string(rows->CommitTimeOf(0)));
}

TEST_F(ClickHouseSinkTest, ColumnAsStringKeepsWhatDateTime64CannotHold) {
  const StreamPtr orders = Orders();
  target_->MapStreams({orders});
  target_->options.tables[0].as_string = {"at"};
  Deliver(*Open({orders}),
          MakeDelivery({Order(orders, OutputOp::kUpsert, 1, kTimestampInfinity, "a"),
                        Order(orders, OutputOp::kUpsert, 2, -62'170'000'000'000'000, "b"),
                        Order(orders, OutputOp::kUpsert, 3, std::nullopt, "c")}));
  EXPECT_EQ(target_->Read(fmt::format("SELECT ifNull(at, 'none') FROM {}.orders ORDER BY id",
                                      target_->database)),
            (ClickHouseClient::Rows{{"infinity"}, {"-000001-11-29T19:33:20Z"}, {"none"}}));
}

TEST_F(ClickHouseSinkTest, HostileNamesAreOnlyNames) {
  const StreamPtr stream = MakeStream("s",
                                      {{"id`; DROP TABLE x; --", TypeKind::kInt64, false},
                                       {"it's \\ \"quoted\"", TypeKind::kText, true},
                                       {"gr\xc3\xbc\xc3\x9f", TypeKind::kEnum, false}},
                                      {0});
  target_->options.tables = {{.stream = "s", .table = "t`; DROP DATABASE y; -- 'q' \\"}};
  const DeliveryBatch batch =
      MakeDelivery({writer_.Write(stream, {OutputOp::kUpsert}, [](RowBatch& rows) {
        rows.column(0).Append<int64_t>(1);
        rows.column(1).AppendText("x");
        rows.column(2).AppendText("y");
      })});
  DeliverAndDie({stream}, batch);
  auto sink = Open({stream});
  Deliver(*sink, batch);
  EXPECT_EQ(target_->ReadOne(fmt::format("SELECT toString(count()) FROM {}.{}", target_->database,
                                         QuoteIdentifier(target_->options.tables[0].table))),
            "1");
  EXPECT_TRUE(sink->ReadPosition().ok());
}

TEST_F(ClickHouseSinkTest, ForeignTableIsRefusedUntilTheAlterRan) {
  target_->MapStreams({Events()});
  target_->Run("CREATE DATABASE " + target_->database);
  target_->Run(
      fmt::format("CREATE TABLE {}.events (id Int64, _version UInt128, _commit_ts "
                  "DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY id",
                  target_->database));
  for (int alters = 0; alters < 2; ++alters) {
    const Status status = OpenError({Events()});
    ASSERT_EQ(status.code(), Code::kFailedPrecondition) << status.ToString();
    const size_t run = status.message().find("run: ");
    ASSERT_NE(run, std::string::npos) << status.message();
    target_->Run(status.message().substr(run + 5));
  }
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 10)});
  DeliverAndDie({Events()}, batch);
  Deliver(*Open({Events()}), batch);
  EXPECT_EQ(target_->Count("events"), "10");
}

TEST_F(ClickHouseSinkTest, ViewWithoutWindowIsRefusedUntilTheAlterRan) {
  target_->MapStreams({Events()});
  Open({Events()});
  target_->Run(fmt::format(
      "CREATE TABLE {0}.totals (note Nullable(String), n UInt64) ENGINE = MergeTree ORDER BY "
      "tuple()",
      target_->database));
  target_->Run(
      fmt::format("CREATE MATERIALIZED VIEW {0}.v TO {0}.totals AS SELECT note, count() AS n FROM "
                  "{0}.events GROUP BY note",
                  target_->database));
  const Status status = OpenError({Events()});
  ASSERT_EQ(status.code(), Code::kFailedPrecondition) << status.ToString();
  const size_t run = status.message().find("run: ");
  ASSERT_NE(run, std::string::npos);
  const std::string alter = status.message().substr(run + 5);
  target_->Run(alter.substr(0, alter.find(';')));

  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 1000)});
  for (int i = 0; i < 3; ++i) {
    DeliverAndDie({Events()}, batch);
  }
  Deliver(*Open({Events()}), batch);
  EXPECT_EQ(target_->Count("events"), "1000");
  EXPECT_EQ(
      target_->ReadOne(fmt::format("SELECT toString(sum(n)) FROM {}.totals", target_->database)),
      "1000");
}

TEST_F(ClickHouseSinkTest, ViewBehindAViewAndInnerTablesAreSeen) {
  target_->MapStreams({Events()});
  Open({Events()});
  const auto run = [&](const std::string& sql) {
    std::string text = sql;
    for (size_t at = 0; (at = text.find("DB.", at)) != std::string::npos;) {
      text.replace(at, 2, target_->database);
    }
    target_->Run(text);
  };
  run("CREATE TABLE DB.nothing (id Int64) ENGINE = Null");
  run("CREATE MATERIALIZED VIEW DB.v1 TO DB.nothing AS SELECT id FROM DB.events");
  EXPECT_TRUE(target_->MakeSink({Events()})->Open({}).ok());
  run("CREATE MATERIALIZED VIEW DB.v2 ENGINE = SummingMergeTree ORDER BY k AS SELECT id % 3 AS k, "
      "count() AS n FROM DB.nothing GROUP BY k");
  Status status = OpenError({Events()});
  EXPECT_EQ(status.code(), Code::kFailedPrecondition) << status.ToString();
  EXPECT_NE(status.message().find(".inner_id."), std::string::npos) << status.message();
  run("CREATE TABLE DB.mem (id Int64) ENGINE = Memory");
  run("CREATE MATERIALIZED VIEW DB.v3 TO DB.mem AS SELECT id FROM DB.events");
  target_->options.accept_inexact_views = true;
  EXPECT_TRUE(target_->MakeSink({Events()})->Open({}).ok());
  EXPECT_GE(target_->log_lines.size(), 2U);
}

TEST_F(ClickHouseSinkTest, SettingsOfTheSessionChangeNothing) {
  target_->MapStreams({Events()});
  target_->options.tables[0].partition_by = "id % 5";
  // As a user's profile would, but in the URL: a server may keep no users.
  target_->options.http.url.query =
      "async_insert=1&wait_for_async_insert=0&insert_deduplicate=0&max_insert_block_size=100&"
      "min_insert_block_size_rows=100&min_insert_block_size_bytes=1&max_insert_threads=4&"
      "deduplicate_insert=disable&deduplicate_blocks_in_dependent_materialized_views=0&"
      "materialized_views_ignore_errors=1&max_block_size=100&session_timezone=Asia/Tokyo&"
      "max_partitions_per_insert_block=2";
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 5000)});
  DeliverAndDie({Events()}, batch);
  EXPECT_EQ(target_->Count("events"), "5000");
  DeliverAndDie({Events()}, batch);
  Deliver(*Open({Events()}), batch);
  EXPECT_EQ(target_->Count("events"), "5000");
}

// Every insert carries them, behind whatever the session says.
TEST_F(ClickHouseSinkTest, PinnedSettingsHold) {
  const auto facts = ReadServerFacts(*target_->client, {});
  ASSERT_TRUE(facts.ok()) << facts.status().ToString();
  http::HttpOptions options = DirectOptions();
  for (const char* hostile : {"async_insert=1", "insert_deduplicate=0", "max_insert_threads=4",
                              "materialized_views_ignore_errors=1"}) {
    options.url.query += std::string(options.url.query.empty() ? "" : "&") + hostile;
  }
  for (const auto& [name, value] : facts->insert_settings) {
    options.url.query += fmt::format("&{}={}", name, value);
  }
  auto client = *ClickHouseClient::Make(options);
  for (const auto& [name, value] : std::map<std::string, std::string>{
           {"async_insert", "0"},
           {"insert_deduplicate", "1"},
           {"deduplicate_insert", "enable"},
           {"deduplicate_blocks_in_dependent_materialized_views", "1"},
           {"materialized_views_ignore_errors", "0"},
           {"max_insert_block_size", "1000000000"},
           {"min_insert_block_size_rows", "1000000000"},
           {"min_insert_block_size_bytes", "0"},
           {"use_strict_insert_block_limits", "0"},
           {"max_insert_threads", "1"},
           {"max_partitions_per_insert_block", "0"}}) {
    const auto rows = client->Select(
        fmt::format("SELECT value FROM system.settings WHERE name = {}", QuoteString(name)), {});
    ASSERT_TRUE(rows.ok()) << rows.status().ToString();
    if (!rows->empty()) {
      EXPECT_EQ((*rows)[0][0], value) << name;
    }
  }
}

TEST_F(ClickHouseSinkTest, OldPlanIsSettledByReading) {
  target_->MapStreams({Events()});
  target_->options.tables[0].partition_by = "intDiv(id, 1000)";
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 3000)});
  const std::string forget =
      fmt::format("ALTER TABLE {}.events MODIFY SETTING non_replicated_deduplication_window = ",
                  target_->database);
  DeliverAndDie({Events()}, batch);
  // The server forgets every token, and loses one partition of three.
  target_->Run(forget + "0");
  target_->Run(forget + "10000");
  target_->Run(fmt::format("ALTER TABLE {}.events DROP PARTITION 1", target_->database));
  EXPECT_EQ(target_->Count("events"), "2000");
  target_->now += std::chrono::hours(3);
  DeliverAndDie({Events()}, batch);
  EXPECT_EQ(target_->Count("events"), "3000");
  target_->Run(forget + "0");
  target_->Run(forget + "10000");
  DeliverAndDie({Events()}, batch);
  EXPECT_EQ(target_->Count("events"), "3000");
  target_->Run(fmt::format("TRUNCATE TABLE {}.events", target_->database));
  Deliver(*Open({Events()}), batch);
  EXPECT_EQ(target_->Count("events"), "3000");
  EXPECT_EQ(target_->ReadOne(fmt::format("SELECT toString(uniqExact(_version)) FROM {}.events",
                                         target_->database)),
            "3000");
}

TEST_F(ClickHouseSinkTest, TableThatVanishedIsNotMadeAgainInSilence) {
  target_->MapStreams({Events()});
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 10)});
  auto sink = Open({Events()});
  Deliver(*sink, batch);
  EXPECT_EQ(*sink->ReadPosition(), Offset(10));
  target_->Run(fmt::format("DROP TABLE {}.events SYNC", target_->database));
  EXPECT_EQ(sink->ReadPosition().status().code(), Code::kFailedPrecondition);
  const DeliveryBatch next = MakeDelivery({Rows(Events(), 10, 10)});
  EXPECT_EQ(sink->Deliver(next, {}).code(), Code::kNotFound);
  const Status status = OpenError({Events()});
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_NE(status.message().find("new data_dir"), std::string::npos);
}

TEST_F(ClickHouseSinkTest, WrongPasswordAndUnreachableServer) {
  target_->MapStreams({Events()});
  target_->options.http.url.user = "nobody_of_this_name";
  target_->options.http.url.password = "s3cret";
  Status status = OpenError({Events()});
  EXPECT_EQ(status.code(), Code::kPermissionDenied) << status.ToString();
  EXPECT_EQ(status.message().find("s3cret"), std::string::npos);
  target_->proxy.SetMode(TcpProxy::Mode::kRefuse);
  status = OpenError({Events()});
  EXPECT_EQ(status.code(), Code::kUnavailable) << status.ToString();
}

TEST_F(ClickHouseSinkTest, SlowServerTimesOutAndIsRetriedExactly) {
  target_->MapStreams({Events()});
  auto sink = Open({Events()});
  target_->options.http.request_timeout = std::chrono::milliseconds(300);
  sink = Open({Events()});
  target_->proxy.SetMode(TcpProxy::Mode::kStall);
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 10)});
  EXPECT_EQ(sink->Deliver(batch, {}).code(), Code::kTimedOut);
  target_->proxy.SetMode(TcpProxy::Mode::kPass);
  target_->options.http.request_timeout = std::chrono::seconds(60);
  Deliver(*Open({Events()}), batch);
  EXPECT_EQ(target_->Count("events"), "10");
}

TEST_F(ClickHouseSinkTest, SchemaChangeBetweenPlanAndRetryKeepsTheBytes) {
  target_->MapStreams({Events()});
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 10)});
  DeliverAndDie({Events()}, batch);
  target_->Run(
      fmt::format("ALTER TABLE {}.events ADD COLUMN added Nullable(Int32)", target_->database));
  const StreamPtr wider = MakeStream("events",
                                     {{"id", TypeKind::kInt64, false},
                                      {"note", TypeKind::kText, true},
                                      {"added", TypeKind::kInt32, true}},
                                     {}, 1, 2);
  auto sink = Open({wider});
  Deliver(*sink, batch);
  EXPECT_EQ(target_->Count("events"), "10");
  // The delivery is settled: now the table may follow. One delivery of rows before and after that.
  ASSERT_TRUE(sink->Prepare(wider, {}).ok());
  const OutputBatchPtr before = Rows(Events(), 10, 1);
  const OutputBatchPtr after = writer_.Write(wider, {OutputOp::kUpsert}, [](RowBatch& rows) {
    rows.column(0).Append<int64_t>(11);
    rows.column(1).AppendText("x");
    rows.column(2).Append<int32_t>(7);
  });
  Deliver(*sink, MakeDelivery({before, after}));
  EXPECT_EQ(
      target_->Read(fmt::format("SELECT ifNull(toString(added), 'none') FROM {}.events WHERE id "
                                ">= 10 ORDER BY id",
                                target_->database)),
      (ClickHouseClient::Rows{{"none"}, {"7"}}));
}

}  // namespace
}  // namespace millrace::sinks::clickhouse

namespace millrace::sinks::testing {
INSTANTIATE_TEST_SUITE_P(ClickHouse, SinkConformance,
                         ::testing::Values(&clickhouse::MakeClickHouseFixture));
}  // namespace millrace::sinks::testing
