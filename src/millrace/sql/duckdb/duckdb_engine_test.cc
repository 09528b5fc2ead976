// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/duckdb/duckdb_engine.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/sql/duckdb/duckdb_database.h"
#include "millrace/sql/duckdb/duckdb_error.h"
#include "millrace/sql/duckdb/duckdb_query.h"
#include "millrace/sql/query_functions.h"

namespace millrace::sql {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

SchemaPtr MakeSchema(Schema fields) { return std::make_shared<Schema>(std::move(fields)); }

std::unique_ptr<SqlEngine> Engine(uint64_t memory = uint64_t{128} << 20) {
  auto engine = MakeDuckDbEngine({.memory_limit_bytes = memory});
  EXPECT_TRUE(engine.ok()) << engine.status().ToString();
  return std::move(engine).value();
}

std::unique_ptr<PreparedQuery> Prepare(SqlEngine& engine, const QuerySpec& spec) {
  auto query = engine.Prepare(spec);
  EXPECT_TRUE(query.ok()) << query.status().ToString();
  return std::move(query).value();
}

// Every function of the engine's catalog that depends on more than its arguments is refused, as are
// all aggregates and all macros that use either.
TEST(FunctionListTest, AgreesWithTheCatalog) {
  DuckDatabase database;
  DuckConnection connection;
  ASSERT_EQ(duckdb_open(nullptr, database.out()), DuckDBSuccess);
  ASSERT_EQ(duckdb_connect(database.get(), connection.out()), DuckDBSuccess);
  DuckResult result;
  ASSERT_EQ(duckdb_query(connection.get(),
                         "SELECT DISTINCT function_name FROM duckdb_functions() WHERE "
                         "(function_type = 'scalar' AND stability <> 'CONSISTENT') OR "
                         "function_type = 'aggregate' OR (function_type = 'macro' AND "
                         "(regexp_matches(macro_definition, 'current_|SELECT|now\\(|random|uuid\\(|"
                         "unnest\\(|[^_]sum\\(|[^_]avg\\(|string_agg\\(') AND NOT "
                         "regexp_matches(macro_definition, 'list_aggr')))",
                         result.get()),
            DuckDBSuccess);
  size_t seen = 0;
  while (true) {
    const DuckChunk chunk(duckdb_fetch_chunk(*result.get()));
    if (!chunk) {
      break;
    }
    auto* names = static_cast<duckdb_string_t*>(
        duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk.get(), 0)));
    for (idx_t i = 0; i < duckdb_data_chunk_get_size(chunk.get()); ++i, ++seen) {
      const std::string name(duckdb_string_t_data(names + i), duckdb_string_t_length(names[i]));
      EXPECT_NE(RefusalOfFunction(name, 0), "") << name;
    }
  }
  EXPECT_GT(seen, 100U);
}

class EngagementTest : public ::testing::Test {
 protected:
  static constexpr int64_t kContents = 1000;

  EngagementTest() : events_(events_schema_), contents_(contents_schema_) {
    spec_.sql =
        "SELECT e.id AS event_id, e.kind, e.payload, c.title, "
        "e.duration_ms / 1000.0 AS seconds, "
        "round(100 * (e.duration_ms / 1000.0) / nullif(c.length, 0), 2) AS percent, "
        "e.kind || '/' || c.title AS label "
        "FROM events e LEFT JOIN content c ON c.id = e.content_id WHERE e.id % 11 <> 5";
    spec_.driving = {.schema = "public", .name = "events", .columns = events_schema_};
    spec_.lookups = {
        {.schema = "public", .name = "content", .columns = contents_schema_, .keys = {{0}}}};
    for (int64_t id = 0; id < kContents; ++id) {
      contents_.column(0).Append(id);
      contents_.column(1).AppendText(fmt::format("title number {}", id));
      if (id % 7 == 0) {
        contents_.column(2).AppendNull();
      } else {
        contents_.column(2).Append(static_cast<int32_t>(id % 5 * 100));
      }
    }
  }

