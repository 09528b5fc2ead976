// SPDX-License-Identifier: Apache-2.0
//
// Deliveries whose outcome is unknown, against a real server: see testing/clickhouse_test_target.h.
#include <csignal>
#include <fstream>

#include "millrace/sinks/clickhouse/testing/clickhouse_test_target.h"

namespace millrace::sinks::clickhouse {
namespace {

// Cases: 54.
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

// Cases: 54.
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

// Cases: 54.
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

// Cases: 54.
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

// Cases: 54.
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

// Cases: 54.
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

// Cases: 54.
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
// Cases: 54.
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

// Cases: 54.
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
  target_->passed = std::chrono::hours(3);
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

// Cases: 54.
TEST_F(ClickHouseSinkTest, AClockThatJumpsForgetsNoToken) {
  target_->MapStreams({Events()});
  Open({Events()});
  MakeTotals();
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 100)});
  DeliverAndDie({Events()}, batch);
  // Whether the view has the rows could not be read.
  for (const int hours : {-24, 24}) {
    target_->wall_jump = std::chrono::hours(hours);
    DeliverAndDie({Events()}, batch);
  }
  Deliver(*Open({Events()}), batch);
  ExpectRows(100);
  EXPECT_EQ(Total(), "100");
}

// Cases: 54.
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

// Cases: 54.
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

// Cases: 54.
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

// Profiles of the users `hostile`, `fixed` and `reader`: tests/integration/test_components.py.
// Cases: 54.
TEST_F(ClickHouseSinkTest, AHostileProfileChangesNothing) {
  target_->MapStreams({Events()});
  target_->options.tables[0].partition_by = "id % 5";
  target_->options.http.url.user = "hostile";
  ASSERT_TRUE(OpenError({Events()}).ok());
  MakeTotals();
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 5000)});
  for (int i = 0; i < 3; ++i) {
    DeliverAndDie({Events()}, batch);
    EXPECT_EQ(target_->Count("events"), "5000");
  }
  Deliver(*Open({Events()}), batch);
  ExpectRows(5000);
  EXPECT_EQ(Total(), "5000");
}

// Cases: 54.
TEST_F(ClickHouseSinkTest, AProfileThatRefusesOurSettingsIsRefusedByName) {
  target_->MapStreams({Events()});
  for (const char* user : {"fixed", "reader"}) {
    target_->options.http.url.user = user;
    const Status status = OpenError({Events()});
    EXPECT_EQ(status.code(), Code::kFailedPrecondition) << status.ToString();
    EXPECT_NE(status.message().find("async_insert"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("profile of the sink's user"), std::string::npos);
  }
  EXPECT_EQ(target_->log.plans, 0);
}

// The plain table holds each row once wherever the connection ended: before the insert, at bytes
// of its header and of its block, and before its reply.
// Cases: 54.
TEST_F(ClickHouseSinkTest, ConnectionsCutAtAnyByteOfAnInsert) {
  target_->MapStreams({Events()});
  auto sink = Open({Events()});
  constexpr size_t kRows = 300;
  const int64_t before = target_->proxy.request_bytes();
  Deliver(*sink, MakeDelivery({Rows(Events(), 0, kRows)}));
  const int64_t size = target_->proxy.request_bytes() - before;
  size_t delivered = kRows;
  constexpr int kPlaces = 12;
  int broken = 0;
  for (int place = 0; place <= kPlaces; ++place) {
    const DeliveryBatch batch =
        MakeDelivery({Rows(Events(), static_cast<int64_t>(delivered), kRows)});
    sink.reset();
    sink = OpenWithRetries({Events()});
    // The last one goes through and loses its reply, also when the HTTP library repeats it.
    place == kPlaces ? target_->proxy.DropReplies(2)
                     : target_->proxy.CutAfterRequestBytes(size * place / kPlaces);
    const Status status = sink->Deliver(batch, {});
    target_->proxy.CutAfterRequestBytes(-1);
    target_->proxy.DropReplies(0);
    if (!status.ok()) {
      ++broken;
      DeliverAsThePipeline(batch);
    }
    delivered += kRows;
  }
  EXPECT_GT(broken, 0);
  target_->WaitOutAnAbort();
  ExpectRows(delivered);
}

// Cases: 54.
TEST_F(ClickHouseSinkTest, TheServerDiesBetweenTries) {
  const char* watchdog = std::getenv("MILLRACE_TEST_CLICKHOUSE_PID");
  ASSERT_NE(watchdog, nullptr) << "MILLRACE_TEST_CLICKHOUSE_PID is not set: the process whose "
                                  "child is the server, which it starts again";
  target_->MapStreams({Events()});
  Open({Events()});
  MakeTotals();
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 1000)});
  DeliverAndDie({Events()}, batch);
  pid_t server = 0;
  std::ifstream(fmt::format("/proc/{0}/task/{0}/children", watchdog)) >> server;
  ASSERT_GT(server, 1);
  ASSERT_EQ(kill(server, SIGKILL), 0);
  target_->WaitOutAnAbort();
  DeliverAsThePipeline(batch);
  ExpectRows(1000);
  EXPECT_EQ(Total(), "1000");
}

