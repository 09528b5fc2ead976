// SPDX-License-Identifier: Apache-2.0
//
// PostgresSource against a real server; see testing/source_fixture.h.
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/postgres_source.h"
#include "millrace/sources/postgres/slot_commands.h"
#include "millrace/sources/postgres/testing/source_fixture.h"

namespace millrace::sources::postgres {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Clock;
using ::testing::Contains;
using ::testing::HasSubstr;
using testing::kPatience;
using ::testing::Not;
using testing::Seen;
using testing::SourceTest;

// Cases: 1.
TEST_F(SourceTest, SnapshotThenStreamHasNoGapAndNoOverlap) {
  config_.batch_rows_max = 500;
  config_.snapshot_chunk_rows = 700;
  Sql("CREATE TABLE $S.a (id bigserial PRIMARY KEY, v text); "
      "INSERT INTO $S.a (v) SELECT 'x' || g FROM generate_series(1, 5000) g");
  Sql("CREATE TABLE $S.b (id bigserial PRIMARY KEY); INSERT INTO $S.b SELECT FROM "
      "generate_series(1, 10)");
  // A transaction that is open while the slot is made, and writers that never pause.
  const auto open = Connect();
  Run(*open, "BEGIN; INSERT INTO $S.a (v) VALUES ('open across the slot')");
  std::atomic<bool> stop{false};
  std::vector<std::jthread> writers;
  for (int i = 0; i < 2; ++i) {
    writers.emplace_back([&] {
      const auto writer = Connect();
      while (!stop) {
        Run(*writer, "INSERT INTO $S.a (v) SELECT 'w' FROM generate_series(1, 3)");
        Run(*writer, "INSERT INTO $S.b DEFAULT VALUES");
      }
    });
  }
  ASSERT_TRUE(Open().ok());
  // The slot waits for the open transaction; Poll() does not.
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(source_->Poll(milliseconds(20)).ok());
  }
  EXPECT_FALSE(IsReadWhole());
  Run(*open, "COMMIT");
  ExpectPoll([&] { return IsReadWhole(); });
  const size_t at_snapshot = seen_.size();
  ExpectPoll([&] { return seen_.size() > at_snapshot + 1000; });
  stop = true;
  writers.clear();
  Sql("INSERT INTO $S.a (id, v) VALUES (1000000, 'last')");
  ExpectPoll([&] { return Has(1000000); });

  std::map<std::string, std::set<int64_t>> ids;
  RowVersion last;
  for (const Seen& seen : seen_) {
    EXPECT_TRUE(ids[seen.table].insert(seen.id).second) << seen.table << " " << seen.id << " twice";
    if (seen.op != ChangeOp::kRead && seen.table == "a") {
      EXPECT_LT(last, seen.version);
      last = seen.version;
    }
  }
  EXPECT_EQ(fmt::format("{}", ids["a"].size()), Sql("SELECT count(*) FROM $S.a"));
  EXPECT_EQ(fmt::format("{}", ids["b"].size()), Sql("SELECT count(*) FROM $S.b"));
  // Numbers of rows that were read run on over tables and chunks that join at one position.
  RowVersion last_read;
  uint64_t reads = 0;
  for (const Seen& seen : seen_) {
    if (seen.op == ChangeOp::kRead) {
      EXPECT_GE(seen.version.ordinal, kSnapshotOrdinalBase);
      EXPECT_LT(last_read, seen.version);
      last_read = seen.version;
      ++reads;
    }
  }
  EXPECT_GE(reads, 5010u);
}

// The values of both ways, column by column, byte by byte.
void ExpectSameValues(const Column& a, size_t a_row, const Column& b, size_t b_row,
                      const std::string& what) {
  ASSERT_EQ(a.type(), b.type()) << what;
  ASSERT_EQ(a.IsNull(a_row), b.IsNull(b_row)) << what;
  if (a.type().is_list()) {
    const auto [a_begin, a_end] = a.ListRange(a_row);
    const auto [b_begin, b_end] = b.ListRange(b_row);
    ASSERT_EQ(a_end - a_begin, b_end - b_begin) << what;
    for (size_t i = 0; i < a_end - a_begin; ++i) {
      ExpectSameValues(a.child(), a_begin + i, b.child(), b_begin + i, what);
    }
  } else if (a.type().is_varlen()) {
    EXPECT_EQ(a.Text(a_row), b.Text(b_row)) << what;
  } else {
    EXPECT_EQ(std::string_view(a.ValueBytes(a_row), a.type().width()),
              std::string_view(b.ValueBytes(b_row), b.type().width()))
        << what;
  }
}

