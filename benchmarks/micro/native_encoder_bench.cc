// SPDX-License-Identifier: Apache-2.0
//
// Rows to ClickHouse's format Native: the 17 columns of the example's enriched_engagements.
#include <benchmark/benchmark.h>

#include "benchmarks/micro/engagement_rows.h"
#include "millrace/sinks/clickhouse/delivery_plan.h"
#include "millrace/sinks/clickhouse/native_encoder.h"

namespace millrace::benchmarks {
namespace {

using sinks::OutputSlice;
using sinks::clickhouse::Checksum;
using sinks::clickhouse::NativeBlock;
using sinks::clickhouse::NativeEncoder;

// `rows` rows in batches of `batch`.
std::vector<OutputSlice> Slices(const StreamPtr& stream, int64_t rows, int64_t batch) {
  sinks::testing::OutputWriter writer;
  std::vector<OutputSlice> slices;
  for (int64_t i = 0; i < rows; i += batch) {
    OutputBatchPtr part = EngagementRows(writer, stream, static_cast<size_t>(batch));
    slices.push_back({part, 0, part->row_count()});
  }
  return slices;
}

void EncodeBlock(benchmark::State& state) {
  const StreamPtr stream = EngagementStream(/*append_only=*/false);
  const std::vector<OutputSlice> slices = Slices(stream, 100'000, state.range(0));
  size_t bytes = 0;
  while (state.KeepRunning()) {
    NativeBlock block;
    if (!NativeEncoder(stream, {}).Encode(slices, block).ok()) {
      state.SkipWithError("a row was refused");
    }
    bytes = block.size();
    benchmark::DoNotOptimize(block.rest.data());
  }
  state.SetItemsProcessed(state.iterations() * 100'000);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}
BENCHMARK(EncodeBlock)->Arg(100'000)->Arg(1'000)->Arg(10)->Unit(benchmark::kMillisecond);

void ChecksumBlock(benchmark::State& state) {
  const StreamPtr stream = EngagementStream(/*append_only=*/false);
  NativeBlock block;
  if (!NativeEncoder(stream, {}).Encode(Slices(stream, 100'000, 1'000), block).ok()) {
    state.SkipWithError("a row was refused");
  }
  while (state.KeepRunning()) {
    benchmark::DoNotOptimize(Checksum(block.Pieces()));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(block.size()));
}
BENCHMARK(ChecksumBlock)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace::benchmarks

BENCHMARK_MAIN();