// A stranger's TRUNCATE takes the tokens of the rows along: the open delivery is whole afterwards,
// what was delivered before stays gone.
// Cases: 54.
TEST_F(ClickHouseSinkTest, TruncateBetweenTries) {
  target_->MapStreams({Events()});
  Deliver(*Open({Events()}), MakeDelivery({Rows(Events(), 0, 10)}));
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 10, 10)});
  DeliverAndDie({Events()}, batch);
  target_->Run(fmt::format("TRUNCATE TABLE {}.events", target_->database));
  Deliver(*Open({Events()}), batch);
  EXPECT_EQ(target_->Count("events"), "10");
}

// Other writers push the token out of the table's window within seconds.
// Cases: 54.
TEST_F(ClickHouseSinkTest, AWindowThatWasPassedInBlocks) {
  target_->MapStreams({Events()});
  Open({Events()});
  target_->Run(
      fmt::format("ALTER TABLE {}.events MODIFY SETTING non_replicated_deduplication_window = 2",
                  target_->database));
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 100)});
  DeliverAndDie({Events()}, batch);
  for (int i = 0; i < 5; ++i) {
    target_->Run(fmt::format("INSERT INTO {}.events (id, _version, _commit_ts) VALUES ({}, 1, 0)",
                             target_->database, -1 - i));
  }
  Deliver(*Open({Events()}), batch);
  EXPECT_EQ(target_->Count("events"), "105");
  ExpectRows(100);
}

// Too many parts are waited out: no smaller plan, no loss, and a view that was refused after its
// table had the block gets it once.
// Cases: 54.
TEST_F(ClickHouseSinkTest, TooManyPartsAreWaitedOut) {
  target_->MapStreams({Events()});
  Open({Events()});
  target_->Run(
      fmt::format("INSERT INTO {}.events (_version) SELECT 0 FROM numbers(1)", target_->database));
  MakeTotals();
  target_->Run(fmt::format("INSERT INTO {}.totals VALUES (0)", target_->database));
  for (const char* full : {"totals", "events"}) {
    target_->Run(fmt::format(
        "ALTER TABLE {}.{} MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1",
        target_->database, full));
  }
  const DeliveryBatch batch = MakeDelivery({Rows(Events(), 0, 1000)});
  for (int i = 0; i < 2; ++i) {
    const Status status = Open({Events()})->Deliver(batch, {});
    EXPECT_EQ(status.code(), Code::kResourceExhausted) << status.ToString();
  }
  // One after the other has room again.
  for (const char* full : {"events", "totals"}) {
    target_->Run(
        fmt::format("ALTER TABLE {}.{} RESET SETTING parts_to_throw_insert, parts_to_delay_insert",
                    target_->database, full));
    const Status status = Open({Events()})->Deliver(batch, {});
    EXPECT_EQ(status.code(),
              std::string_view(full) == "events" ? Code::kResourceExhausted : Code::kOk)
        << status.ToString();
  }
  EXPECT_EQ(target_->Count("events"), "1001");
  ExpectRows(1000);
  EXPECT_EQ(Total(), "1000");
  EXPECT_EQ(target_->log.plans, 1);
}

// As far as a server without a cluster goes: it makes such tables, and takes no rows.
// Cases: 54.
TEST_F(ClickHouseSinkTest, AReplicatedTableIsJudgedByItsOwnWindow) {
  target_->MapStreams({Events()});
  target_->Run("CREATE DATABASE " + target_->database);
  target_->Run(fmt::format(
      "CREATE TABLE {0}.events (id Int64, note Nullable(String), _version UInt128, _commit_ts "
      "DateTime64(6, 'UTC')) ENGINE = ReplicatedMergeTree('/tests/{0}', 'r') ORDER BY id SETTINGS "
      "replicated_deduplication_window = 0, non_replicated_deduplication_window = 100",
      target_->database));
  const Status status = OpenError({Events()});
  EXPECT_EQ(status.code(), Code::kFailedPrecondition) << status.ToString();
  EXPECT_NE(status.message().find("MODIFY SETTING replicated_deduplication_window = "),
            std::string::npos)
      << status.message();
  target_->Run(fmt::format(
      "CREATE TABLE {0}.judged AS {0}.events ENGINE = ReplicatedMergeTree('/tests/{0}b', "
      "'r') ORDER BY id",
      target_->database));
  target_->options.tables[0].table = "judged";
  EXPECT_TRUE(OpenError({Events()}).ok());
}

}  // namespace
}  // namespace millrace::sinks::clickhouse