TEST_F(SourceTest, SameValueFromSnapshotAndStream) {
  Sql("CREATE TYPE $S.mood AS ENUM ('sad', 'it''s \"ok\"'); CREATE TYPE $S.pair AS (a int, b "
      "text); "
      "CREATE DOMAIN $S.price AS numeric(12,3); CREATE DOMAIN $S.cost AS $S.price; "
      "CREATE DOMAIN $S.many AS int[]");
  Sql("CREATE TABLE $S.t (id bigint PRIMARY KEY, c_bool bool, c_i2 int2, c_i4 int4, c_i8 int8, "
      "c_f4 float4, c_f8 float8, c_n4 numeric(4,2), c_n9 numeric(9), c_n18 numeric(18,6), "
      "c_n38 numeric(38,10), c_big numeric, c_neg numeric(5,-2), c_text text, c_varchar "
      "varchar(20), "
      "c_char char(5), c_name name, c_uuid uuid, c_date date, c_time time, c_timetz timetz, "
      "c_ts timestamp, c_tstz timestamptz, c_iv interval, c_json json, c_jsonb jsonb, c_bytea "
      "bytea, "
      "c_mood $S.mood, c_cost $S.cost, c_many $S.many, c_ints int4[], c_texts text[], c_moods "
      "$S.mood[], c_nums numeric(10,2)[], c_tss timestamptz[], c_byteas bytea[], c_matrix int[][], "
      "c_pair $S.pair, c_range int4range, c_inet inet, c_bit bit(3), c_money money, c_oid oid, "
      "c_xml xml, c_point point, c_tsv tsvector, c_iprange inet[], \"c \"\"odd\"\" \u00dc\" text, "
      "c_gen int GENERATED ALWAYS AS (1) STORED)");
  const std::string columns =
      Sql("SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE "
          "attrelid = '$S.t'::regclass AND attnum > 1 AND attgenerated = ''");
  const auto insert = [&](int id, const std::string& values) {
    Sql(fmt::format("INSERT INTO $S.t (id, {}) VALUES ({}, {})", columns, id, values));
  };
  insert(1,
         "true, -32768, 2147483647, -9223372036854775808, 1e-45, 0.1, -99.99, 123456789, "
         "-123456789012.123456, 1234567890123456789012345678.0123456789, 'NaN', 12300, "
         "E'tab\\tnew\\nline\\\\ \"q\" \u00fcn\u00ef', 'v', 'ab', 'n', "
         "'00112233-4455-6677-8899-aabbccddeeff', '4713-01-01 BC', '24:00:00', "
         "'12:00:00+05:30', '0044-03-15 12:00:00 BC', '20000-01-01 00:00:00.000001+00', "
         "'-1 year -2 mons +3 days -04:05:06.7', '{\"a\":  1, \"a\": null}', '{\"b\": 1e400}', "
         "'\\x00ff10', 'it''s \"ok\"', 12.345, '{1,NULL,3}', '[2:3]={5,6}', "
         "ARRAY['', NULL, 'NULL', 'a,b', 'q\"\\', '{}'], ARRAY['sad', NULL]::$S.mood[], "
         "'{1.50,NULL}', '{infinity,2020-01-01}', ARRAY['\\x00'::bytea], '{{1,2},{3,4}}', "
         "ROW(1, 'x y'), '[1,5)', '10.0.0.1/8', B'101', 12.34, 42, '<a/>', '(1,2)', 'a b', "
         "'{10.0.0.1}', 'odd'");
  insert(2,
         "false, 0, 0, 0, 'NaN', '-Infinity', 0, 0, 0, 0, 1e100, 0, '', '', '', '', "
         "'00000000-0000-0000-0000-000000000000', 'infinity', '00:00:00', '00:00:00-12', "
         "'-infinity', 'infinity', '0', 'null', 'null', '', 'sad', 0, '{}', '{}', '{}', '{}', "
         "'{}', '{}', '{}', '{}', NULL, 'empty', '::1', B'000', -0.01, 0, '', '(0,0)', '', '{}', "
         "''");
  std::string nulls = "NULL";
  for (size_t i = 1; i < 47; ++i) {
    nulls += ", NULL";
  }
  insert(3, nulls);
  OpenAndSnapshot();
  Sql(fmt::format("INSERT INTO $S.t (id, {0}) SELECT id + 100, {0} FROM $S.t ORDER BY id",
                  columns));
  ExpectPoll([&] { return Has(103); });
  ASSERT_GE(batches_.size(), 2u);
  std::vector<const RowBatch*> images;
  for (const auto& batch : batches_) {
    if (batch->row_count != 0) {
      images.push_back(&batch->tables.at(0).new_rows);
    }
  }
  ASSERT_EQ(images.size(), 2u);
  const RowBatch& read = *images[0];
  const RowBatch* streamed = images[1];
  ASSERT_EQ(read.row_count(), 3u);
  ASSERT_EQ(streamed->row_count(), 3u);
  ASSERT_EQ(read.column_count(), 48u);  // without the generated column
  for (size_t column = 1; column < read.column_count(); ++column) {
    for (size_t row = 0; row < 3; ++row) {
      ExpectSameValues(read.column(column), row, streamed->column(column), row,
                       fmt::format("{} row {}", (*read.schema())[column].name, row));
    }
  }
  const auto type_of = [&](std::string_view name) {
    for (const Field& field : *read.schema()) {
      if (field.name == name) {
        return field.type.ToString();
      }
    }
    return std::string("absent");
  };
  EXPECT_EQ(type_of("c_cost"), "decimal(12,3)");
  EXPECT_EQ(type_of("c_many"), "list(int32)");
  EXPECT_EQ(type_of("c_moods"), "list(enum)");
  EXPECT_EQ(type_of("c_nums"), "list(decimal(10,2))");
  EXPECT_EQ(type_of("c_matrix"), "text");
  EXPECT_EQ(type_of("c_neg"), "text");
  EXPECT_EQ(type_of("c_iprange"), "text");
  EXPECT_EQ(type_of("c \"odd\" \u00dc"), "text");
}

