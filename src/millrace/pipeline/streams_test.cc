// SPDX-License-Identifier: Apache-2.0
// What streams make of changes, on the real store and the real SQL engine: the same transactions in
// batches of any size give the same outputs.
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "millrace/config/pipeline_config.h"
#include "millrace/model/change_batch.h"
#include "millrace/pipeline/batch_loop.h"
#include "millrace/pipeline/stream_plan.h"
#include "millrace/sql/duckdb/duckdb_engine.h"
#include "millrace/storage/rocksdb/rocksdb_store.h"
#include "millrace/telemetry/metrics.h"

namespace millrace::pipeline {
namespace {

using testing::ElementsAre;

constexpr const char* kConfig = R"(
pipeline: test
data_dir: ./data
source: {type: postgres, url: 'postgresql://localhost/x', tables: [public.content, public.events]}
streams:
  mirror: {from: public.content}
  enriched:
    from: public.events
    lookup: [public.content]
    key: [event_id]
    sql: |
      SELECT e.id AS event_id, e.kind, c.title FROM events AS e
      LEFT JOIN content AS c ON c.id = e.content_id WHERE e.kind <> 'hidden'
sinks:
  nowhere: {type: nowhere}
)";

TablePtr MakeTable(std::string name, Schema columns) {
  auto table = std::make_shared<Table>();
  table->schema = "public";
  table->name = std::move(name);
  table->columns = std::make_shared<const Schema>(std::move(columns));
  table->primary_key = {0};
  table->toastable.assign(table->columns->size(), true);
  return table;
}

// One change of a test, in values.
struct TestChange {
  enum class Table { kContent, kEvents } table = Table::kEvents;
  ChangeOp op = ChangeOp::kInsert;
  int64_t id = 0;
  std::string text;        // title, or kind; "<toast>": not sent, because it did not change
  int64_t content_id = 0;  // of an event; 0: NULL
  std::optional<int64_t> old_id = std::nullopt;  // an update of the key
};
using TestTransaction = std::vector<TestChange>;

TestChange Content(int64_t id, std::string title) {
  return {TestChange::Table::kContent, ChangeOp::kInsert, id, std::move(title)};
}
TestChange Event(int64_t id, std::string kind, int64_t content) {
  return {TestChange::Table::kEvents, ChangeOp::kInsert, id, std::move(kind), content};
}
TestChange As(ChangeOp op, TestChange change) {
  change.op = op;
  return change;
}

class StreamsTest : public testing::Test {
 protected:
  void SetUp() override { Open("0"); }
  void TearDown() override { std::filesystem::remove_all(root_); }

  // A pipeline of its own in a new data_dir.
  void Open(const std::string& name) {
    plan_ = StreamPlan();
    store_.reset();
    auto store = storage::OpenRocksDbStore({.path = root_ / name});
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    store_ = std::move(store).value();
    ASSERT_TRUE(store_->BeginSnapshot(1, 1).ok());
    ASSERT_TRUE(store_->CompleteSnapshot({Epoch(0), Lsn(1)}).ok());
    Plan();
    first_transaction_ = 0;
  }

  void Plan() {
    config::Findings findings;
    const auto config = config::LoadPipelineConfig(
        kConfig, "test.yaml",
        {.sink_types = {{.type = "nowhere", .description = "", .fields = {}}},
         .check_sql = {},
         .read = {}},
        findings);
    ASSERT_TRUE(config.has_value()) << findings.all().front().ToString();
    const std::vector<TablePtr> tables = {content_, events_};
    const std::vector<sinks::StreamUse> uses = {
        {.stream = "enriched", .address_columns = {"kind"}}};
    auto plan = PlanStreams({.config = *config,
                             .tables = tables,
                             .uses = uses,
                             .sql = *sql_,
                             .store = *store_,
                             .log = {}});
    ASSERT_TRUE(plan.ok()) << plan.status().ToString();
    plan_ = std::move(plan).value();
  }

