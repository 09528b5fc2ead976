// SPDX-License-Identifier: Apache-2.0
//
// Tables that are read while the stream goes on, against a real server; see
// testing/source_fixture.h.
#include <atomic>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "millrace/sources/postgres/testing/source_fixture.h"

namespace millrace::sources::postgres {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Clock;
using testing::kPatience;

// Applies what a source gives as an engine would, a table of (id, v, big) at a time.
class Downstream {
 public:
  struct Row {
    std::string v;
    std::string big;
    bool operator==(const Row&) const = default;
  };

  void Apply(const ChangeBatch& batch) {
    for (const TableChanges& changes : batch.tables) {
      ApplyTable(changes);
    }
  }
  std::map<int64_t, Row>& table(const std::string& name) { return tables_[name].rows; }
  int shown_twice() const { return shown_twice_; }
  std::vector<ChangeOp> marks;

 private:
  struct State {
    std::map<int64_t, Row> rows;
    std::set<std::string> shown;
    std::optional<std::set<int64_t>> seen;  // while it is read again
  };

  void ApplyTable(const TableChanges& changes) {
    State& state = tables_[changes.table->name];
    size_t gap = 0;
    for (const Change& change : changes.changes) {
      if (change.op == ChangeOp::kTruncate) {
        state.rows.clear();
        continue;
      }
      if (change.op == ChangeOp::kReadAgainBegin || change.op == ChangeOp::kReadAgainEnd) {
        marks.push_back(change.op);
        ApplyMark(change.op, state);
        continue;
      }
      Row row;
      if (change.old_row != kNoRow) {
        const auto old = state.rows.find(changes.old_rows.column(0).Value<int32_t>(change.old_row));
        if (old != state.rows.end()) {
          row = old->second;
          state.rows.erase(old);
        }
      }
      if (change.new_row == kNoRow) {
        continue;
      }
      const int64_t id = changes.new_rows.column(0).Value<int32_t>(change.new_row);
      if (change.old_row == kNoRow && state.rows.contains(id)) {
        row = state.rows.at(id);
      }
      row.v = changes.new_rows.column(1).Text(change.new_row);
      if (gap < changes.unchanged_toast.size() &&
          changes.unchanged_toast[gap].new_row == change.new_row) {
        EXPECT_NE(row.big, "") << changes.table->name << " " << id;
        ++gap;
      } else {
        row.big = changes.new_rows.column(2).Text(change.new_row);
      }
      if (state.seen) {
        state.seen->insert(id);
      } else if (!state.shown.insert(fmt::format("{} {}", id, row.v)).second) {
        ++shown_twice_;
      }
      state.rows[id] = row;
    }
  }

  static void ApplyMark(ChangeOp op, State& state) {
    if (op == ChangeOp::kReadAgainBegin) {
      state.seen.emplace();
      return;
    }
    EXPECT_TRUE(state.seen.has_value());
    std::erase_if(state.rows,
                  [&](const auto& entry) { return !state.seen->contains(entry.first); });
    state.seen.reset();
  }

  std::map<std::string, State> tables_;
  int shown_twice_ = 0;
};

class ReadBesideTest : public testing::SourceTest {
 protected:
  void TearDown() override {
    if (admin_ != nullptr && held_commits_) {
      ReleaseCommits();
    }
    SourceTest::TearDown();
  }
  // Commits of sessions that ask for it wait for a standby that does not exist.
  void HoldCommits() {
    held_commits_ = true;
    Sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    Sql("SELECT pg_reload_conf()");
  }
  void ReleaseCommits() {
    Sql("ALTER SYSTEM RESET synchronous_standby_names");
    Sql("SELECT pg_reload_conf()");
    held_commits_ = false;
  }