TEST_F(SourceTest, RollbacksAndSavepointsNeverShow) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY, v text)");
  OpenAndSnapshot();
  Sql("BEGIN; INSERT INTO $S.t VALUES (1, 'rolled back'); ROLLBACK");
  Sql("BEGIN; INSERT INTO $S.t VALUES (2, 'a'); SAVEPOINT s; INSERT INTO $S.t VALUES (3, 'gone'); "
      "ROLLBACK TO s; INSERT INTO $S.t VALUES (4, 'b'); SAVEPOINT s2; INSERT INTO $S.t VALUES (5, "
      "'c'); RELEASE s2; UPDATE $S.t SET v = 'd' WHERE id = 2; DELETE FROM $S.t WHERE id = 4; "
      "COMMIT");
  Sql("TRUNCATE $S.t; INSERT INTO $S.t VALUES (9, 'end')");
  ExpectPoll([&] { return Has(9); });
  ASSERT_EQ(seen_.size(), 7u);
  const std::vector<std::pair<int64_t, ChangeOp>> expected = {
      {2, ChangeOp::kInsert}, {4, ChangeOp::kInsert}, {5, ChangeOp::kInsert},
      {2, ChangeOp::kUpdate}, {4, ChangeOp::kDelete}, {0, ChangeOp::kTruncate},
      {9, ChangeOp::kInsert}};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(seen_[i].id, expected[i].first) << i;
    EXPECT_EQ(seen_[i].op, expected[i].second) << i;
    EXPECT_EQ(seen_[i].version.ordinal, i < 5 ? i + 1 : i - 4) << i;
  }
}

// Cases: 3.
TEST_F(SourceTest, ConfirmedLsnNeverPassesDurable) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY)");
  // Feedback goes out every 300 ms then.
  config_.url = WithOption("wal_sender_timeout%3D900");
  OpenAndSnapshot();
  const Lsn before = ConfirmedByServer();
  Sql("INSERT INTO $S.t VALUES (1)");
  std::unique_ptr<ChangeBatch> taken;
  const Clock::time_point deadline = Clock::now() + seconds(3);
  // Taken but not durable, while WAL that is not ours and heartbeats go by.
  while (Clock::now() < deadline) {
    ASSERT_TRUE(source_->Poll(milliseconds(20)).ok());
    if (source_->Pending().can_take) {
      ASSERT_EQ(taken, nullptr) << "a position was offered past rows that are not durable";
      taken = Take();
    }
    Sql("SELECT pg_logical_emit_message(false, 'other', 'x')");
  }
  ASSERT_NE(taken, nullptr);
  ASSERT_EQ(taken->row_count, 1u);
  EXPECT_EQ(ConfirmedByServer(), before);
  MakeDurable(*taken);
  ExpectPoll([&] { return ConfirmedByServer() >= taken->end.end_lsn; });
  // From here the idle slot moves on by positions without rows, each durable first.
  const Lsn after = ConfirmedByServer();
  ExpectPoll([&] { return ConfirmedByServer() > after; });
  EXPECT_LE(ConfirmedByServer(), store_.state.position->end_lsn);
  EXPECT_EQ(seen_.size(), 0u);
  // And never back.
  source_->Confirm(before);
  ASSERT_TRUE(source_->Poll(milliseconds(50)).ok());
  EXPECT_GE(source_->GetStatus().confirmed_lsn, after);
}

// Cases: 5.
TEST_F(SourceTest, ARestartAtTheStoredPositionRepeatsAndLosesNothing) {
  config_.batch_rows_max = 7;
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY)");
  OpenAndSnapshot();
  int next = 1;
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 5; ++i, next += 4) {
      Sql(fmt::format("INSERT INTO $S.t SELECT generate_series({}, {})", next, next + 3));
    }
    // Reads ahead without storing, then dies; every second time with a transaction half read.
    ExpectPoll([&] { return Has(next - 10); });
    while (!source_->Pending().can_take) {
      ASSERT_TRUE(source_->Poll(milliseconds(20)).ok());
    }
    Take().reset();
    if (round % 2 == 0) {
      Sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = "
          "'$S'");
      Status status;
      while (status.ok()) {
        status = source_->Poll(milliseconds(20));
        if (status.ok() && source_->Pending().can_take) {
          Take().reset();
        }
      }
      EXPECT_EQ(status.code(), Code::kUnavailable) << status.ToString();
    }
    source_->Close();
    Status opened = Open();
    for (int i = 0; i < 50 && opened.code() == Code::kUnavailable; ++i) {
      std::this_thread::yield();
      opened = Open();
    }
    ASSERT_TRUE(opened.ok()) << opened.ToString();
  }
  Sql("INSERT INTO $S.t VALUES (1000000)");
  ExpectPoll([&] { return Has(1000000); });
  std::map<int64_t, int> count;
  for (const Seen& seen : seen_) {
    ++count[seen.id];
  }
  EXPECT_EQ(count.size(), static_cast<size_t>(next));
  for (const auto& [id, times] : count) {
    EXPECT_EQ(times, 1) << id;
  }
}

