// SPDX-License-Identifier: Apache-2.0
// What the engine holds in memory: change batches made here go through the real engine, SQL and
// store, and the process's greatest resident size is printed for each case.
//
//   engine_memory_bench [ROWS] [ROW_MB]    10000000 rows, and rows of 100 MB
//
// Each case runs in a process of its own, because the greatest size never falls.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include "millrace/common/check.h"
#include "millrace/config/pipeline_config.h"
#include "millrace/pipeline/batch_loop.h"
#include "millrace/pipeline/stream_plan.h"
#include "millrace/sql/duckdb/duckdb_engine.h"
#include "millrace/storage/rocksdb/rocksdb_store.h"
#include "millrace/telemetry/metrics.h"

namespace millrace::pipeline {
namespace {

constexpr const char* kConfig = R"(
pipeline: bench
data_dir: ./data
source: {type: postgres, url: 'postgresql://localhost/x', tables: [public.content, public.events]}
streams:
  events: {from: public.events}
  enriched:
    from: public.events
    lookup: [public.content]
    key: [event_id]
    sql: |
      SELECT e.id AS event_id, e.note, c.title FROM events AS e
      LEFT JOIN content AS c ON c.id = e.content_id
sinks:
  nowhere: {type: nowhere}
)";
constexpr size_t kPartRows = 16'384;
constexpr int64_t kContents = 1'000;

// Kilobytes by a name of /proc/self/status.
uint64_t StatusKilobytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) {
      return std::strtoull(line.c_str() + name.size() + 1, nullptr, 10);
    }
  }
  return 0;
}

TablePtr MakeTable(std::string name, Schema columns) {
  auto table = std::make_shared<Table>();
  table->schema = "public";
  table->name = std::move(name);
  table->columns = std::make_shared<const Schema>(std::move(columns));
  table->primary_key = {0};
  table->toastable.assign(table->columns->size(), true);
  return table;
}

// The engine on a data_dir of its own, with the store's default sizes.
class Engine {
 public:
  explicit Engine(const std::filesystem::path& directory) {
    store_ = storage::OpenRocksDbStore({.path = directory}).value();
    dead_letters_ = DeadLetters::Open(*store_, {}).value();
    config::Findings findings;
    config_ = config::LoadPipelineConfig(
        kConfig, "bench.yaml",
        {.sink_types = {{.type = "nowhere", .description = "", .fields = {}}},
         .check_sql = {},
         .read = {}},
        findings);
    MR_CHECK(config_.has_value());
    const StreamPlanInputs inputs = {.config = *config_,
                                     .tables = {content_, events_},
                                     .uses = {},
                                     .sql = *sql_,
                                     .store = *store_,
                                     .log = {}};
    plan_ = PlanStreams(inputs).value();
    loop_ = std::make_unique<BatchLoop>(
        plan_, inputs, *store_, hand_over_, streams_, *dead_letters_,
        BatchLoop::Options{.output_log_bytes_max = uint64_t{1} << 50, .writer = {}},
        [](SourcePosition) {}, metrics_, telemetry::Logger());
    thread_ = std::thread([this] {
      const Status status = loop_->Run(stop_.get_token());
      if (!status.ok()) {
        std::fprintf(stderr, "%s\n", status.ToString().c_str());
        std::abort();
      }
    });
  }
  ~Engine() {
    hand_over_.WaitIdle(stop_.get_token());
    stop_.request_stop();
    thread_.join();
  }

  std::unique_ptr<ChangeBatch> NewBatch() {
    auto batch = std::make_unique<ChangeBatch>();
    batch->transactions.push_back({Lsn(lsn_), static_cast<TimestampMicros>(lsn_), Xid(1)});
    batch->end = {Epoch(0), Lsn(lsn_)};
    batch->tables.emplace_back(content_);
    batch->tables.emplace_back(events_);
    return batch;
  }
  void Give(std::unique_ptr<ChangeBatch> batch) {
    for (const TableChanges& changes : batch->tables) {
      batch->row_count += changes.changes.size();
    }
    while (!hand_over_.IsFree()) {
      hand_over_.WaitFree(std::chrono::milliseconds(1000), stop_.get_token());
    }
    hand_over_.Give(std::move(batch));
  }
  void EndTransaction() {
    hand_over_.WaitIdle(stop_.get_token());
    ++lsn_;
    ordinal_ = 0;
  }

  void AddContent(ChangeBatch& batch, int64_t id) {
    TableChanges& changes = batch.tables[0];
    changes.changes.push_back({.ordinal = ++ordinal_,
                               .new_row = static_cast<uint32_t>(changes.new_rows.row_count()),
                               .op = ChangeOp::kInsert});
    changes.new_rows.column(0).Append<int64_t>(id);
    changes.new_rows.column(1).AppendText(fmt::format("title {}", id));
  }
  void AddEvent(ChangeBatch& batch, int64_t id, std::string_view note) {
    TableChanges& changes = batch.tables[1];
    changes.changes.push_back({.ordinal = ++ordinal_,
                               .new_row = static_cast<uint32_t>(changes.new_rows.row_count()),
                               .op = ChangeOp::kInsert});
    changes.new_rows.column(0).Append<int64_t>(id);
    changes.new_rows.column(1).AppendText(note);
    changes.new_rows.column(2).Append<int64_t>(id % kContents);
  }
  void Truncate(ChangeBatch& batch) {
    batch.tables[1].changes.push_back({.ordinal = ++ordinal_, .op = ChangeOp::kTruncate});
  }

