// SPDX-License-Identifier: Apache-2.0
//
// ClickHouseSink against a real server: see testing/clickhouse_test_target.h.
#include "millrace/sinks/clickhouse/testing/clickhouse_test_target.h"
#include "millrace/sinks/testing/sink_conformance.h"

namespace millrace::sinks::clickhouse {
namespace {

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

}  // namespace
}  // namespace millrace::sinks::clickhouse

namespace millrace::sinks::testing {
INSTANTIATE_TEST_SUITE_P(ClickHouse, SinkConformance,
                         ::testing::Values(&clickhouse::MakeClickHouseFixture));
}  // namespace millrace::sinks::testing