TEST_F(SourceTest, ASlotWhoseStartWasNotNotedIsMadeAgain) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY); INSERT INTO $S.t SELECT generate_series(1, 100)");
  Sql("SELECT pg_create_logical_replication_slot('$S', 'pgoutput')");
  ASSERT_TRUE(
      store_.BeginSlot(std::stoull(Sql("SELECT system_identifier FROM pg_control_system()")), 1)
          .ok());
  OpenAndSnapshot();
  EXPECT_EQ(seen_.size(), 100u);
  EXPECT_FALSE(store_.state.slot_pending);
}

// Cases: 2.
TEST_F(SourceTest, ADeathWhileTablesAreReadCostsOneChunk) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY); INSERT INTO $S.t SELECT generate_series(1, 1000)");
  Sql("CREATE TABLE $S.bare (id int); INSERT INTO $S.bare SELECT generate_series(1, 100)");
  config_.snapshot_chunk_rows = 10;
  ASSERT_TRUE(Open().ok());
  ExpectPoll([&] { return seen_.size() >= 300; });
  // What is read ahead is not durable; the stream has changes of both sides meanwhile.
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(source_->Poll(milliseconds(5)).ok());
  }
  Sql("UPDATE $S.t SET id = id + 10000 WHERE id IN (1, 1000); DELETE FROM $S.t WHERE id = 500");
  source_.reset();
  OpenAndSnapshot();
  Sql("INSERT INTO $S.t VALUES (99999)");
  ExpectPoll([&] { return Has(99999); });
  std::set<int64_t> rows;
  int bare = 0;
  for (const Seen& seen : seen_) {
    if (seen.table == "bare") {
      ++bare;
    } else if (seen.op == ChangeOp::kRead || seen.op == ChangeOp::kInsert) {
      EXPECT_TRUE(rows.insert(seen.id).second) << seen.id << " twice";
    } else if (seen.op == ChangeOp::kUpdate) {
      rows.erase(seen.id - 10000);
      rows.insert(seen.id);
    } else {
      rows.erase(seen.id);
    }
  }
  EXPECT_EQ(bare, 100);
  EXPECT_EQ(fmt::format("{}", rows.size()), Sql("SELECT count(*) FROM $S.t"));
  EXPECT_FALSE(rows.contains(1));
  EXPECT_FALSE(rows.contains(500));
  EXPECT_TRUE(rows.contains(11000));
}

// Cases: 7, 8.
TEST_F(SourceTest, SlotsThatDoNotFitAreRefusedWithTheChoices) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY)");
  const auto expect = [&](Code code, const char* text) {
    const Status status = Open();
    EXPECT_EQ(status.code(), code) << status.ToString();
    EXPECT_THAT(status.message(), HasSubstr(text));
  };
  // A slot that data_dir knows nothing of.
  Sql("SELECT pg_create_logical_replication_slot('$S', 'pgoutput')");
  expect(Code::kFailedPrecondition, "data_dir knows nothing of it");
  Sql("SELECT pg_drop_replication_slot('$S')");

  OpenAndSnapshot();
  const SourceState good = store_.state;
  // In use by another.
  {
    auto other = MakePostgresSource(config_, telemetry::Logger());
    ASSERT_TRUE(other->Connect({}).ok());
    ExpectPoll([&] { return source_->GetStatus().received_lsn > Lsn(0); });
    const Status status = other->Start(good, store_, {});
    EXPECT_EQ(status.code(), Code::kUnavailable);
    EXPECT_THAT(status.message(), HasSubstr("active for PID"));
  }
  source_->Close();
  store_.state.system_identifier ^= 1;
  expect(Code::kFailedPrecondition, "system identifier");
  store_.state = good;
  store_.state.timeline += 1;
  expect(Code::kFailedPrecondition, "timeline");
  store_.state = good;
  store_.state.position->end_lsn = Lsn(uint64_t{1} << 60);
  expect(Code::kFailedPrecondition, "was set back");
  // Moved by somebody else.
  store_.state = good;
  Sql("INSERT INTO $S.t VALUES (1); SELECT pg_switch_wal()");
  ASSERT_EQ(Sql("SELECT count(*) FROM pg_replication_slot_advance('$S', pg_current_wal_lsn())"),
            "1");
  expect(Code::kFailedPrecondition, "moved past what this data_dir holds");
  Sql("SELECT pg_drop_replication_slot('$S')");
  expect(Code::kFailedPrecondition, "does not exist");
  Sql("SELECT pg_create_physical_replication_slot('$S')");
  expect(Code::kFailedPrecondition, "physical slot");
  Sql("SELECT pg_drop_replication_slot('$S')");
  Sql("SELECT pg_create_logical_replication_slot('$S', 'pgoutput', false, true)");
  expect(Code::kFailedPrecondition, "two_phase");
  EXPECT_EQ(DropPostgresSlot(config_).status().code(), Code::kFailedPrecondition);
  Sql("SELECT pg_drop_replication_slot('$S')");
}

