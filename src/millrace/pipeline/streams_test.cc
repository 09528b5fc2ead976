// SPDX-License-Identifier: Apache-2.0
// What streams make of changes, on the real store and the real SQL engine: the same transactions in
// batches of any size give the same outputs.
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
        plan_, Inputs(), *store_, hand_over, streams_,
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
    store_.reset();
    auto store = storage::OpenRocksDbStore({.path = root_ / name});
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    store_ = std::move(store).value();
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
  std::optional<config::PipelineConfig> config_;
  StreamBoard streams_;
  StreamPlan plan_;
  uint64_t first_transaction_ = 0;
  BatchWriter::Limits limits_;
  SourcePosition confirmed_;
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

// The first difference, with large values cut short.
void ExpectSame(const std::vector<std::string>& outputs, const std::vector<std::string>& expected) {
  EXPECT_EQ(outputs.size(), expected.size());
  for (size_t i = 0; i < std::min(outputs.size(), expected.size()); ++i) {
    if (outputs[i] != expected[i]) {
      ADD_FAILURE() << "output " << i << ": " << outputs[i].substr(0, 60) << "..., not "
                    << expected[i].substr(0, 60) << "...";
      return;
    }
  }
}

// Random transactions of about `changes` changes over few keys, so that reference and driving
// changes collide often. Large values are left out where they do not change.
class RandomChanges {
 public:
  explicit RandomChanges(uint64_t seed) : random_(seed) {}

  std::vector<TestTransaction> Transactions(size_t count, int64_t changes) {
    std::vector<TestTransaction> transactions(count);
    for (TestTransaction& transaction : transactions) {
      for (int64_t n = 1 + Below(2 * changes - 1); n > 0; --n) {
        transaction.push_back(Below(10) < 4 ? ContentChange() : EventChange());
        for (Table* table : {&contents_, &events_}) {
          ReadAgain(*table, transaction);
        }
      }
    }
    return transactions;
  }

  // What the source's tables hold: title and kind by id.
  using Rows = std::map<int64_t, std::string>;
  const Rows& contents() const { return contents_.rows; }
  const Rows& events() const { return events_.rows; }
  // Has tables lose rows without a change, and be read again thereafter.
  void ReadTablesAgain() { reads_again_ = true; }
  bool is_reading() const { return contents_.is_reading || events_.is_reading; }

 private:
  struct Table {
    TestChange (*change)(int64_t id, std::string text);
    Rows rows;
    bool is_reading = false;
    std::set<int64_t> unread = {};  // with is_reading: rows that nothing has shown since it began
  };

  int64_t Below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  std::string Text(std::string text) {
    return Below(4) == 0 ? text + std::string(2000, 'x') : std::move(text);
  }
  // The new value of an updated row, or that it is left out.
  std::string Updated(const std::string& from, std::string& to, std::string text) {
    if (from.size() >= 2000 && Below(2) == 0) {
      to = from;
      return "<toast>";
    }
    to = std::move(text);
    return to;
  }
  static TestChange Truncate(Table& table) {
    table.rows.clear();
    table.unread.clear();
    return As(ChangeOp::kTruncate, table.change(0, ""));
  }
  static void Show(Table& table, int64_t id) { table.unread.erase(id); }

  void ReadAgain(Table& table, TestTransaction& transaction) {
    if (!table.is_reading) {
      if (!reads_again_ || Below(30) != 0) {
        return;
      }
      for (int64_t lost = Below(3); lost > 0 && !table.rows.empty(); --lost) {
        table.rows.erase(
            std::next(table.rows.begin(), Below(static_cast<int64_t>(table.rows.size()))));
      }
      table.is_reading = true;
      for (const auto& [id, text] : table.rows) {
        table.unread.insert(id);
      }
      transaction.push_back(As(ChangeOp::kReadAgainBegin, table.change(0, "")));
    }
    while (!table.unread.empty() && Below(3) == 0) {
      const int64_t id = *table.unread.begin();
      table.unread.erase(id);
      if (table.rows.contains(id)) {
        transaction.push_back(As(ChangeOp::kRead, table.change(id, table.rows[id])));
      }
    }
    if (table.unread.empty() && Below(4) == 0) {
      table.is_reading = false;
      transaction.push_back(As(ChangeOp::kReadAgainEnd, table.change(0, "")));
    }
  }

