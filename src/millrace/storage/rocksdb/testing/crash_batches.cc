// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/testing/crash_batches.h"

#include <map>
#include <string>

#include <fmt/format.h>

#include "millrace/storage/testing/sample_output.h"

namespace millrace::storage::testing {

namespace {

constexpr uint64_t kRowsPut = 20;
constexpr uint64_t kRowsKept = 400;
constexpr uint64_t kTruncateEvery = 16;
constexpr uint64_t kLargeEvery = 8 * kRowsPut;
constexpr size_t kLargeBytes = size_t{5} << 20;

size_t OutputsOf(uint64_t commit) { return commit % 7 * 40 + 1; }

uint64_t EndAfter(uint64_t commit) {
  uint64_t end = 0;
  for (uint64_t i = 1; i <= commit; ++i) {
    end += OutputsOf(i);
  }
  return end;
}

std::string KeyOf(uint64_t row) { return fmt::format("row {:08}", row); }
std::string ValueOf(uint64_t row, uint64_t commit) {
  const size_t padding = row % kLargeEvery == 0 ? kLargeBytes : row % 300;
  return fmt::format("{} of commit {}", row, commit) + std::string(padding, 'x');
}

// Every third commit comes in parts.
Status CommitOne(Store& store, StateTableId table, const StreamPtr& stream, uint64_t commit) {
  auto batch = store.NewBatch();
  const uint64_t parts = commit % 3 == 0 ? 1 + commit % kRowsPut : 1;
  const bool in_parts = parts > 1;
  for (uint64_t i = 0; i < kRowsPut; ++i) {
    const uint64_t row = commit * kRowsPut + i;
    batch->PutState(table, KeyOf(row), ValueOf(row, commit));
    if (row >= kRowsKept) {
      batch->DeleteState(table, KeyOf(row - kRowsKept));
    }
    if (in_parts && i + 1 < parts) {
      batch->SetPart(/*is_last=*/false);
      MR_RETURN_IF_ERROR(store.Commit(std::move(batch)));
      batch = store.NewBatch();
      batch->SetPart(/*is_last=*/false);
    }
  }
  OutputRecord record = MakeRecord(stream, store.AppendEnd(), OutputsOf(commit), commit);
  record.position = {Epoch(0), Lsn(commit)};
  batch->AppendOutput(record);
  batch->SetPosition(record.position);
  if (in_parts) {
    batch->SetPart(/*is_last=*/true);
  }
  return store.Commit(std::move(batch));
}

Status CheckState(Store& store, uint64_t commit) {
  std::map<std::string, std::string> expected;
  for (uint64_t c = 1; c <= commit; ++c) {
    for (uint64_t row = c * kRowsPut; row < (c + 1) * kRowsPut; ++row) {
      if (row + kRowsKept >= (commit + 1) * kRowsPut) {
        expected[KeyOf(row)] = ValueOf(row, c);
      }
    }
  }
  MR_ASSIGN_OR_RETURN(const StateTableId table, store.OpenStateTable("rows"));
  size_t rows = 0;
  const std::unique_ptr<StateCursor> at = store.ScanState(table);
  for (; at->Valid(); at->Next()) {
    ++rows;
    const auto it = expected.find(std::string(at->key()));
    if (it == expected.end() || it->second != at->row()) {
      return Internal(fmt::format("state '{}' is not that of commit {}", at->key(), commit));
    }
  }
  MR_RETURN_IF_ERROR(at->status());
  return rows == expected.size()
             ? Status::Ok()
             : Internal(fmt::format("{} state rows, not {}", rows, expected.size()));
}

Status CheckOutputs(Store& store, const StreamPtr& stream, uint64_t commit) {
  const uint64_t end = EndAfter(commit);
  if (store.ReadableEnd().value() != end || store.AppendEnd().value() != end) {
    return Internal(fmt::format("the log ends at {}, not {}", store.AppendEnd().value(), end));
  }
  uint64_t first = 0;
  for (uint64_t c = 1; c <= commit; first += OutputsOf(c), ++c) {
    if (Offset(first) < store.LogBegin()) {
      continue;
    }
    MR_ASSIGN_OR_RETURN(const OutputRecord record, store.ReadOutput(Offset(first)));
    OutputRecord expected = MakeRecord(stream, Offset(first), OutputsOf(c), c);
    expected.position = {Epoch(0), Lsn(c)};
    if (!SameRecord(record, expected)) {
      return Internal(fmt::format("record {} is not what was committed", c));
    }
  }
  return Status::Ok();
}

}  // namespace

Status CommitForEver(Store& store, const std::function<void(uint64_t)>& committed) {
  MR_ASSIGN_OR_RETURN(const SourceState source, store.LoadSourceState());
  if (!source.position.has_value()) {
    MR_RETURN_IF_ERROR(store.BeginSlot(1, 1));
    MR_RETURN_IF_ERROR(store.BeginStreaming({}, {}));
  }
  MR_ASSIGN_OR_RETURN(const StateTableId table, store.OpenStateTable("rows"));
  MR_ASSIGN_OR_RETURN(const StreamPtr stream, store.OpenStream(*MakeEngagementStream()));
  uint64_t commit = source.position.has_value() ? source.position->end_lsn.value() : 0;
  const auto deliver = [&] {
    const DeliveryState delivered{store.ReadableEnd(), std::to_string(commit), true};
    return store.SaveDelivery("sink", delivered, /*sync=*/false);
  };
  if (commit != 0) {
    MR_RETURN_IF_ERROR(deliver());  // the run before may have been killed in front of it
  }
  while (true) {
    MR_RETURN_IF_ERROR(CommitOne(store, table, stream, ++commit));
    committed(commit);
    MR_RETURN_IF_ERROR(deliver());
    if (commit % kTruncateEvery == 0) {
      MR_RETURN_IF_ERROR(store.TruncateOutput(Offset(EndAfter(commit - kTruncateEvery / 2) - 1)));
    }
  }
}

Status CheckCommits(Store& store, uint64_t acknowledged, uint64_t& n) {
  MR_ASSIGN_OR_RETURN(const SourceState source, store.LoadSourceState());
  n = source.position.has_value() ? source.position->end_lsn.value() : 0;
  if (n < acknowledged) {
    return Internal(fmt::format("commit {} was acknowledged, {} is there", acknowledged, n));
  }
  MR_ASSIGN_OR_RETURN(const StreamPtr stream, store.OpenStream(*MakeEngagementStream()));
  MR_RETURN_IF_ERROR(CheckState(store, n));
  MR_RETURN_IF_ERROR(CheckOutputs(store, stream, n));
  MR_ASSIGN_OR_RETURN(const DeliveryState delivery, store.LoadDelivery("sink"));
  const uint64_t of = delivery.plan.empty() ? 0 : std::stoull(delivery.plan);
  if (of > n || of + 1 < acknowledged || delivery.delivered.value() != EndAfter(of)) {
    return Internal(
        fmt::format("delivery state is of commit {}, acknowledged is {}", of, acknowledged));
  }
  return Status::Ok();
}

}  // namespace millrace::storage::testing