// Cases: 26.
TEST_F(SourceTest, TablesWithoutIdentityKeepAcceptingUpdatesAndDeletes) {
  Sql("CREATE TABLE $S.keyed (id int PRIMARY KEY); CREATE TABLE $S.bare (id int, v text); "
      "CREATE TABLE $S.nothing (id int PRIMARY KEY); ALTER TABLE $S.nothing REPLICA IDENTITY "
      "NOTHING; "
      "CREATE TABLE $S.lazy (id int PRIMARY KEY DEFERRABLE); "
      "CREATE TABLE $S.full_row (id int); ALTER TABLE $S.full_row REPLICA IDENTITY FULL");
  OpenAndSnapshot();
  for (const char* table : {"keyed", "bare", "nothing", "lazy", "full_row"}) {
    Sql(
        fmt::format("INSERT INTO $S.{0} (id) VALUES (1); UPDATE $S.{0} SET id = 2; DELETE FROM "
                    "$S.{0}",
                    table));
  }
  Sql("INSERT INTO $S.keyed VALUES (99)");
  ExpectPoll([&] { return Has(99); });
  std::map<std::string, int> changes;
  for (const Seen& seen : seen_) {
    ++changes[seen.table];
  }
  EXPECT_EQ(changes["keyed"], 4);
  EXPECT_EQ(changes["full_row"], 3);
  EXPECT_EQ(changes["bare"], 1);
  EXPECT_EQ(changes["nothing"], 1);
  EXPECT_EQ(changes["lazy"], 1);
  EXPECT_EQ(Sql("SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables "
                "WHERE pubname = '$S'"),
            "full_row,keyed");
  EXPECT_EQ(Sql("SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables "
                "WHERE pubname = '$S_inserts'"),
            "bare,lazy,nothing");
}

// Cases: 1, 35.
TEST_F(SourceTest, ThePublicationFollowsTheTablesAndLateTablesAreRead) {
  Sql("CREATE TABLE $S.a (id int PRIMARY KEY); CREATE TABLE $S.b (id int PRIMARY KEY)");
  OpenAndSnapshot();
  source_->Close();
  config_.tables = {schema_ + ".b"};
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(
      Sql("SELECT string_agg(tablename, ',') FROM pg_publication_tables WHERE pubname = '$S'"),
      "b");
  source_->Close();
  config_.tables = {schema_ + ".a", schema_ + ".b"};
  // A transaction that began before the table was published, and ends later: its change may not
  // have been published.
  const auto open = Connect();
  Run(*open, "BEGIN; INSERT INTO $S.a VALUES (1)");
  Sql("INSERT INTO $S.a VALUES (2)");
  ASSERT_TRUE(Open().ok());
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(source_->Poll(milliseconds(5)).ok());
    TakePending();
  }
  EXPECT_FALSE(IsReadWhole());
  Run(*open, "COMMIT");
  Sql("INSERT INTO $S.a VALUES (3)");
  ExpectPoll([&] { return IsReadWhole(); });
  Sql("INSERT INTO $S.a VALUES (4)");
  ExpectPoll([&] { return Has(4); });
  EXPECT_EQ(seen_.size(), 4u);
}

TEST_F(SourceTest, ImagesOfUpdatesFollowTheReplicaIdentity) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY, n int, big text); ALTER TABLE $S.t ALTER big SET "
      "STORAGE EXTERNAL; CREATE TABLE $S.f (id int PRIMARY KEY, n int, big text); ALTER TABLE $S.f "
      "ALTER big SET STORAGE EXTERNAL; ALTER TABLE $S.f REPLICA IDENTITY FULL; "
      "CREATE TABLE $S.k (id text PRIMARY KEY, n int); ALTER TABLE $S.k ALTER id SET STORAGE "
      "EXTERNAL");
  OpenAndSnapshot();
  Sql("INSERT INTO $S.t VALUES (1, 1, repeat('x', 5000)); UPDATE $S.t SET n = 2; UPDATE $S.t SET "
      "id = "
      "2; INSERT INTO $S.f VALUES (1, 1, repeat('y', 5000)); UPDATE $S.f SET n = 2; "
      "INSERT INTO $S.k VALUES (repeat('z', 2500), 1); UPDATE $S.k SET n = 2");
  Sql("INSERT INTO $S.t VALUES (99)");
  ExpectPoll([&] { return Has(99); });
  std::map<std::string, const TableChanges*> tables;
  for (const auto& batch : batches_) {
    for (const TableChanges& table : batch->tables) {
      if (!tables.contains(table.table->name)) {
        tables[table.table->name] = &table;
      }
    }
  }
  const TableChanges& t = *tables.at("t");
  ASSERT_GE(t.changes.size(), 3u);
  EXPECT_EQ(t.new_rows.column(2).Text(0).size(), 5000u);
  ASSERT_EQ(t.unchanged_toast.size(), 2u);
  EXPECT_EQ(t.unchanged_toast[0].new_row, 1u);
  EXPECT_EQ(t.unchanged_toast[0].column, 2u);
  EXPECT_EQ(t.changes[1].old_row, kNoRow);
  ASSERT_NE(t.changes[2].old_row, kNoRow);
  EXPECT_EQ(t.old_rows.column(0).Value<int32_t>(t.changes[2].old_row), 1);
  const TableChanges& f = *tables.at("f");
  EXPECT_TRUE(f.unchanged_toast.empty());
  EXPECT_EQ(f.new_rows.column(2).Text(1), std::string(5000, 'y'));
  EXPECT_EQ(f.old_rows.column(1).Value<int32_t>(0), 1);
  const TableChanges& k = *tables.at("k");
  EXPECT_TRUE(k.unchanged_toast.empty());
  EXPECT_EQ(k.new_rows.column(0).Text(1), std::string(2500, 'z'));
  EXPECT_EQ(k.changes[1].old_row, kNoRow);
}