  TestChange ContentChange() {
    Rows& rows = contents_.rows;
    const int64_t id = 1 + Below(4);
    const auto row = rows.find(id);
    const std::string text = Text("t" + std::to_string(Below(1000)));
    if (Below(40) == 0) {
      return Truncate(contents_);
    }
    Show(contents_, id);
    if (row == rows.end()) {
      rows[id] = text;
      return Content(id, text);
    }
    if (Below(4) == 0) {
      rows.erase(row);
      return As(ChangeOp::kDelete, Content(id, ""));
    }
    const std::string from = row->second;
    int64_t to = id;
    if (Below(4) == 0 && !rows.contains(1 + id % 4)) {
      to = 1 + id % 4;
      rows.erase(row);
      Show(contents_, to);
    }
    TestChange change = As(ChangeOp::kUpdate, Content(to, Updated(from, rows[to], text)));
    if (to != id) {
      change.old_id = id;
    }
    return change;
  }

  TestChange EventChange() {
    Rows& rows = events_.rows;
    const std::string kind = Text(Below(5) == 0 ? "hidden" : "k" + std::to_string(Below(3)));
    const int64_t content = 1 + Below(4);
    const int64_t choice = Below(6);
    if (Below(60) == 0) {
      return Truncate(events_);
    }
    if (choice < 3 || rows.empty()) {
      rows[next_event_] = kind;
      return Event(next_event_++, kind, content);
    }
    const auto row = std::next(rows.begin(), Below(static_cast<int64_t>(rows.size())));
    const auto [id, from] = *row;
    Show(events_, id);
    if (choice == 3) {
      rows.erase(row);
      return As(ChangeOp::kDelete, Event(id, "", 0));
    }
    int64_t to = id;
    if (choice == 4) {
      rows.erase(row);
      to = next_event_++;
    }
    TestChange change = As(ChangeOp::kUpdate, Event(to, Updated(from, rows[to], kind), content));
    if (to != id) {
      change.old_id = id;
    }
    return change;
  }

  std::mt19937_64 random_;
  Table contents_{[](int64_t id, std::string text) { return Content(id, std::move(text)); }, {}};
  Table events_{[](int64_t id, std::string text) { return Event(id, std::move(text), 1 + id % 4); },
                {}};
  int64_t next_event_ = 1;
  bool reads_again_ = false;
};

std::vector<TestTransaction> RandomTransactions(uint64_t seed, size_t count, int64_t changes = 3) {
  return RandomChanges(seed).Transactions(count, changes);
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
        ExpectSame(Outputs("enriched"), expected);
        ExpectSame(Outputs("mirror"), expected_mirror);
      }
    }
  }
}

TEST_F(StreamsTest, OutputsDoNotDependOnParts) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const std::vector<TestTransaction> transactions = RandomTransactions(seed, 12, 30);
    Open(std::to_string(seed) + "_whole");
    Run(transactions, 1);
    const std::vector<std::string> expected = Outputs("enriched");
    const std::vector<std::string> expected_mirror = Outputs("mirror");
    ASSERT_GT(expected.size(), 100U);

    const std::string name = std::to_string(seed) + "_parts";
    Open(name);
    std::mt19937_64 random(seed);
    for (const TestTransaction& transaction : transactions) {
      const uint64_t lsn = NextLsn(1);
      if (random() % 3 == 0) {  // some come whole in between
        Batches batches;
        batches.push_back(MakeBatch(std::span(&transaction, 1), lsn));
        RunBatches(std::move(batches));
        continue;
      }
      const Offset readable = store_->ReadableEnd();
      Batches parts = MakeParts(transaction, lsn, 5, random);
      if (parts.size() > 1 && random() % 2 == 0) {  // the source breaks off in between
        parts.resize(1 + random() % (parts.size() - 1));
        RunBatches(std::move(parts));
        EXPECT_EQ(store_->ReadableEnd(), readable);
        EXPECT_LT(confirmed_.end_lsn, Lsn(lsn));
        if (random() % 2 == 0) {
          Reopen(name);
          EXPECT_EQ(store_->AppendEnd(), readable);
        }
        parts = MakeParts(transaction, lsn, 5, random);
      }
      RunBatches(std::move(parts));
      EXPECT_EQ(confirmed_.end_lsn, Lsn(lsn));
      EXPECT_EQ(store_->ReadableEnd(), store_->AppendEnd());
    }
    ExpectSame(Outputs("enriched"), expected);
    ExpectSame(Outputs("mirror"), expected_mirror);
  }
}

