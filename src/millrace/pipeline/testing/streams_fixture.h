// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <thread>
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

namespace millrace::pipeline::testing {

inline constexpr const char* kConfig = R"(
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

inline TablePtr MakeTable(std::string name, Schema columns) {
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

inline TestChange Content(int64_t id, std::string title) {
  return {TestChange::Table::kContent, ChangeOp::kInsert, id, std::move(title)};
}
inline TestChange Event(int64_t id, std::string kind, int64_t content) {
  return {TestChange::Table::kEvents, ChangeOp::kInsert, id, std::move(kind), content};
}
inline TestChange As(ChangeOp op, TestChange change) {
  change.op = op;
  return change;
}

class StreamsTest : public ::testing::Test {
 protected:
  void SetUp() override { Open("0"); }
  void TearDown() override { std::filesystem::remove_all(root_); }

  // A pipeline of its own in a new data_dir.
  void Open(const std::string& name) {
    plan_ = StreamPlan();
    dead_letters_.reset();
    store_.reset();
    auto store = storage::OpenRocksDbStore({.path = root_ / name});
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    store_ = std::move(store).value();
    dead_letters_ = DeadLetters::Open(*store_, {}).value();
    ASSERT_TRUE(store_->BeginStreaming({Epoch(0), Lsn(1)}, {}).ok());
    Plan();
    first_transaction_ = 0;
    confirmed_ = {};
  }

  void Plan() {
    config::Findings findings;
    config_ = config::LoadPipelineConfig(
        kConfig, "test.yaml",
        {.sink_types = {{.type = "nowhere", .description = "", .fields = {}}},
         .check_sql = {},
         .read = {}},
        findings);
    ASSERT_TRUE(config_.has_value()) << findings.all().front().ToString();
    auto plan = PlanStreams(Inputs());
    ASSERT_TRUE(plan.ok()) << plan.status().ToString();
    plan_ = std::move(plan).value();
  }

  StreamPlanInputs Inputs() {
    return {.config = *config_,
            .tables = {content_, events_},
            .uses = {{.stream = "enriched", .address_columns = {"kind"}}},
            .sql = *sql_,
            .store = *store_,
            .log = {}};
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
    } else if (change.op != ChangeOp::kTruncate && change.op != ChangeOp::kReadAgainBegin &&
               change.op != ChangeOp::kReadAgainEnd) {
      if (change.old_id) {
        c.old_row = append(changes.old_rows, *change.old_id, false);
      }
      c.new_row = append(changes.new_rows, change.id, true);
    }
    changes.changes.push_back(c);
    ++batch.row_count;
  }

  using Batches = std::vector<std::unique_ptr<ChangeBatch>>;

  // A batch of the changes [begin, end) of each of `transactions`, the first of which has `lsn`.
  std::unique_ptr<ChangeBatch> MakeBatch(std::span<const TestTransaction> transactions,
                                         uint64_t lsn, size_t begin = 0, size_t end = SIZE_MAX,
                                         bool lookups_only = false) {
    auto batch = std::make_unique<ChangeBatch>();
    batch->tables.emplace_back(content_);
    batch->tables.emplace_back(events_);
    for (const TestTransaction& transaction : transactions) {
      batch->transactions.push_back(
          {Lsn(lsn), static_cast<TimestampMicros>(lsn), Xid(static_cast<uint32_t>(lsn))});
      for (size_t c = begin; c < std::min(end, transaction.size()); ++c) {
        if (!lookups_only || transaction[c].table == TestChange::Table::kContent) {
          Append(*batch, static_cast<uint32_t>(batch->transactions.size() - 1), c + 1,
                 transaction[c]);
        }
      }
      ++lsn;
    }
    batch->end = {Epoch(0), batch->transactions.back().end_lsn};
    return batch;
  }

  // A transaction in parts of about `changes` changes, cut at random.
  Batches MakeParts(const TestTransaction& transaction, uint64_t lsn, size_t changes,
                    std::mt19937_64& random) {
    Batches parts;
    for (const auto pass : {TransactionPart::Pass::kLookups, TransactionPart::Pass::kChanges}) {
      for (size_t begin = 0; begin < transaction.size();) {
        const size_t end = begin + 1 + random() % (2 * changes);
        parts.push_back(MakeBatch(std::span(&transaction, 1), lsn, begin, end,
                                  pass == TransactionPart::Pass::kLookups));
        parts.back()->part = TransactionPart{.pass = pass};
        begin = end;
      }
    }
    parts.front()->part->is_first = true;
    parts.back()->part->is_last = true;
    return parts;
  }

  void RunBatches(Batches batches) {
    HandOver hand_over;
    BatchLoop loop(
        plan_, Inputs(), *store_, hand_over, streams_, *dead_letters_,
        {.output_log_bytes_max = 1 << 30, .writer = limits_},
        [this](SourcePosition position) { confirmed_ = position; }, metrics_, telemetry::Logger());
    std::stop_source stop;
    Status status;
    std::thread engine([&] {
      status = loop.Run(stop.get_token());
      stop.request_stop();
    });
    for (std::unique_ptr<ChangeBatch>& batch : batches) {
      if (!hand_over.WaitIdle(stop.get_token())) {
        break;  // it failed
      }
      hand_over.Give(std::move(batch));
    }
    hand_over.WaitIdle(stop.get_token());
    stop.request_stop();
    engine.join();
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  // Runs `transactions` in batches of `batch_size`.
  void Run(const std::vector<TestTransaction>& transactions, size_t batch_size) {
    Batches batches;
    for (size_t begin = 0; begin < transactions.size(); begin += batch_size) {
      const size_t n = std::min(batch_size, transactions.size() - begin);
      batches.push_back(MakeBatch(std::span(transactions).subspan(begin, n), NextLsn(n)));
    }
    RunBatches(std::move(batches));
  }

  uint64_t NextLsn(size_t transactions) {
    first_transaction_ += transactions;
    return 100 + first_transaction_ - transactions;
  }

  // Opens the same data_dir again, as after a crash.
  void Reopen(const std::string& name) {
    plan_ = StreamPlan();
    dead_letters_.reset();
    store_.reset();
    auto store = storage::OpenRocksDbStore({.path = root_ / name});
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    store_ = std::move(store).value();
    dead_letters_ = DeadLetters::Open(*store_, {}).value();
    Plan();
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
       ::testing::UnitTest::GetInstance()->current_test_info()->name());
  const TablePtr content_ =
      MakeTable("content", {{"id", TypeKind::kInt64, false}, {"title", TypeKind::kText, true}});
  const TablePtr events_ = MakeTable("events", {{"id", TypeKind::kInt64, false},
                                                {"kind", TypeKind::kText, true},
                                                {"content_id", TypeKind::kInt64, true}});
  telemetry::MetricsRegistry registry_{"test"};
  telemetry::PipelineMetrics metrics_{registry_};
  std::unique_ptr<sql::SqlEngine> sql_ = sql::MakeDuckDbEngine({}).value();
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<DeadLetters> dead_letters_;
  std::optional<config::PipelineConfig> config_;
  StreamBoard streams_;
  StreamPlan plan_;
  uint64_t first_transaction_ = 0;
  BatchWriter::Limits limits_;
  SourcePosition confirmed_;
};

// The first difference, with large values cut short.
inline void ExpectSame(const std::vector<std::string>& outputs,
                       const std::vector<std::string>& expected) {
  EXPECT_EQ(outputs.size(), expected.size());
  for (size_t i = 0; i < std::min(outputs.size(), expected.size()); ++i) {
    if (outputs[i] != expected[i]) {
      ADD_FAILURE() << "output " << i << ": " << outputs[i].substr(0, 60) << "..., not "
                    << expected[i].substr(0, 60) << "...";
      return;
    }
  }
}

}  // namespace millrace::pipeline::testing
