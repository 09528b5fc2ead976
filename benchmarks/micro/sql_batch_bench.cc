// SPDX-License-Identifier: Apache-2.0
// One micro-batch of the engagement example through the SQL engine: 13 plain columns and two
// computed ones, one LEFT JOIN. Items are driving rows; the lookup has one row for each eight.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "millrace/sql/duckdb/duckdb_engine.h"

namespace millrace::sql {
namespace {

constexpr char kEngagement[] =
    "SELECT e.id AS event_id, e.content_id, e.user_id, e.event_type, e.event_ts, e.duration_ms, "
    "e.device, e.raw_payload, c.slug AS content_slug, c.title AS content_title, c.content_type, "
    "c.length_seconds, c.publish_ts, e.duration_ms / 1000.0 AS engagement_seconds, "
    "round(100 * (e.duration_ms / 1000.0) / nullif(c.length_seconds, 0), 2) AS engagement_percent "
    "FROM engagement_events AS e LEFT JOIN content AS c ON c.content_key = e.content_id";
constexpr char kFiltered[] =
    "SELECT e.id, c.slug || '/' || e.event_type AS label, e.raw_payload->>'$.n' AS n "
    "FROM engagement_events AS e JOIN content AS c ON c.content_key = e.content_id "
    "WHERE e.event_type <> 'click'";
constexpr char kPlain[] =
    "SELECT * FROM engagement_events e LEFT JOIN content c ON c.content_key = content_id";

SchemaPtr Events() {
  return std::make_shared<Schema>(Schema{{"id", TypeKind::kInt64, false},
                                         {"content_id", TypeKind::kUuid},
                                         {"user_id", TypeKind::kUuid},
                                         {"event_type", TypeKind::kText},
                                         {"event_ts", TypeKind::kTimestampTz, false},
                                         {"duration_ms", TypeKind::kInt32},
                                         {"device", TypeKind::kText},
                                         {"raw_payload", TypeKind::kJson}});
}

SchemaPtr Contents() {
  return std::make_shared<Schema>(Schema{{"content_key", TypeKind::kUuid, false},
                                         {"slug", TypeKind::kText, false},
                                         {"title", TypeKind::kText, false},
                                         {"content_type", TypeKind::kText},
                                         {"length_seconds", TypeKind::kInt32},
                                         {"publish_ts", TypeKind::kTimestampTz, false}});
}

void AppendUuid(uint64_t n, Column* column) {
  const uint64_t parts[2] = {n * 0x9e3779b97f4a7c15U, n};
  column->AppendFixed(parts);
}

void RunBatch(benchmark::State& state, const char* sql) {
  const auto rows = static_cast<uint64_t>(state.range(0));
  const uint64_t contents = rows / 8 + 1;
  auto engine = MakeDuckDbEngine({}).value();
  QuerySpec spec{.sql = sql,
                 .driving = {.schema = "public", .name = "engagement_events", .columns = Events()}};
  spec.lookups = {{.schema = "public", .name = "content", .columns = Contents(), .keys = {{0}}}};
  auto query = engine->Prepare(spec);
  if (!query.ok()) {
    state.SkipWithError(query.error().message().c_str());
    return;
  }
  RowBatch events(spec.driving.columns);
  for (uint64_t i = 0; i < rows; ++i) {
    events.column(0).Append(static_cast<int64_t>(i));
    AppendUuid(i % (contents + contents / 10), &events.column(1));
    AppendUuid(i * 31, &events.column(2));
    events.column(3).AppendText(i % 4 == 0 ? "click" : "play");
    events.column(4).Append(static_cast<int64_t>(1714557600000000 + i * 1000));
    if (i % 4 == 0) {
      events.column(5).AppendNull();
    } else {
      events.column(5).Append(static_cast<int32_t>(i % 100000));
    }
    events.column(6).AppendText("web-safari");
    events.column(7).AppendText(fmt::format(R"({{"n": {}, "source": "mobile", "ok": true}})", i));
  }
  RowBatch content(spec.lookups[0].columns);
  for (uint64_t i = 0; i < contents; ++i) {
    AppendUuid(i, &content.column(0));
    content.column(1).AppendText(fmt::format("slug-number-{}", i));
    content.column(2).AppendText(fmt::format("A title of usual length, number {}", i));
    content.column(3).AppendText("podcast");
    content.column(4).Append(static_cast<int32_t>(i % 10 * 60));
    content.column(5).Append(int64_t{1704067200000000});
  }
  const std::vector<int64_t> commit_ts(rows, 1714557600000000);
  const RowBatch* lookups[] = {&content};
  while (state.KeepRunning()) {
    auto result = (*query)->Run(events, commit_ts, lookups);
    if (!result.ok()) {
      state.SkipWithError(result.error().message().c_str());
      return;
    }
    benchmark::DoNotOptimize(result->driving_row.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(rows));
}

BENCHMARK_CAPTURE(RunBatch, engagement, kEngagement)->Arg(1)->Arg(100)->Arg(2048)->Arg(16384);
BENCHMARK_CAPTURE(RunBatch, filtered, kFiltered)->Arg(1)->Arg(16384);
BENCHMARK_CAPTURE(RunBatch, plain, kPlain)->Arg(1)->Arg(16384);

}  // namespace
}  // namespace millrace::sql

BENCHMARK_MAIN();