TEST_F(StreamsTest, OutputsDoNotDependOnTheBoundsOfTheWriter) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const std::vector<TestTransaction> transactions = RandomTransactions(seed, 60);
    limits_ = {};
    Open(std::to_string(seed) + "_wide");
    Run(transactions, 1);
    const std::vector<std::string> expected = Outputs("enriched");
    const std::vector<std::string> expected_mirror = Outputs("mirror");

    limits_ = {.record_rows = 4, .record_bytes = 8192, .gathered_bytes = 1};
    Open(std::to_string(seed) + "_narrow");
    Run(transactions, 20);
    ExpectSame(Outputs("enriched"), expected);
    ExpectSame(Outputs("mirror"), expected_mirror);
  }
}

TEST_F(StreamsTest, ATransactionThatFitsARecordIsInOne) {
  limits_ = {.record_rows = 6};
  Run(RandomTransactions(3, 200), 50);
  std::map<uint64_t, size_t> rows;     // by end_lsn
  std::map<uint64_t, size_t> records;  // that hold rows of it
  size_t count = 0;
  for (Offset at(0); at < store_->ReadableEnd(); ++count) {
    const auto record = store_->ReadOutput(at);
    ASSERT_TRUE(record.ok()) << record.status().ToString();
    EXPECT_LE(record->end.value() - record->first.value(), 6U);
    std::set<uint64_t> seen;
    for (const OutputBatchPtr& batch : record->batches) {
      for (size_t row = 0; row < batch->row_count(); ++row) {
        const uint64_t lsn = batch->VersionOf(row).end_lsn.value();
        records[lsn] += seen.insert(lsn).second ? 1 : 0;
        ++rows[lsn];
      }
    }
    at = record->end;
  }
  size_t larger = 0;
  for (const auto& [lsn, n] : rows) {
    larger += n > 6 ? 1 : 0;
    EXPECT_TRUE(n > 6 || records[lsn] == 1) << lsn;
  }
  EXPECT_GT(larger, 0U);
  EXPECT_LT(count, rows.size());  // small ones share a record
}

