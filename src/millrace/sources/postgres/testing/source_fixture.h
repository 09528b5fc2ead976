// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "millrace/sources/postgres/postgres_source.h"
#include "millrace/sources/postgres/slot_commands.h"
#include "millrace/sources/testing/memory_source_state.h"

namespace millrace::sources::postgres::testing {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

inline constexpr std::chrono::seconds kPatience{20};

// A row change, by its table and the text of its first columns.
struct Seen {
  std::string table;
  ChangeOp op = ChangeOp::kInsert;
  int64_t id = 0;
  RowVersion version;
};

// A PostgresSource against a real server: MILLRACE_TEST_POSTGRES_URL names one with wal_level
// logical, and a superuser. Each test has a schema, a slot and a publication of its own.
class SourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* url = std::getenv("MILLRACE_TEST_POSTGRES_URL");
    ASSERT_NE(url, nullptr)
        << "set MILLRACE_TEST_POSTGRES_URL to a PostgreSQL server with wal_level "
           "logical, reached as a superuser";
    const ::testing::TestInfo* info = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name = fmt::format("mt{}_{}", getpid(), info->name());
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
      return static_cast<char>(std::isalnum(c) != 0 ? std::tolower(c) : '_');
    });
    schema_ = name.substr(0, 50);
    config_ = {.url = url,
               .tables = {schema_ + ".*"},
               .slot = schema_,
               .publication = schema_,
               .heartbeat_interval = milliseconds(200),
               .staging_directory = ::testing::TempDir() + schema_};
    admin_ = Connect();
    ASSERT_NE(admin_, nullptr);
    Sql("CREATE SCHEMA " + schema_);
  }

  void TearDown() override {
    source_.reset();
    std::filesystem::remove_all(config_.staging_directory);
    if (admin_ == nullptr) {
      return;
    }
    EXPECT_TRUE(DropPostgresSlot(config_).ok());
    Sql("DROP PUBLICATION IF EXISTS " + config_.publication);
    Sql("DROP PUBLICATION IF EXISTS " + config_.InsertsPublication());
    Sql("DROP SCHEMA " + schema_ + " CASCADE");
  }

  std::unique_ptr<pg::Connection> Connect() {
    Result<std::unique_ptr<pg::Connection>> connection = pg::Connection::Connect(config_.url, {});
    EXPECT_TRUE(connection.ok()) << connection.status().ToString();
    return connection.ok() ? std::move(connection).value() : nullptr;
  }
  // Runs SQL in which $S stands for the schema; the first value of the last statement.
  std::string Sql(std::string sql) { return Run(*admin_, std::move(sql)); }
  std::string Run(pg::Connection& connection, std::string sql) {
    for (size_t at = sql.find("$S"); at != std::string::npos; at = sql.find("$S", at)) {
      sql.replace(at, 2, schema_);
    }
    const Result<pg::QueryResult> rows = connection.Exec(sql);
    EXPECT_TRUE(rows.ok()) << sql << ": " << rows.status().ToString();
    return rows.ok() && rows.value().row_count() > 0 && rows.value().column_count() > 0
               ? std::string(rows.value().Text(0, 0))
               : "";
  }

  // The server's URL with a setting for the session.
  std::string WithOption(const std::string& setting) const {
    const bool has_query = config_.url.find('?') != std::string::npos;
    return config_.url + (has_query ? "&" : "?") + "options=-c" + setting;
  }

  Status Open() {
    source_ = MakePostgresSource(config_, telemetry::Logger());
    MR_RETURN_IF_ERROR(source_->Connect(store_.state));
    TableRoles roles{.lookups = lookups_};
    for (const TablePtr& table : source_->Tables()) {
      roles.snapshot_order.push_back(table->FullName());
    }
    return source_->Start(store_.state, store_, roles);
  }

  // Takes what is there, as an engine would; with `is_durable` it is stored and confirmed at once.
  void TakePending(bool is_durable = true) {
    if (!source_->Pending().can_take) {
      return;
    }
    std::unique_ptr<ChangeBatch> batch = Take();
    for (const TableChanges& table : batch->tables) {
      Remember(*batch, table);
    }
    if (is_durable) {
      MakeDurable(*batch);
    }
    batches_.push_back(std::move(batch));
  }
  std::unique_ptr<ChangeBatch> Take() {
    Result<std::unique_ptr<ChangeBatch>> batch = source_->Take();
    EXPECT_TRUE(batch.ok()) << batch.status().ToString();
    return batch.ok() ? std::move(batch).value() : std::make_unique<ChangeBatch>();
  }
  void MakeDurable(const ChangeBatch& batch) {
    store_.state.position = batch.end;
    store_.Keep(batch.notes);
    source_->Confirm(batch.end.end_lsn);
  }
  bool IsReadWhole() const { return !source_->GetStatus().snapshot_running; }
  void Remember(const ChangeBatch& batch, const TableChanges& table) {
    for (const Change& change : table.changes) {
      Seen seen{.table = table.table->name, .op = change.op};
      seen.version = {batch.end.epoch, batch.transactions[change.transaction].end_lsn,
                      change.ordinal};
      const bool is_new = change.new_row != kNoRow;
      if (change.op != ChangeOp::kTruncate) {
        const Column& id = (is_new ? table.new_rows : table.old_rows).column(0);
        const size_t row = is_new ? change.new_row : change.old_row;
        seen.id = id.type().kind == TypeKind::kInt32   ? id.Value<int32_t>(row)
                  : id.type().kind == TypeKind::kInt64 ? id.Value<int64_t>(row)
                                                       : 0;
      }
      seen_.push_back(seen);
    }
  }

  // Polls and takes until `done`.
  Status PollUntil(const std::function<bool()>& done) {
    const Clock::time_point deadline = Clock::now() + kPatience;
    while (!done()) {
      if (Clock::now() > deadline) {
        return TimedOut("the test waited in vain");
      }
      MR_RETURN_IF_ERROR(source_->Poll(milliseconds(20)));
      TakePending();
    }
    return Status::Ok();
  }
  void ExpectPoll(const std::function<bool()>& done) {
    const Status status = PollUntil(done);
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  void OpenAndSnapshot() {
    const Status status = Open();
    ASSERT_TRUE(status.ok()) << status.ToString();
    ExpectPoll([&] { return IsReadWhole(); });
  }
  // The newest change of `table` with `id` is there.
  bool Has(int64_t id) const {
    return std::any_of(seen_.begin(), seen_.end(), [&](const Seen& s) { return s.id == id; });
  }
  Lsn ConfirmedByServer() {
    const Result<Lsn> lsn = ParseLsn(
        Sql("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '$S'"));
    EXPECT_TRUE(lsn.ok());
    return lsn.ok() ? lsn.value() : Lsn(0);
  }

  std::string schema_;
  PostgresSourceConfig config_;
  std::unique_ptr<pg::Connection> admin_;
  sources::testing::MemorySourceState store_;
  std::unique_ptr<Source> source_;
  std::vector<std::unique_ptr<ChangeBatch>> batches_;
  std::vector<Seen> seen_;
  std::vector<std::string> lookups_;
};

}  // namespace millrace::sources::postgres::testing