  // Takes and applies until `done`; what is taken is durable.
  void Stream(const std::function<bool()>& done) {
    const Clock::time_point deadline = Clock::now() + 3 * kPatience;
    while (!done()) {
      ASSERT_LT(Clock::now(), deadline) << source_->GetStatus().last_error;
      const Status polled = source_->Poll(milliseconds(5));
      ASSERT_TRUE(polled.ok()) << polled.ToString();
      if (!source_->Pending().can_take) {
        continue;
      }
      parts_.push_back(Take());
      ++batches_taken_;
      // Parts count together, with the last: it says how far the source is.
      if (!parts_.back()->part.has_value() || parts_.back()->part->is_last) {
        for (const std::unique_ptr<ChangeBatch>& part : parts_) {
          downstream_.Apply(*part);
        }
        MakeDurable(*parts_.back());
        parts_.clear();
      }
    }
  }
  void StreamUntilEnd() {
    const std::string end = Sql("SELECT pg_logical_emit_message(true, 'test', 'end')");
    Stream([&] {
      return IsReadWhole() && store_.state.position &&
             store_.state.position->end_lsn >= ParseLsn(end).value();
    });
  }
  void ExpectEqual(const std::string& table) {
    const Result<pg::QueryResult> rows =
        admin_->Exec(fmt::format("SELECT id, v, big FROM {}.{} ORDER BY id", schema_, table));
    ASSERT_TRUE(rows.ok()) << rows.status().ToString();
    std::map<int64_t, Downstream::Row> expected;
    for (size_t i = 0; i < rows.value().row_count(); ++i) {
      expected[std::stoll(std::string(rows.value().Text(i, 0)))] = {
          std::string(rows.value().Text(i, 1)), std::string(rows.value().Text(i, 2))};
    }
    EXPECT_EQ(downstream_.table(table).size(), expected.size()) << table;
    EXPECT_TRUE(downstream_.table(table) == expected) << table;
  }