  void AddEvents(int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      events_.column(0).Append(i);
      if (i % 13 == 0) {
        events_.column(1).AppendNull();
      } else {
        events_.column(1).Append(i * 7919 % (kContents + 50));  // some unknown
      }
      events_.column(2).AppendText(i % 3 == 0 ? "play" : "a kind of more than twelve");
      if (i % 17 == 0) {
        events_.column(3).AppendNull();
      } else {
        events_.column(3).Append(static_cast<int32_t>(i % 100000));
      }
      events_.column(4).AppendText(fmt::format("{{\"n\": {}}}", i));
      commit_ts_.push_back(i);
    }
  }

  RowBatch Part(size_t begin, size_t end) const {
    RowBatch part(events_schema_);
    part.AppendRange(events_, begin, end);
    return part;
  }

  Result<QueryResult> Run(PreparedQuery& query, size_t begin, size_t end) {
    const RowBatch* lookups[] = {&contents_};
    return query.Run(Part(begin, end),
                     std::span<const int64_t>(commit_ts_).subspan(begin, end - begin), lookups);
  }

  static std::string Row(const RowBatch& rows, size_t row) {
    std::string text;
    for (size_t c = 0; c < rows.column_count(); ++c) {
      const Column& column = rows.column(c);
      text += column.IsNull(row)          ? "NULL|"
              : column.type().is_varlen() ? std::string(column.Text(row)) + "|"
                                          : fmt::format("{:016x}|", column.Value<uint64_t>(row));
    }
    return text;
  }

  const SchemaPtr events_schema_ = MakeSchema({{"id", TypeKind::kInt64, false},
                                               {"content_id", TypeKind::kInt64},
                                               {"kind", TypeKind::kEnum, false},
                                               {"duration_ms", TypeKind::kInt32},
                                               {"payload", TypeKind::kJson}});
  const SchemaPtr contents_schema_ = MakeSchema({{"id", TypeKind::kInt64, false},
                                                 {"title", TypeKind::kText, false},
                                                 {"length", TypeKind::kInt32}});
  QuerySpec spec_;
  RowBatch events_;
  RowBatch contents_;
  std::vector<int64_t> commit_ts_;
};

// What stands behind the check of queries, if it should let something through.
TEST(DuckDbDatabaseTest, IsLocked) {
  const auto database = DuckDbDatabase::Open(uint64_t{64} << 20, 1);
  ASSERT_TRUE(database.ok()) << database.status().ToString();
  const char* const path = "/proc/self/status";
  for (const std::string& sql : {
           fmt::format("SELECT * FROM read_text('{}')", path),
           fmt::format("SELECT * FROM read_csv('{}')", path),
           fmt::format("SELECT * FROM '{}.csv'", path),
           std::string("SELECT * FROM glob('/proc/*')"),
           std::string("COPY (SELECT 1) TO '/dev/null'"),
           std::string("ATTACH '/tmp/millrace_test.db'"),
           std::string("INSTALL httpfs"),
           std::string("LOAD httpfs"),
           std::string("SET enable_external_access = true"),
           std::string("SET memory_limit = '1GB'"),
           std::string("SET threads = 2"),
           std::string("SET TimeZone = 'Europe/Berlin'"),
           std::string("SET temp_directory = '/tmp'"),
           std::string("RESET lock_configuration"),
       }) {
    DuckResult result;
    EXPECT_NE(duckdb_query((*database)->connection(), sql.c_str(), result.get()), DuckDBSuccess)
        << sql;
  }
}

