// SPDX-License-Identifier: Apache-2.0
//
// How long the reader takes for one row of engagement_events (8 columns, about 290 bytes), from the
// message over the stage to typed columns, in transactions of 100 rows.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "millrace/sources/postgres/testing/fixed_tables.h"
#include "millrace/sources/postgres/testing/pgoutput_builder.h"
#include "millrace/sources/postgres/transaction_reader.h"

namespace millrace::sources::postgres {
namespace {

constexpr uint32_t kOid = 16'400;
constexpr size_t kRows = 100;

const std::vector<testing::RelationColumn> kColumns = {
    {"id", kInt8Oid, true},   {"content_id", kUuidOid},      {"user_id", kUuidOid},
    {"event_type", kTextOid}, {"event_ts", kTimestampTzOid}, {"duration_ms", kInt4Oid},
    {"device", kTextOid},     {"raw_payload", kJsonbOid}};

SourceTable MakeTable() {
  auto table = std::make_shared<Table>();
  SourceTable source;
  Schema schema;
  for (const testing::RelationColumn& column : kColumns) {
    const ColumnTypeFacts facts{.declared_oid = column.type_oid, .type = {.oid = column.type_oid}};
    schema.push_back({column.name, MapColumnType(facts), !column.is_key});
    source.types.push_back(facts);
  }
  table->oid = kOid;
  table->schema = "public";
  table->name = "engagement_events";
  table->primary_key = {0};
  table->columns = std::make_shared<const Schema>(std::move(schema));
  source.table = std::move(table);
  return source;
}

std::vector<std::string> MakeInserts() {
  std::vector<std::string> messages;
  for (size_t i = 0; i < kRows; ++i) {
    messages.push_back(testing::Insert(
        kOid,
        {fmt::format("{}", 1'000'000 + i), fmt::format("6f1a2b3c-4d5e-4f60-8a7b-{:012x}", i * 977),
         fmt::format("0b1c2d3e-5f60-4718-9a0b-{:012x}", i * 7919), "play",
         fmt::format("2026-11-22 18:05:{:02}.{:06}+00", i % 60, i * 9973),
         fmt::format("{}", i * 371), "ios-17.4",
         fmt::format(
             R"({{"app": "4.12.{}", "session": "{:016x}", "position": {}, "network": "wifi", )"
             R"("tags": ["a", "b"]}})",
             i % 7, i * 104729, i * 13)}));
  }
  return messages;
}

void DecodeEngagementInserts(benchmark::State& state) {
  testing::FixedTables tables({MakeTable()});
  TransactionReader reader({.resolver = &tables,
                            .slot = "slot",
                            .staging_directory = "/tmp/millrace_bench_staging",
                            .batch_rows_max = 16'384,
                            .batch_bytes_max = size_t{8} << 20});
  const std::vector<std::string> inserts = MakeInserts();
  uint64_t lsn = 1'000;
  size_t bytes = 0;
  bool ok = reader.StartStream({}).ok() && reader.Decode(testing::Begin(900)).ok() &&
            reader.Decode(testing::Relation(kOid, "public", "engagement_events", kColumns)).ok() &&
            reader.Decode(testing::Commit(900, 950)).ok();
  while (state.KeepRunning()) {
    ok &= reader.Decode(testing::Begin(lsn)).ok();
    for (const std::string& message : inserts) {
      ok &= reader.Decode(message).ok();
      bytes += message.size();
    }
    ok &= reader.Decode(testing::Commit(lsn, lsn + 100)).ok();
    lsn += 100;
    if (reader.is_full()) {
      benchmark::DoNotOptimize(reader.Take());
    }
  }
  if (!ok) {
    state.SkipWithError("the reader refused a message");
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kRows));
  state.SetBytesProcessed(static_cast<int64_t>(bytes));
}
BENCHMARK(DecodeEngagementInserts);

}  // namespace
}  // namespace millrace::sources::postgres

BENCHMARK_MAIN();