TEST_F(SourceTest, AddedColumnsMakeANewerVersionOfTheTable) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY)");
  OpenAndSnapshot();
  Sql("INSERT INTO $S.t VALUES (1)");
  ExpectPoll([&] { return Has(1); });
  const uint32_t version = source_->Tables().at(0)->version;
  Sql("ALTER TABLE $S.t ADD COLUMN extra text; INSERT INTO $S.t VALUES (2, 'x')");
  ExpectPoll([&] { return Has(2); });
  const TablePtr table = source_->Tables().at(0);
  EXPECT_EQ(table->version, version + 1);
  ASSERT_EQ(table->columns->size(), 2u);
  EXPECT_EQ(table->columns->at(1).name, "extra");
}

// Cases: 33.
TEST_F(SourceTest, ACatalogHasTheColumnsOfItsMomentWhileOneIsDropped) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY, v int, w int)");
  OpenAndSnapshot();
  const auto reading = Connect();
  const Result<Catalog> before = LoadCatalog(*reading, config_);
  ASSERT_TRUE(before.ok()) << before.status().ToString();
  ASSERT_EQ(before->tables.size(), 1u);
  const auto altering = Connect();
  Run(*altering, "BEGIN; ALTER TABLE $S.t DROP v");
  // It commits once the catalog, whose snapshot is older, waits for the table's lock (16 and
  // newer).
  std::atomic<bool> is_read{false};
  std::jthread commit([&] {
    const auto looking = Connect();
    while (!is_read && Run(*looking, "SELECT count(*) FROM pg_locks WHERE NOT granted") == "0") {
    }
    Run(*altering, "COMMIT");
  });
  const auto known = std::make_shared<const SourceTable>(before->tables[0].source);
  const Result<CatalogMoment> moment = LoadMoment(*reading, config_, {known});
  is_read = true;
  commit.join();
  ASSERT_TRUE(moment.ok()) << moment.status().ToString();
  ASSERT_EQ(moment->tables.size(), 1u);
  EXPECT_EQ(*moment->tables[0].source.table->columns, *known->table->columns);
}

TEST_F(SourceTest, ACatalogIsOfOneMomentWhileAColumnIsAdded) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY, v int)");
  OpenAndSnapshot();
  const auto reading = Connect();
  const auto altering = Connect();
  Run(*altering, "BEGIN; ALTER TABLE $S.t ADD w int");
  // It commits between two statements of the catalog where one of them waits (16 and newer).
  std::atomic<bool> is_read{false};
  std::jthread commit([&] {
    const auto looking = Connect();
    while (!is_read && Run(*looking, "SELECT count(*) FROM pg_locks WHERE NOT granted") == "0") {
    }
    Run(*altering, "COMMIT");
  });
  const Result<Catalog> catalog = LoadCatalog(*reading, config_);
  is_read = true;
  commit.join();
  ASSERT_TRUE(catalog.ok()) << catalog.status().ToString();
  ASSERT_EQ(catalog->tables.size(), 1u);
  // A number that has no column counts as one that is not published.
  const SourceTable& table = catalog->tables[0].source;
  EXPECT_EQ(table.attnum_max, table.columns.back().attnum);
}

TEST_F(SourceTest, BadRowsNameTableAndColumnAndNotTheValue) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY, at timestamp)");
  OpenAndSnapshot();
  Sql("INSERT INTO $S.t VALUES (1, '294276-12-31')");
  const Status status = PollUntil([] { return false; });
  EXPECT_EQ(status.code(), Code::kInvalidArgument) << status.ToString();
  EXPECT_THAT(status.message(), HasSubstr(".t, column 'at'"));
}

TEST_F(SourceTest, HeartbeatsComeBackAndStatusShowsTheServer) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY)");
  OpenAndSnapshot();
  ExpectPoll([&] { return source_->GetStatus().heartbeat_seen.has_value(); });
  const auto first = *source_->GetStatus().heartbeat_seen;
  ExpectPoll([&] { return *source_->GetStatus().heartbeat_seen > first; });
  const SourceStatus status = source_->GetStatus();
  EXPECT_TRUE(status.connected);
  EXPECT_GT(status.server_lsn, Lsn(0));
  EXPECT_GT(status.received_lsn, Lsn(0));
  EXPECT_EQ(status.last_error, "");
  EXPECT_TRUE(status.keepalive_seen.has_value());
}