  void Append(ChangeBatch& batch, uint32_t transaction, uint64_t ordinal,
              const TestChange& change) {
    const bool is_content = change.table == TestChange::Table::kContent;
    TableChanges& changes = batch.tables[is_content ? 0 : 1];
    const auto append = [&](RowBatch& rows, int64_t id, bool whole) {
      rows.column(0).Append<int64_t>(id);
      if (!whole) {
        rows.column(1).AppendNull();
      } else if (change.text == "<toast>") {
        rows.column(1).AppendNull();
        changes.unchanged_toast.push_back({static_cast<uint32_t>(rows.row_count() - 1), 1});
      } else {
        rows.column(1).AppendText(change.text);
      }
      if (!is_content) {
        whole&& change.content_id != 0 ? rows.column(2).Append<int64_t>(change.content_id)
                                       : rows.column(2).AppendNull();
      }
      return static_cast<uint32_t>(rows.row_count() - 1);
    };
    Change c{.ordinal = ordinal, .transaction = transaction, .op = change.op};
    if (change.op == ChangeOp::kDelete) {
      c.old_row = append(changes.old_rows, change.id, false);
    } else if (change.op != ChangeOp::kTruncate) {
      if (change.old_id) {
        c.old_row = append(changes.old_rows, *change.old_id, false);
      }
      c.new_row = append(changes.new_rows, change.id, true);
    }
    changes.changes.push_back(c);
    ++batch.row_count;
  }

  // Runs `transactions` in batches of `batch_size`.
  void Run(const std::vector<TestTransaction>& transactions, size_t batch_size) {
    HandOver hand_over;
    BatchLoop loop(
        plan_, *store_, hand_over, {.output_log_bytes_max = 1 << 30}, [](auto) {}, metrics_,
        telemetry::Logger());
    std::stop_source stop;
    Status status;
    std::thread engine([&] { status = loop.Run(stop.get_token()); });
    for (size_t begin = 0; begin < transactions.size(); begin += batch_size) {
      auto batch = std::make_unique<ChangeBatch>();
      batch->tables.emplace_back(content_);
      batch->tables.emplace_back(events_);
      for (size_t i = begin; i < std::min(begin + batch_size, transactions.size()); ++i) {
        const uint64_t lsn = 100 + first_transaction_ + i;
        batch->transactions.push_back(
            {Lsn(lsn), static_cast<TimestampMicros>(lsn), Xid(static_cast<uint32_t>(lsn))});
        for (size_t c = 0; c < transactions[i].size(); ++c) {
          Append(*batch, static_cast<uint32_t>(batch->transactions.size() - 1), c + 1,
                 transactions[i][c]);
        }
      }
      batch->end = {Epoch(0), batch->transactions.back().end_lsn};
      ASSERT_TRUE(hand_over.WaitIdle(stop.get_token()));
      hand_over.Give(std::move(batch));
    }
    hand_over.WaitIdle(stop.get_token());
    stop.request_stop();
    engine.join();
    ASSERT_TRUE(status.ok()) << status.ToString();
    first_transaction_ += transactions.size();
  }

  // All outputs of a stream as text: `lsn.ordinal op key/values`.
  std::vector<std::string> Outputs(const std::string& stream) {
    std::vector<std::string> lines;
    for (Offset at = store_->LogBegin(); at < store_->ReadableEnd();) {
      const auto record = store_->ReadOutput(at);
      EXPECT_TRUE(record.ok()) << record.status().ToString();
      EXPECT_EQ(record->first, at);
      for (const OutputBatchPtr& batch : record->batches) {
        for (size_t row = 0; row < batch->row_count() && batch->stream->name == stream; ++row) {
          lines.push_back(Line(*batch, row));
        }
      }
      at = record->end;
    }
    return lines;
  }

  static std::string Line(const OutputBatch& batch, size_t row) {
    constexpr const char* kOps[] = {"", "upsert", "delete", "moved", "read"};
    const RowVersion version = batch.VersionOf(row);
    std::string line = std::to_string(version.end_lsn.value() - 100) + "." +
                       std::to_string(version.ordinal) + " " +
                       kOps[static_cast<size_t>(batch.ops[row])];
    for (size_t i = 0; i < batch.rows.column_count(); ++i) {
      const Column& column = batch.rows.column(i);
      line += " ";
      line += column.IsNull(row)          ? "-"
              : column.type().is_varlen() ? std::string(column.Text(row))
                                          : std::to_string(column.Value<int64_t>(row));
    }
    return line;
  }