  Downstream downstream_;
  std::vector<std::unique_ptr<ChangeBatch>> parts_;  // that are not applied yet
  int batches_taken_ = 0;
  bool held_commits_ = false;
};

constexpr char kWideTable[] =
    "CREATE TABLE $S.{0} (id int PRIMARY KEY, v text, big text); ALTER TABLE $S.{0} ALTER big SET "
    "STORAGE EXTERNAL; INSERT INTO $S.{0} SELECT g, 'first ' || g, repeat(g::text || ' ', 600) "
    "FROM "
    "generate_series(1, {1}) g";

// Keys that change across chunks, values that stay out of line, deletes and inserts of one key,
// truncates, and a source that dies now and then.
// Cases: 1, 2, 28, 44.
TEST_F(ReadBesideTest, WritersDoNotDisturbIt) {
  config_.snapshot_chunk_rows = 40;
  config_.snapshot_parallelism = 3;
  config_.batch_rows_max = 100;
  for (const char* table : {"a", "b"}) {
    Sql(fmt::format(fmt::runtime(kWideTable), table, 1500));
  }
  Sql("CREATE TABLE $S.bare (id int, v text, big text); ALTER TABLE $S.bare REPLICA IDENTITY FULL; "
      "INSERT INTO $S.bare SELECT g, 'first ' || g, 'x' FROM generate_series(1, 700) g");
  std::atomic<bool> stop{false};
  std::vector<std::jthread> writers;
  for (int i = 0; i < 3; ++i) {
    writers.emplace_back([&, i] {
      const auto writer = Connect();
      std::mt19937 random(static_cast<unsigned>(i));
      const auto id = [&] { return 1 + random() % 1500; };
      int n = 0;
      while (!stop) {
        const char* table = random() % 2 == 0 ? "a" : "b";
        std::string sql = "BEGIN";
        for (auto k = random() % 4 + 1; k != 0; --k) {
          const std::string v = fmt::format("'w{} {}'", i, ++n);
          const auto op = random() % 10;
          if (op < 4) {
            sql += fmt::format("; UPDATE $S.{} SET v = {} WHERE id = {}", table, v, id());
          } else if (op < 6) {
            sql += fmt::format(
                "; DELETE FROM $S.{0} WHERE id = {1}; INSERT INTO $S.{0} VALUES "
                "({1}, {2}, repeat({2}, 400))",
                table, id(), v);
          } else if (op < 8) {
            sql += fmt::format(
                "; UPDATE $S.{0} t SET id = {1}, v = {2} WHERE id = {3} AND NOT EXISTS (SELECT "
                "FROM "
                "$S.{0} WHERE id = {1})",
                table, id(), v, id());
          } else {
            sql += fmt::format("; UPDATE $S.bare SET v = {} WHERE id = {}", v, id());
          }
        }
        for (size_t at = sql.find("$S"); at != std::string::npos; at = sql.find("$S", at)) {
          sql.replace(at, 2, schema_);
        }
        // Two that want one key: one of them fails.
        writer->Exec(sql + (random() % 8 == 0 ? "; ROLLBACK" : "; COMMIT"))
            .status()
            .IgnoreError("a conflict");
        writer->Exec("ROLLBACK").status().IgnoreError("it may have ended");
      }
    });
  }
  ASSERT_TRUE(Open().ok());
  for (int round = 0; round < 4; ++round) {
    const int until = batches_taken_ + 25;
    Stream([&] { return batches_taken_ >= until; });
    if (round == 1) {
      // Beside the stream: a reader that holds the table goes on when it is polled.
      std::atomic<bool> is_truncated{false};
      std::jthread truncating([&] {
        Run(*Connect(),
            "TRUNCATE $S.b; INSERT INTO $S.b SELECT g, 'again ' || g, 'y' FROM "
            "generate_series(1, 900) g");
        is_truncated = true;
      });
      Stream([&] { return is_truncated.load(); });
    }
    source_.reset();  // it dies; what was taken whole is durable
    parts_.clear();
    Status opened = Open();
    for (int i = 0; i < 200 && opened.code() == Code::kUnavailable; ++i) {
      opened = Open();
    }
    ASSERT_TRUE(opened.ok()) << opened.ToString();
  }
  Stream([&] { return IsReadWhole(); });
  stop = true;
  writers.clear();
  StreamUntilEnd();
  for (const char* table : {"a", "b", "bare"}) {
    ExpectEqual(table);
  }
  EXPECT_EQ(downstream_.shown_twice(), 0);
}

// With synchronous replication a commit is decoded before anybody sees its rows.
// Cases: 1.
TEST_F(ReadBesideTest, ACommitThatWaitsForAStandbyIsNotLost) {
  config_.snapshot_chunk_rows = 10;
  Sql(fmt::format(fmt::runtime(kWideTable), "a", 50));
  Sql(fmt::format(fmt::runtime(kWideTable), "late", 50));
  Sql("CREATE TABLE $S.bare (id int, v text, big text); INSERT INTO $S.bare SELECT g, 'first ' || "
      "g, "
      "'x' FROM generate_series(1, 50) g");
  ASSERT_TRUE(Open().ok());
  while (!store_.state.position) {
    ASSERT_TRUE(source_->Poll(milliseconds(20)).ok());
  }
  // The slot is made and no chunk is read.
  HoldCommits();
  const auto writer = Connect();
  Run(*writer, "SET synchronous_commit = on");
  ASSERT_TRUE(
      writer
          ->Send(fmt::format(
              "BEGIN; UPDATE {0}.a SET v = 'held' WHERE id = 5; UPDATE {0}.a SET id = 100, v = "
              "'moved' WHERE id = 45; DELETE FROM {0}.a WHERE id = 7; UPDATE {0}.late SET v = "
              "'held' WHERE id = 50; INSERT INTO {0}.bare VALUES (51, 'held', 'x'); COMMIT",
              schema_))
          .ok());
  const Clock::time_point deadline = Clock::now() + kPatience;
  while (Sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != "1") {
    ASSERT_LT(Clock::now(), deadline);
  }
  // It is decoded and dropped, and what a chunk would show now is older than it.
  const Lsn decoded = ParseLsn(Sql("SELECT pg_current_wal_insert_lsn()")).value();
  Stream([&] { return store_.state.position->end_lsn >= decoded; });
  const Clock::time_point later = Clock::now() + milliseconds(500);
  Stream([&] { return Clock::now() > later; });
  EXPECT_NE(downstream_.table("a")[5].v, "first 5");
  EXPECT_FALSE(downstream_.table("a").contains(7));
  EXPECT_FALSE(downstream_.table("bare").contains(1));
  source_.reset();
  ASSERT_TRUE(Open().ok());  // and what it must see is remembered
  const Clock::time_point even_later = Clock::now() + milliseconds(300);
  Stream([&] { return Clock::now() > even_later; });
  EXPECT_FALSE(downstream_.table("a").contains(7));
  ReleaseCommits();
  EXPECT_TRUE(writer->WaitAnswer(seconds(10)).value());
  StreamUntilEnd();
  for (const char* table : {"a", "late", "bare"}) {
    ExpectEqual(table);
  }
  EXPECT_EQ(downstream_.shown_twice(), 0);
}

TEST_F(ReadBesideTest, ATableIsReadAgainWhileItChanges) {
  config_.snapshot_chunk_rows = 20;
  config_.snapshot_parallelism = 2;
  Sql(fmt::format(fmt::runtime(kWideTable), "a", 400));
  EXPECT_EQ(Open().code(), Code::kOk);
  EXPECT_EQ(source_->ReadAgain(schema_ + ".a").code(), Code::kFailedPrecondition);
  Stream([&] { return IsReadWhole(); });
  // Downstream lost some rows and has one that is gone.
  std::erase_if(downstream_.table("a"), [](const auto& entry) { return entry.first % 7 == 0; });
  downstream_.table("a")[9999] = {"gone", "gone"};
  EXPECT_EQ(source_->ReadAgain(schema_ + ".none").code(), Code::kNotFound);
  ASSERT_TRUE(source_->ReadAgain(schema_ + ".a").ok());
  EXPECT_EQ(source_->ReadAgain(schema_ + ".a").code(), Code::kFailedPrecondition);
  int n = 0;
  const auto is_done = [&] {
    if (++n % 3 == 0 && n < 300) {
      Sql(fmt::format("UPDATE $S.a SET v = 'w {}' WHERE id = {}", n, 1 + n % 400));
    }
    if (n == 60) {
      source_.reset();
      EXPECT_TRUE(Open().ok());
    }
    return downstream_.marks.size() == 2;
  };
  Stream(is_done);
  StreamUntilEnd();
  ExpectEqual("a");
  EXPECT_EQ(downstream_.marks,
            (std::vector<ChangeOp>{ChangeOp::kReadAgainBegin, ChangeOp::kReadAgainEnd}));
  EXPECT_EQ(source_->GetStatus().readings.at(0).state, TableReading::State::kDone);
}

TEST_F(ReadBesideTest, LargeTablesWithoutAKeyComeInParts) {
  config_.batch_rows_max = 100;
  config_.snapshot_parallelism = 3;
  // Two rows a page: enough for three readers.
  Sql("CREATE TABLE $S.bare (id int, v text, big text); ALTER TABLE $S.bare REPLICA IDENTITY FULL; "
      "ALTER TABLE $S.bare ALTER big SET STORAGE PLAIN; "
      "INSERT INTO $S.bare SELECT g, 'first ' || g, repeat('x', 3000) FROM generate_series(1, 950) "
      "g; "
      "CREATE TABLE $S.empty (id int, v text, big text); CREATE TABLE $S.none (id int PRIMARY KEY, "
      "v "
      "text, big text)");
  ASSERT_TRUE(Open().ok());
  const auto writer = Connect();
  int n = 0;
  Stream([&] {
    if (++n < 50) {
      Run(*writer, fmt::format("UPDATE $S.bare SET v = 'w {0}' WHERE id = {0}", n));
    }
    return IsReadWhole();
  });
  StreamUntilEnd();
  ExpectEqual("bare");
  EXPECT_EQ(downstream_.shown_twice(), 0);
}

}  // namespace
}  // namespace millrace::sources::postgres