TEST_F(SourceTest, SnapshotModeNeverHasNoRowsButEnds) {
  config_.snapshot_mode = SnapshotMode::kNever;
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY); INSERT INTO $S.t VALUES (1)");
  OpenAndSnapshot();
  EXPECT_TRUE(seen_.empty());
  Sql("INSERT INTO $S.t VALUES (2)");
  ExpectPoll([&] { return Has(2); });
  EXPECT_EQ(seen_.size(), 1u);
}

TEST_F(SourceTest, AFullBatchReadsNoFurtherAndKeepsTheConnection) {
  config_.batch_rows_max = 10;
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY)");
  OpenAndSnapshot();
  Sql("DO $$ BEGIN FOR i IN 1..100 LOOP INSERT INTO $S.t VALUES (i); COMMIT; END LOOP; END $$");
  while (source_->Pending().rows < 10) {
    ASSERT_TRUE(source_->Poll(milliseconds(20)).ok());
  }
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(source_->Poll(milliseconds(0)).ok());
  }
  EXPECT_EQ(source_->Pending().rows, 10u);
  ExpectPoll([&] { return Has(100); });
  EXPECT_EQ(seen_.size(), 100u);
}

// A transaction larger than memory, from a server that waits 900 ms for an answer, taken by an
// engine that takes ten times as long.
// Cases: 4, 19.
TEST_F(SourceTest, ALargeTransactionComesInPartsWhichKeepTheConnection) {
  constexpr int kRows = 50'000;
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY, v text); CREATE TABLE $S.ref (id int PRIMARY KEY)");
  config_.url = WithOption("wal_sender_timeout%3D900");
  config_.batch_rows_max = 4'000;
  lookups_ = {schema_ + ".ref"};
  OpenAndSnapshot();
  Sql("INSERT INTO $S.t VALUES (-1, 'before')");
  ExpectPoll([&] { return Has(-1); });
  Sql(
      fmt::format("BEGIN; INSERT INTO $S.t SELECT g, repeat('x', 400) FROM generate_series(1, {}) "
                  "g; INSERT INTO $S.ref SELECT generate_series(1, 5000); COMMIT; "
                  "INSERT INTO $S.t VALUES (-2, 'after')",
                  kRows));
  const auto take_parts = [&](size_t count) {
    std::vector<std::unique_ptr<ChangeBatch>> parts;
    const Clock::time_point deadline = Clock::now() + kPatience;
    while (parts.size() < count && (parts.empty() || !parts.back()->part->is_last)) {
      EXPECT_LT(Clock::now(), deadline);
      const Status status = source_->Poll(milliseconds(20));
      EXPECT_TRUE(status.ok()) << status.ToString();
      if (!status.ok() || Clock::now() > deadline) {
        break;
      }
      if (!source_->Pending().can_take) {
        continue;
      }
      Result<std::unique_ptr<ChangeBatch>> taken = source_->Take();
      EXPECT_TRUE(taken.ok()) << taken.status().ToString();
      if (!taken.ok()) {
        break;
      }
      std::unique_ptr<ChangeBatch> batch = std::move(taken).value();
      if (batch->row_count == 0) {
        MakeDurable(*batch);
        continue;
      }
      EXPECT_TRUE(batch->part.has_value());
      parts.push_back(std::move(batch));
      const Clock::time_point busy_until = Clock::now() + milliseconds(200);
      while (Clock::now() < busy_until) {
        EXPECT_TRUE(source_->Poll(milliseconds(0)).ok());
        std::this_thread::yield();
      }
    }
    return parts;
  };
  const Lsn confirmed = ConfirmedByServer();
  ASSERT_EQ(take_parts(5).size(), 5u);
  EXPECT_LE(ConfirmedByServer(), store_.state.position->end_lsn);
  EXPECT_GE(ConfirmedByServer(), confirmed);
  // The process dies between two parts: nothing of the transaction counts.
  source_->Close();
  Status opened = Open();
  for (int i = 0; i < 100 && opened.code() == Code::kUnavailable; ++i) {
    std::this_thread::yield();
    opened = Open();
  }
  ASSERT_TRUE(opened.ok()) << opened.ToString();
  const auto parts = take_parts(1000);
  ASSERT_EQ(parts.size(), 2u + 14u);
  int next_lookup = 1;
  int next = 1;
  for (size_t i = 0; i < parts.size(); ++i) {
    const ChangeBatch& batch = *parts[i];
    const bool is_lookup_pass = i < 2;
    EXPECT_EQ(batch.part->pass == TransactionPart::Pass::kLookups, is_lookup_pass) << i;
    EXPECT_EQ(batch.part->is_first, i == 0) << i;
    EXPECT_EQ(batch.part->is_last, i + 1 == parts.size()) << i;
    EXPECT_EQ(batch.end.end_lsn == batch.transactions[0].end_lsn, batch.part->is_last) << i;
    EXPECT_GE(batch.end, *store_.state.position) << i;
    for (const TableChanges& table : batch.tables) {
      for (const Change& change : table.changes) {
        const int id = table.new_rows.column(0).Value<int32_t>(change.new_row);
        if (table.table->name == "t") {
          EXPECT_EQ(id, next++);
          EXPECT_EQ(change.ordinal, static_cast<uint64_t>(id));
        } else if (is_lookup_pass) {
          EXPECT_EQ(id, next_lookup++);
          EXPECT_EQ(change.ordinal, static_cast<uint64_t>(kRows + id));
        }
      }
    }
  }
  EXPECT_EQ(next, kRows + 1);
  EXPECT_EQ(next_lookup, 5001);
  MakeDurable(*parts.back());
  ExpectPoll([&] { return Has(-2); });
  ExpectPoll([&] { return ConfirmedByServer() > parts.back()->end.end_lsn; });
}

