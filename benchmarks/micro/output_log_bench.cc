// SPDX-License-Identifier: Apache-2.0
//
// The output log: encoding and decoding of records of 17 columns, and appending them with a sync.
// `rows/s` is what to look at; `bytes/row` is what a row takes on disk.

#include <filesystem>
#include <memory>
#include <string>

#include <benchmark/benchmark.h>

#include "millrace/common/check.h"
#include "millrace/storage/output_record_codec.h"
#include "millrace/storage/rocksdb/rocksdb_store.h"
#include "millrace/storage/rocksdb/testing/temp_dir.h"
#include "millrace/storage/row_codec.h"
#include "millrace/storage/testing/sample_output.h"

namespace millrace::storage {
namespace {

const StreamPtr kStream = testing::MakeEngagementStream();

void CountRows(benchmark::State& state, size_t rows) {
  state.counters["rows/s"] =
      benchmark::Counter(static_cast<double>(rows), benchmark::Counter::kIsIterationInvariantRate);
}

// Arguments: rows, and 1 for LZ4.
void EncodeRecord(benchmark::State& state) {
  const auto rows = static_cast<size_t>(state.range(0));
  const auto compression = state.range(1) != 0 ? RecordCompression::kLz4 : RecordCompression::kNone;
  const OutputRecord record = testing::MakeRecord(kStream, Offset(0), rows, 1);
  RecordScratch scratch;
  Buffer bytes;
  while (state.KeepRunning()) {
    bytes.Clear();
    MR_CHECK(EncodeOutputRecord(record, compression, scratch, bytes).ok());
    benchmark::DoNotOptimize(bytes.data());
  }
  CountRows(state, rows);
  state.counters["bytes/row"] = static_cast<double>(bytes.size()) / static_cast<double>(rows);
}
BENCHMARK(EncodeRecord)->ArgsProduct({{1, 100, 16384}, {0, 1}});

void DecodeRecord(benchmark::State& state) {
  const auto rows = static_cast<size_t>(state.range(0));
  const auto compression = state.range(1) != 0 ? RecordCompression::kLz4 : RecordCompression::kNone;
  RecordScratch scratch;
  Buffer bytes;
  MR_CHECK(EncodeOutputRecord(testing::MakeRecord(kStream, Offset(0), rows, 1), compression,
                              scratch, bytes)
               .ok());
  const StreamResolver resolver = [](StreamId, SchemaVersion) { return kStream; };
  while (state.KeepRunning()) {
    const Result<OutputRecord> record = DecodeOutputRecord(bytes.view(), resolver);
    MR_CHECK(record.ok());
    benchmark::DoNotOptimize(record->end);
  }
  CountRows(state, rows);
}
BENCHMARK(DecodeRecord)->ArgsProduct({{1, 100, 16384}, {0, 1}});

// Appends one record a commit and waits for the disk; the log is truncated now and then.
void AppendAndSync(benchmark::State& state) {
  const auto rows = static_cast<size_t>(state.range(0));
  const testing::TempDir dir;
  OpenOptions options;
  options.path = dir.path();
  auto store = OpenRocksDbStore(options);
  MR_CHECK(store.ok());
  const auto stream = (*store)->OpenStream(*kStream);
  MR_CHECK(stream.ok());
  const OutputRecord sample = testing::MakeRecord(*stream, Offset(0), rows, 1);
  const auto batch_of = [&](Offset first) {
    std::shared_ptr<OutputBatch> batch = testing::CopyBatch(*sample.batches[0]);
    batch->first_offset = first;
    return OutputRecord{first, Offset(first.value() + rows), sample.position, {batch}};
  };
  uint64_t commits = 0;
  while (state.KeepRunning()) {
    state.PauseTiming();
    const OutputRecord record = batch_of((*store)->AppendEnd());
    state.ResumeTiming();
    auto batch = (*store)->NewBatch();
    batch->AppendOutput(record);
    batch->SetPosition(record.position);
    MR_CHECK((*store)->Commit(std::move(batch)).ok());
    if (++commits % 64 == 0) {
      MR_CHECK((*store)->TruncateOutput((*store)->ReadableEnd()).ok());
    }
  }
  CountRows(state, rows);
}
BENCHMARK(AppendAndSync)->Arg(1)->Arg(100)->Arg(16384)->UseRealTime();

void EncodeStateRows(benchmark::State& state) {
  constexpr size_t kRows = 16384;
  const OutputRecord record = testing::MakeRecord(kStream, Offset(0), kRows, 1);
  const RowBatch& rows = record.batches[0]->rows;
  const uint32_t key[] = {1};
  std::vector<uint32_t> columns;
  for (uint32_t i = 0; i < rows.column_count(); ++i) {
    columns.push_back(i);
  }
  EncodedRows keys;
  EncodedRows values;
  while (state.KeepRunning()) {
    keys.Clear();
    values.Clear();
    EncodeKeys(rows, 0, kRows, key, keys);
    EncodeRows(rows, 0, kRows, SchemaVersion(1), columns, values);
    benchmark::DoNotOptimize(values.bytes().data());
  }
  CountRows(state, kRows);
}
BENCHMARK(EncodeStateRows);

}  // namespace
}  // namespace millrace::storage

BENCHMARK_MAIN();