  storage::Store& store() { return *store_; }

 private:
  const TablePtr content_ =
      MakeTable("content", {{"id", TypeKind::kInt64, false}, {"title", TypeKind::kText, true}});
  const TablePtr events_ = MakeTable("events", {{"id", TypeKind::kInt64, false},
                                                {"note", TypeKind::kText, true},
                                                {"content_id", TypeKind::kInt64, true}});
  telemetry::MetricsRegistry registry_{"bench"};
  telemetry::PipelineMetrics metrics_{registry_};
  std::unique_ptr<sql::SqlEngine> sql_ = sql::MakeDuckDbEngine({}).value();
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<DeadLetters> dead_letters_;
  std::optional<config::PipelineConfig> config_;
  StreamBoard streams_;
  StreamPlan plan_;
  HandOver hand_over_;
  std::unique_ptr<BatchLoop> loop_;
  std::stop_source stop_;
  std::thread thread_;
  uint64_t lsn_ = 100;
  uint64_t ordinal_ = 0;
};

void InsertInParts(Engine& engine, size_t rows) {
  auto lookups = engine.NewBatch();
  lookups->part = TransactionPart{.pass = TransactionPart::Pass::kLookups, .is_first = true};
  for (int64_t id = 0; id < kContents; ++id) {
    engine.AddContent(*lookups, id);
  }
  engine.Give(std::move(lookups));
  const std::string note(80, 'n');
  for (size_t begin = 0; begin < rows; begin += kPartRows) {
    auto part = engine.NewBatch();
    part->part = TransactionPart{.is_last = begin + kPartRows >= rows};
    for (size_t row = begin; row < std::min(rows, begin + kPartRows); ++row) {
      engine.AddEvent(*part, static_cast<int64_t>(row), note);
    }
    engine.Give(std::move(part));
  }
  engine.EndTransaction();
}

void TruncateAll(Engine& engine, size_t rows) {
  InsertInParts(engine, rows);
  auto batch = engine.NewBatch();
  engine.Truncate(*batch);
  engine.Give(std::move(batch));
  engine.EndTransaction();
}

// A value that does not compress, gone before the engine begins.
void AddLargeEvent(Engine& engine, ChangeBatch& batch, int64_t id, size_t bytes) {
  std::string note(bytes, ' ');
  uint64_t random = static_cast<uint64_t>(id) + 1;
  for (char& c : note) {
    random = random * 6364136223846793005U + 1442695040888963407U;
    c = static_cast<char>(' ' + (random >> 33) % 95);
  }
  engine.AddEvent(batch, id, note);
}

void InsertLargeRows(Engine& engine, size_t bytes) {
  for (int64_t id = 0; id < 4; ++id) {
    auto batch = engine.NewBatch();
    AddLargeEvent(engine, *batch, id, bytes);
    engine.Give(std::move(batch));
    engine.EndTransaction();
  }
}

struct Case {
  std::string name;
  std::function<void(Engine&)> run;
};

// In a process of its own: prints its line of the table.
int RunCase(const Case& c, const std::filesystem::path& directory) {
  const auto start = std::chrono::steady_clock::now();
  uint64_t before = 0;
  uint64_t outputs = 0;
  {
    Engine engine(directory);
    before = StatusKilobytes("VmRSS");
    c.run(engine);
    outputs = engine.store().ReadableEnd().value();
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("| %s | %llu | %.1f | %llu | %llu |\n", c.name.c_str(),
              static_cast<unsigned long long>(outputs), seconds,
              static_cast<unsigned long long>(before / 1024),
              static_cast<unsigned long long>(StatusKilobytes("VmHWM") / 1024));
  std::fflush(stdout);
  return 0;
}

int Run(size_t rows, size_t row_bytes) {
  const std::vector<Case> cases = {{fmt::format("a transaction of {} rows in parts", rows),
                                    [=](Engine& engine) { InsertInParts(engine, rows); }},
                                   {fmt::format("the same, then a TRUNCATE"),
                                    [=](Engine& engine) { TruncateAll(engine, rows); }},
                                   {fmt::format("4 rows of {} MB", row_bytes >> 20),
                                    [=](Engine& engine) { InsertLargeRows(engine, row_bytes); }}};
  const std::filesystem::path root =
      std::filesystem::temp_directory_path() / fmt::format("millrace_memory_{}", getpid());
  std::printf("| case | outputs | s | MB before | MB at most |\n| --- | --- | --- | --- | --- |\n");
  std::fflush(stdout);
  int failures = 0;
  for (const Case& c : cases) {
    const pid_t child = fork();
    if (child == 0) {
      _exit(RunCase(c, root));
    }
    int status = 0;
    MR_CHECK(waitpid(child, &status, 0) == child);
    failures += status == 0 ? 0 : 1;
    std::filesystem::remove_all(root);
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace millrace::pipeline

int main(int argc, char** argv) {
  const auto number = [&](int i, size_t otherwise) {
    return argc > i ? std::strtoull(argv[i], nullptr, 10) : otherwise;
  };
  return millrace::pipeline::Run(number(1, 10'000'000), number(2, 100) << 20);
}