  const std::filesystem::path root_ =
      std::filesystem::temp_directory_path() /
      ("millrace_streams_test_" + std::to_string(getpid()) + "_" +
       testing::UnitTest::GetInstance()->current_test_info()->name());
  const TablePtr content_ =
      MakeTable("content", {{"id", TypeKind::kInt64, false}, {"title", TypeKind::kText, true}});
  const TablePtr events_ = MakeTable("events", {{"id", TypeKind::kInt64, false},
                                                {"kind", TypeKind::kText, true},
                                                {"content_id", TypeKind::kInt64, true}});
  telemetry::MetricsRegistry registry_{"test"};
  telemetry::PipelineMetrics metrics_{registry_};
  std::unique_ptr<sql::SqlEngine> sql_ = sql::MakeDuckDbEngine({}).value();
  std::unique_ptr<storage::Store> store_;
  StreamPlan plan_;
  uint64_t first_transaction_ = 0;
};

TEST_F(StreamsTest, EventsSeeTheirOwnCommitAndNothingLater) {
  Run({{Content(1, "one")},
       {Event(10, "play", 1), As(ChangeOp::kUpdate, Content(1, "two")), Event(11, "play", 1)},
       {Event(12, "play", 1)},
       {As(ChangeOp::kUpdate, Content(1, "three"))},
       {Event(13, "play", 1), Event(14, "play", 9), Event(15, "play", 0)},
       {As(ChangeOp::kDelete, Content(1, ""))},
       {Event(16, "play", 1)}},
      7);
  EXPECT_THAT(Outputs("enriched"),
              ElementsAre("1.1 upsert 10 play two", "1.3 upsert 11 play two",
                          "2.1 upsert 12 play two", "4.1 upsert 13 play three",
                          "4.2 upsert 14 play -", "4.3 upsert 15 play -", "6.1 upsert 16 play -"));
}

TEST_F(StreamsTest, UpdatesAndDeletesAddressTheRowWhereItWas) {
  Run({{Event(1, "play", 0), Event(2, "play", 0), Event(3, "hidden", 0)},
       {As(ChangeOp::kUpdate, Event(1, "pause", 0))},
       {As(ChangeOp::kUpdate, Event(2, "hidden", 0)), As(ChangeOp::kUpdate, Event(3, "play", 0))},
       {As(ChangeOp::kDelete, Event(1, "", 0)), As(ChangeOp::kDelete, Event(2, "", 0))},
       {{TestChange::Table::kEvents, ChangeOp::kUpdate, 30, "play", 0, 3}}},
      1);
  EXPECT_THAT(Outputs("enriched"),
              ElementsAre("0.1 upsert 1 play -", "0.2 upsert 2 play -", "1.1 moved 1 play -",
                          "1.1 upsert 1 pause -", "2.1 delete 2 play -", "2.2 upsert 3 play -",
                          "3.1 delete 1 pause -", "4.1 delete 3 play -", "4.1 upsert 30 play -"));
}

TEST_F(StreamsTest, TruncateDeletesStoredAndNewRows) {
  Run({{Event(1, "play", 0), Event(2, "pause", 0)}}, 1);
  Run({{Event(3, "play", 0), As(ChangeOp::kTruncate, Event(0, "", 0)), Event(4, "play", 0)}}, 1);
  EXPECT_THAT(Outputs("enriched"),
              ElementsAre("0.1 upsert 1 play -", "0.2 upsert 2 pause -", "1.1 upsert 3 play -",
                          "1.2 delete 1 play -", "1.2 delete 2 pause -", "1.2 delete 3 play -",
                          "1.3 upsert 4 play -"));
}

TEST_F(StreamsTest, UnchangedLargeValuesComeFromState) {
  const std::string large(5000, 'x');
  Run({{Event(1, large, 1)}, {Content(1, large)}}, 1);
  Run({{As(ChangeOp::kUpdate, Event(1, "<toast>", 0))},
       {As(ChangeOp::kUpdate, Event(1, "<toast>", 1)),
        As(ChangeOp::kUpdate, Content(1, "<toast>"))},
       {{TestChange::Table::kEvents, ChangeOp::kUpdate, 2, "<toast>", 1, 1}}},
      3);
  EXPECT_THAT(Outputs("enriched"),
              ElementsAre("0.1 upsert 1 " + large + " -", "2.1 upsert 1 " + large + " -",
                          "3.1 upsert 1 " + large + " " + large, "4.1 delete 1 " + large + " -",
                          "4.1 upsert 2 " + large + " " + large));
}

// Random transactions over few keys, so that reference and driving changes collide often.
std::vector<TestTransaction> RandomTransactions(uint64_t seed, size_t count) {
  std::mt19937_64 random(seed);
  const auto below = [&](uint64_t n) { return static_cast<int64_t>(random() % n); };
  std::map<int64_t, std::string> contents;
  std::map<int64_t, std::string> events;
  int64_t next_event = 1;
  std::vector<TestTransaction> transactions(count);
  for (TestTransaction& transaction : transactions) {
    for (int64_t n = 1 + below(5); n > 0; --n) {
      const int64_t content = 1 + below(4);
      const std::string text = "t" + std::to_string(below(1000));
      const std::string kind = below(5) == 0 ? "hidden" : "k" + std::to_string(below(3));
      const int64_t choice = below(10);
      if (choice < 3) {
        transaction.push_back(contents.contains(content)
                                  ? As(ChangeOp::kUpdate, Content(content, text))
                                  : Content(content, text));
        contents[content] = text;
      } else if (choice == 3 && contents.contains(content)) {
        transaction.push_back(As(ChangeOp::kDelete, Content(content, "")));
        contents.erase(content);
      } else if (choice < 7 || events.empty()) {
        transaction.push_back(Event(next_event, kind, content));
        events[next_event++] = kind;
      } else {
        const auto event = std::next(events.begin(), below(events.size()));
        if (choice == 7) {
          transaction.push_back(As(ChangeOp::kDelete, Event(event->first, "", 0)));
          events.erase(event);
        } else if (choice == 8) {
          TestChange change = As(ChangeOp::kUpdate, Event(next_event, kind, content));
          change.old_id = event->first;
          transaction.push_back(change);
          events.erase(event);
          events[next_event++] = kind;
        } else {
          transaction.push_back(As(ChangeOp::kUpdate, Event(event->first, kind, content)));
        }
      }
    }
  }
  return transactions;
}

TEST_F(StreamsTest, OutputsDoNotDependOnBatches) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const std::vector<TestTransaction> transactions = RandomTransactions(seed, 120);
    std::vector<std::string> expected;
    std::vector<std::string> expected_mirror;
    for (const size_t batch_size : {size_t{1}, size_t{7}, transactions.size()}) {
      Open(std::to_string(seed) + "_" + std::to_string(batch_size));
      Run(transactions, batch_size);
      if (batch_size == 1) {
        expected = Outputs("enriched");
        expected_mirror = Outputs("mirror");
        ASSERT_GT(expected.size(), 100U);
      } else {
        EXPECT_EQ(Outputs("enriched"), expected) << "seed " << seed << ", batch " << batch_size;
        EXPECT_EQ(Outputs("mirror"), expected_mirror);
      }
    }
  }
}

TEST_F(StreamsTest, StateSurvivesReopening) {
  const std::vector<TestTransaction> transactions = RandomTransactions(9, 100);
  Run(transactions, 10);
  const std::vector<std::string> expected = Outputs("enriched");
  Open("reopened");
  Run({transactions.begin(), transactions.begin() + 50}, 10);
  plan_ = StreamPlan();
  store_.reset();
  auto store = storage::OpenRocksDbStore({.path = root_ / "reopened"});
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  store_ = std::move(store).value();
  Plan();
  Run({transactions.begin() + 50, transactions.end()}, 10);
  EXPECT_EQ(Outputs("enriched"), expected);
}

}  // namespace
}  // namespace millrace::pipeline