TEST_F(EngagementTest, TheCutOfBatchesChangesNothing) {
  AddEvents(100'000);
  const auto engine = Engine();
  const auto query = Prepare(*engine, spec_);
  const auto whole = Run(*query, 0, 100'000);
  ASSERT_TRUE(whole.ok()) << whole.status().ToString();
  ASSERT_EQ(whole->rows.row_count(), 100'000U - 9091);
  EXPECT_TRUE(std::ranges::is_sorted(whole->driving_row));
  EXPECT_EQ(std::ranges::adjacent_find(whole->driving_row), whole->driving_row.end());
  for (size_t i = 0; i < whole->driving_row.size(); ++i) {
    ASSERT_EQ(whole->rows.column(0).Value<int64_t>(i), whole->driving_row[i]);
  }
  for (const size_t size : {size_t{1}, size_t{7}, size_t{2048}, size_t{16384}}) {
    size_t at = 0;
    const size_t limit = size < 10 ? 3000 : 100'000;
    for (size_t begin = 0; begin < limit; begin += size) {
      const auto part = Run(*query, begin, std::min(begin + size, limit));
      ASSERT_TRUE(part.ok()) << part.status().ToString();
      for (size_t i = 0; i < part->rows.row_count(); ++i, ++at) {
        ASSERT_EQ(part->driving_row[i] + begin, whole->driving_row[at]);
        ASSERT_EQ(Row(part->rows, i), Row(whole->rows, at)) << "row " << at << " of size " << size;
      }
    }
  }
}

TEST_F(EngagementTest, QueriesOfOneEngineDoNotMeet) {
  AddEvents(10);
  const auto engine = Engine();
  const auto first = Prepare(*engine, spec_);
  QuerySpec other = spec_;
  other.lookups.clear();
  other.driving.columns = MakeSchema({{"id", TypeKind::kText}});
  other.sql = "SELECT id || 'x' AS x FROM events";
  auto second = Prepare(*engine, other);
  EXPECT_EQ(Run(*first, 0, 10)->rows.row_count(), 9U);
  second.reset();
  // Takes the place of the one that is gone.
  other.driving.columns = MakeSchema({{"id", TypeKind::kInt16}, {"b", TypeKind::kBool}});
  other.sql = "SELECT id + 1 AS x FROM events WHERE b";
  second = Prepare(*engine, other);
  RowBatch rows(other.driving.columns);
  rows.column(0).Append<int16_t>(41);
  rows.column(1).Append<uint8_t>(1);
  const int64_t times[] = {0};
  const auto result = second->Run(rows, times, {});
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  EXPECT_EQ(result->rows.column(0).Value<int16_t>(0), 42);
  EXPECT_EQ(Run(*first, 0, 10)->rows.row_count(), 9U);
}

TEST_F(EngagementTest, PreparedQueriesOutliveTheEngine) {
  AddEvents(3);
  auto engine = Engine();
  const auto query = Prepare(*engine, spec_);
  engine.reset();
  EXPECT_TRUE(Run(*query, 0, 3).ok());
}

TEST_F(EngagementTest, AFailedRowLeavesTheQueryUsable) {
  AddEvents(100);
  spec_.sql =
      "SELECT e.id, CASE WHEN e.id = 57 THEN CAST(e.payload->>'n' || ' secret' AS INTEGER) END AS "
      "broken FROM events e LEFT JOIN content c ON c.id = e.content_id";
  const auto engine = Engine();
  const auto query = Prepare(*engine, spec_);
  for (int i = 0; i < 3; ++i) {
    const auto failed = Run(*query, 0, 100);
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(failed.error().message(), HasSubstr("column 'broken'"));
    EXPECT_THAT(failed.error().message(), Not(HasSubstr("secret")));
    EXPECT_THAT(failed.error().message(), Not(HasSubstr("57")));
    EXPECT_FALSE(Run(*query, 57, 58).ok());
    EXPECT_EQ(Run(*query, 0, 57)->rows.row_count(), 57U);
    EXPECT_EQ(Run(*query, 58, 100)->rows.row_count(), 42U);
  }
}

TEST_F(EngagementTest, AnErrorInALateRowLosesNoneSilently) {
  AddEvents(100'000);
  for (const char* filter : {"", " WHERE e.id >= 0"}) {
    spec_.sql = std::string(
                    "SELECT e.id, CASE WHEN e.id = 77777 THEN CAST(e.payload AS INTEGER) "
                    "END AS broken, repeat(e.payload, 20) AS wide FROM events e LEFT JOIN content "
                    "c ON c.id = e.content_id") +
                filter;
    const auto engine = Engine();
    const auto query = Prepare(*engine, spec_);
    const auto failed = Run(*query, 0, 100'000);
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(failed.error().message(), HasSubstr("column 'broken'"));
    EXPECT_EQ(Run(*query, 0, 77'777)->rows.row_count(), 77'777U);
  }
}

TEST_F(EngagementTest, TheMemoryLimitHolds) {
  AddEvents(100'000);
  spec_.sql =
      "SELECT e.id, repeat(e.payload, 100) AS wide FROM events e LEFT JOIN content c ON c.id = "
      "e.content_id";
  const auto engine = Engine(uint64_t{32} << 20);
  const auto query = Prepare(*engine, spec_);
  const auto failed = Run(*query, 0, 100'000);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code(), Code::kResourceExhausted) << failed.error().ToString();
  EXPECT_EQ(Run(*query, 0, 1000)->rows.row_count(), 1000U);
}

TEST_F(EngagementTest, AKeyThatIsThereTwiceIsABug) {
  AddEvents(1);
  RowBatch again(contents_schema_);
  again.AppendRow(contents_, 5);
  contents_.AppendRow(again, 0);
  const auto engine = Engine();
  const auto query = Prepare(*engine, spec_);
  EXPECT_EQ(Run(*query, 0, 1).status().code(), Code::kInternal);
}

// What DuckDB's types do not have goes past it, or is what out_of_range says.
TEST(OutOfRangeTest, NaNAndInfiniteIntervalsNeverEnterAnExpression) {
  const SchemaPtr schema = MakeSchema({{"id", TypeKind::kInt32, false},
                                       {"n", DataType::Decimal(8, 2), true},
                                       {"i", TypeKind::kInterval, true}});
  RowBatch rows(schema);
  rows.column(0).Append<int32_t>(1);
  rows.column(1).Append<int32_t>(150);
  rows.column(2).Append(Interval{0, 1, 0});
  rows.column(0).Append<int32_t>(2);
  rows.column(1).Append(kDecimalNaN<int32_t>);
  rows.column(2).Append(kIntervalInfinity);
  const std::vector<int64_t> times = {0, 0};
  const auto engine = Engine();
  const auto run = [&](const std::string& sql, OutOfRange out_of_range) {
    QuerySpec spec{.sql = sql, .driving = {.schema = "public", .name = "t", .columns = schema}};
    spec.out_of_range = out_of_range;
    return Prepare(*engine, spec)->Run(rows, times, {});
  };
  const auto plain = run("SELECT id, n, i FROM t", OutOfRange::kError);
  ASSERT_TRUE(plain.ok()) << plain.status().ToString();
  EXPECT_EQ(plain->rows.column(1).Value<int32_t>(1), kDecimalNaN<int32_t>);

  for (const char* sql : {"SELECT id, n + 1 AS m FROM t", "SELECT id, i + i AS m FROM t"}) {
    const auto refused = run(sql, OutOfRange::kError);
    EXPECT_EQ(refused.status().code(), Code::kInvalidArgument) << sql;
    EXPECT_THAT(refused.status().message(), HasSubstr("out_of_range")) << sql;
    const auto nulled = run(sql, OutOfRange::kNull);
    ASSERT_TRUE(nulled.ok()) << nulled.status().ToString();
    EXPECT_FALSE(nulled->rows.column(1).IsNull(0)) << sql;
    EXPECT_TRUE(nulled->rows.column(1).IsNull(1)) << sql;
  }
  EXPECT_TRUE(run("SELECT id, i AS m, i > INTERVAL 9 DAY AS l FROM t", OutOfRange::kClamp).ok());
  EXPECT_FALSE(run("SELECT id, n + 1 AS m FROM t", OutOfRange::kClamp).ok());
}

TEST(SortByPositionTest, MovesRowsAndKeepsThoseOfOnePosition) {
  RowBatch rows(MakeSchema({{"a", TypeKind::kInt32}, {"b", TypeKind::kText}}));
  for (const int32_t i : {0, 1, 2, 3}) {
    rows.column(0).Append(i);
    rows.column(1).AppendText(std::to_string(i));
  }
  std::vector<uint32_t> positions = {7, 3, 7, 1};
  const size_t moved[] = {1};
  SortByPosition(&positions, &rows, moved);
  EXPECT_THAT(positions, ElementsAre(1, 3, 7, 7));
  EXPECT_EQ(rows.column(1).bytes(), "3102");
  EXPECT_EQ(rows.column(0).Value<int32_t>(0), 0);
}

TEST(DuckDbErrorTest, KeepsNoValues) {
  struct Row {
    duckdb_error_type type;
    const char* message;
    Code code;
    const char* sentence;
  };
  const Row table[] = {
      {DUCKDB_ERROR_CONVERSION, "Conversion Error: Could not convert string 'S to INT32' to INT64",
       Code::kInvalidArgument, "a value cannot be converted (could not convert string to INT64)"},
      {DUCKDB_ERROR_CONVERSION,
       "Conversion Error: Type INT64 with value 5 can't be cast because the value is out of range "
       "for the destination type INT32",
       Code::kInvalidArgument, "a value cannot be converted (type INT64 to INT32)"},
      {DUCKDB_ERROR_OUT_OF_RANGE,
       "Out of Range Error: Overflow in multiplication of INT32 (5 * 5)!", Code::kInvalidArgument,
       "a value is out of range (overflow in multiplication of INT32)"},
      {DUCKDB_ERROR_INVALID_INPUT, "Invalid Input Error: missing ): S(", Code::kInvalidArgument,
       "a function does not take a value"},
      {DUCKDB_ERROR_INVALID_INPUT,
       "Invalid Input Error: Malformed JSON at byte 0 of input: unexpected character.  Input: "
       "\"S\"",
       Code::kInvalidArgument, "a function does not take a value (malformed JSON)"},
      {DUCKDB_ERROR_CONVERSION, "Conversion Error: Casting value \"5\" to type DECIMAL(2,1) failed",
       Code::kInvalidArgument, "a value cannot be converted (casting value to DECIMAL)"},
      {DUCKDB_ERROR_CONVERSION, "Conversion Error: Types of S", Code::kInvalidArgument,
       "a value cannot be converted"},
      {DUCKDB_ERROR_OUT_OF_MEMORY, "Out of Memory Error: S", Code::kResourceExhausted,
       "the rows of a batch do not fit"},
      {DUCKDB_ERROR_INTERNAL, "INTERNAL Error: S", Code::kInternal,
       "the SQL engine failed with error type 31"},
  };
  for (const Row& row : table) {
    const Status status = RunError(row.type, row.message, "");
    EXPECT_EQ(status.code(), row.code) << row.message;
    EXPECT_THAT(status.message(), ::testing::StartsWith(row.sentence));
    EXPECT_THAT(status.message(), Not(HasSubstr("S(")));
  }
  EXPECT_EQ(ErrorLine("x\n\nLINE 2: a\n\nLINE 12: SELECT\n  ^"), 12U);
  EXPECT_EQ(ErrorLine("x"), std::nullopt);
}

}  // namespace
}  // namespace millrace::sql