// While it streams one, the server hears in time of others that are durable.
// Cases: 3, 14.
TEST_F(SourceTest, AnOpenStreamedTransactionHoldsNoPositionBack) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY, v text)");
  config_.url = WithOption("logical_decoding_work_mem%3D64kB");
  OpenAndSnapshot();
  const auto open = Connect();
  Run(*open,
      "BEGIN; INSERT INTO $S.t SELECT g, repeat('x', 1000) FROM generate_series(1, 10000) g");
  for (int i = 0; i < 3; ++i) {
    const Lsn before = ConfirmedByServer();
    Sql(fmt::format("INSERT INTO $S.t VALUES ({}, 'small')", -1 - i));
    ExpectPoll([&] { return Has(-1 - i) && ConfirmedByServer() > before; });
    // Heartbeats and positions without rows go on too.
    const Lsn after = ConfirmedByServer();
    ExpectPoll([&] { return ConfirmedByServer() > after; });
  }
  // What was confirmed meanwhile is no loss of the open one.
  source_->Close();
  ASSERT_TRUE(Open().ok());
  Run(*open, "COMMIT");
  ExpectPoll([&] { return Has(10000); });
  EXPECT_EQ(seen_.size(), 10'003u);
}

TEST_F(SourceTest, MissingPrivilegesNameTheStatements) {
  Sql("CREATE TABLE $S.t (id int PRIMARY KEY)");
  Sql("DROP ROLE IF EXISTS $S_role; CREATE ROLE $S_role");
  const std::string url = config_.url;
  const auto as_role = [&] {
    config_.url = WithOption("role%3D" + schema_ + "_role");
    const Status status = Open();
    std::string findings;
    for (const CheckFinding& finding : CheckPostgres(config_)) {
      if (finding.level == CheckFinding::Level::kError) {
        findings += finding.text + "\n";
      }
    }
    source_.reset();
    config_.url = url;
    return std::pair(status, findings);
  };
  auto [status, findings] = as_role();
  EXPECT_EQ(status.code(), Code::kPermissionDenied) << status.ToString();
  EXPECT_THAT(status.message(), HasSubstr("ALTER ROLE"));
  EXPECT_THAT(findings, HasSubstr("GRANT SELECT ON"));
  EXPECT_THAT(findings, HasSubstr("CREATE PUBLICATION"));
  Sql("ALTER ROLE $S_role REPLICATION; GRANT USAGE ON SCHEMA $S TO $S_role; GRANT SELECT ON $S.t "
      "TO "
      "$S_role");
  std::tie(status, findings) = as_role();
  EXPECT_EQ(status.code(), Code::kPermissionDenied) << status.ToString();
  EXPECT_THAT(status.message(), HasSubstr("have a DBA run: CREATE PUBLICATION"));
  Sql("DROP OWNED BY $S_role; DROP ROLE $S_role");
}

TEST_F(SourceTest, ErrorsNeverHoldThePassword) {
  for (const char* url :
       {"postgresql://u:hunter2@127.0.0.1:1/db", "postgresql://u:hunter2@[::1",
        "postgresql://u:hunter2@127.0.0.1:x/db", "host=127.0.0.1 port=1 password=hunter2"}) {
    PostgresSourceConfig config = config_;
    config.url = url;
    auto source = MakePostgresSource(config, telemetry::Logger());
    const Status status = source->Connect({});
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(status.message(), Not(HasSubstr("hunter2")));
  }
}

TEST_F(SourceTest, TablesThatCannotBeReadAreRefused) {
  Sql("CREATE VIEW $S.v AS SELECT 1 AS id; CREATE UNLOGGED TABLE $S.u (id int); "
      "CREATE TABLE $S.none ()");
  for (const char* name : {"v", "u", "none"}) {
    config_.tables = {schema_ + "." + name};
    EXPECT_EQ(Open().code(), Code::kUnsupported) << name;
  }
  config_.tables = {schema_ + ".missing"};
  EXPECT_EQ(Open().code(), Code::kNotFound);
}

}  // namespace
}  // namespace millrace::sources::postgres