TEST_F(StreamsTest, ATruncateOfManyRowsIsCommittedInParts) {
  TestTransaction inserts;
  for (int64_t id = 1; id <= 20'000; ++id) {
    inserts.push_back(Event(id, "play", 0));
  }
  Run({inserts}, 1);
  limits_ = {.gathered_bytes = 100'000};
  Run({{Event(30'000, "play", 0), As(ChangeOp::kTruncate, Event(0, "", 0)), Event(7, "play", 0)}},
      1);
  const std::vector<std::string> outputs = Outputs("enriched");
  ASSERT_EQ(outputs.size(), 20'000U + 1 + 20'001 + 1);
  EXPECT_EQ(outputs[20'000], "1.1 upsert 30000 play -");
  EXPECT_EQ(outputs[20'001], "1.2 delete 1 play -");
  EXPECT_EQ(outputs[40'001], "1.2 delete 30000 play -");
  EXPECT_EQ(outputs[40'002], "1.3 upsert 7 play -");
  Run({{As(ChangeOp::kDelete, Event(8, "", 0)), As(ChangeOp::kDelete, Event(7, "", 0))}}, 1);
  EXPECT_EQ(Outputs("enriched").back(), "2.2 delete 7 play -");
  EXPECT_EQ(Outputs("enriched").size(), outputs.size() + 1);
}

// The places that outputs leave rows at, each `id address`; every place that is left was taken.
std::set<std::string> PlacesAfter(const std::vector<std::string>& outputs) {
  std::set<std::string> places;
  for (const std::string& line : outputs) {
    std::istringstream words(line);
    std::string version;
    std::string op;
    std::string id;
    std::string address;
    words >> version >> op >> id >> address;
    if (op == "moved" || op == "delete") {
      EXPECT_EQ(places.erase(id + " " + address), 1U) << line;
    } else {
      places.insert(id + " " + address);
    }
  }
  return places;
}

TEST_F(StreamsTest, ReadingTablesAgainSweepsWhatWasMissed) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomChanges changes(seed);
    changes.ReadTablesAgain();
    std::vector<TestTransaction> transactions = changes.Transactions(40, 6);
    while (changes.is_reading()) {
      transactions.push_back(changes.Transactions(1, 6).front());
    }
    Open(std::to_string(seed) + "_one");
    Run(transactions, 1);
    const std::vector<std::string> expected = Outputs("enriched");
    const std::vector<std::string> expected_mirror = Outputs("mirror");
    std::set<std::string> places;
    for (const auto& [id, kind] : changes.events()) {
      if (kind != "hidden") {
        places.insert(std::to_string(id) + " " + kind);
      }
    }
    EXPECT_EQ(PlacesAfter(expected), places);
    std::set<int64_t> mirrored;
    for (const std::string& line : expected_mirror) {
      std::istringstream words(line);
      std::string version;
      std::string op;
      int64_t id = 0;
      words >> version >> op >> id;
      op == "delete" ? mirrored.erase(id) : mirrored.insert(id).second;
    }
    std::set<int64_t> contents;
    for (const auto& [id, title] : changes.contents()) {
      contents.insert(id);
    }
    EXPECT_EQ(mirrored, contents);

    Open(std::to_string(seed) + "_many");
    Run(transactions, 9);
    ExpectSame(Outputs("enriched"), expected);
    ExpectSame(Outputs("mirror"), expected_mirror);

    limits_ = {.record_rows = 4, .gathered_bytes = 1};
    const std::string name = std::to_string(seed) + "_parts";
    Open(name);
    std::mt19937_64 random(seed);
    for (const TestTransaction& transaction : transactions) {
      const uint64_t lsn = NextLsn(1);
      Batches parts = MakeParts(transaction, lsn, 3, random);
      if (parts.size() > 1 && random() % 3 == 0) {
        parts.resize(parts.size() - 1);
        RunBatches(std::move(parts));
        if (random() % 3 == 0) {
          Reopen(name);
        }
        parts = MakeParts(transaction, lsn, 3, random);
      }
      RunBatches(std::move(parts));
    }
    limits_ = {};
    ExpectSame(Outputs("enriched"), expected);
    ExpectSame(Outputs("mirror"), expected_mirror);
  }
}

TEST_F(StreamsTest, ASweepOfManyRowsIsCommittedInParts) {
  TestTransaction inserts;
  for (int64_t id = 1; id <= 20'000; ++id) {
    inserts.push_back(Event(id, "play", 0));
  }
  Run({inserts}, 1);
  limits_ = {.gathered_bytes = 100'000};
  Run({{As(ChangeOp::kReadAgainBegin, Event(0, "", 0)), As(ChangeOp::kRead, Event(7, "pause", 0))},
       {As(ChangeOp::kRead, Event(9, "play", 0)), As(ChangeOp::kReadAgainEnd, Event(0, "", 0))}},
      1);
  const std::vector<std::string> outputs = Outputs("enriched");
  ASSERT_EQ(outputs.size(), 20'000U + 2 + 1 + 19'998);
  EXPECT_EQ(outputs[20'000], "1.2 moved 7 play -");
  EXPECT_EQ(outputs[20'001], "1.2 read 7 pause -");
  EXPECT_EQ(outputs[20'002], "2.1 read 9 play -");
  EXPECT_EQ(outputs[20'003], "2.2 delete 1 play -");
  EXPECT_EQ(outputs.back(), "2.2 delete 20000 play -");
}

TEST_F(StreamsTest, StateSurvivesReopening) {
  const std::vector<TestTransaction> transactions = RandomTransactions(9, 100);
  Run(transactions, 10);
  const std::vector<std::string> expected = Outputs("enriched");
  Open("reopened");
  Run({transactions.begin(), transactions.begin() + 50}, 10);
  Reopen("reopened");
  Run({transactions.begin() + 50, transactions.end()}, 10);
  ExpectSame(Outputs("enriched"), expected);
}

}  // namespace
}  // namespace millrace::pipeline
