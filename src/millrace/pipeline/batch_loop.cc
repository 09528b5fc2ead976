// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/batch_loop.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "millrace/common/failpoint.h"
#include "millrace/pipeline/capture_loop.h"

namespace millrace::pipeline {

namespace {

using std::chrono::steady_clock;

double SecondsSince(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

TableChanges* FindChanges(ChangeBatch& batch, const Table& table) {
  for (TableChanges& changes : batch.tables) {
    if (changes.table->FullName() == table.FullName()) {
      return &changes;
    }
  }
  return nullptr;
}

// Values that did not come and that no state filled would be NULL from here on.
Status CheckNoGaps(const TableChanges& changes) {
  if (changes.unchanged_toast.empty()) {
    return Status::Ok();
  }
  return FailedPrecondition(fmt::format(
      "table {}: an update left a large value out because it did not change, although the table's "
      "replica identity is full: ALTER TABLE ... REPLICA IDENTITY FULL on each of its partitions, "
      "and set the pipeline up again",
      changes.table->FullName()));
}

// Rows [begin, end) of an output batch, as one of its own.
OutputBatch CutOutput(const OutputBatch& from, size_t begin, size_t end) {
  OutputBatch part(from.stream);
  part.transactions = from.transactions;
  part.rows.AppendRange(from.rows, begin, end);
  const auto cut = [&](const auto& all, auto& some) {
    some.assign(all.begin() + static_cast<ptrdiff_t>(begin),
                all.begin() + static_cast<ptrdiff_t>(end));
  };
  cut(from.ops, part.ops);
  cut(from.transaction, part.transaction);
  cut(from.ordinals, part.ordinals);
  return part;
}

}  // namespace

BatchLoop::BatchLoop(StreamPlan& plan, storage::Store& store, HandOver& hand_over, Options options,
                     std::function<void(SourcePosition)> confirm,
                     telemetry::PipelineMetrics& metrics, telemetry::Logger log)
    : plan_(plan),
      store_(store),
      hand_over_(hand_over),
      options_(options),
      confirm_(std::move(confirm)),
      metrics_(metrics),
      log_(std::move(log)),
      stream_rows_(plan.streams.size()) {}

Status BatchLoop::Run(std::stop_token stop) {
  while (const std::unique_ptr<ChangeBatch> batch = hand_over_.Take(stop)) {
    if (!WaitForRoom(stop)) {
      return Status::Ok();  // not accepted: the source sends it again
    }
    MR_RETURN_IF_ERROR(Process(*batch));
  }
  return Status::Ok();
}

bool BatchLoop::WaitForRoom(std::stop_token stop) {
  while (store_.OutputLogBytes() >= options_.output_log_bytes_max) {
    metrics_.BackpressureApplied("engine");
    log_.Warn("Output log is full, capture waits for the slowest sink",
              {{"max_bytes", options_.output_log_bytes_max}});
    if (!WaitUnlessStopped(std::chrono::milliseconds(200), stop)) {
      return false;
    }
  }
  metrics_.BackpressureReleased("engine");
  return true;
}

Status BatchLoop::Process(ChangeBatch& batch) {
  const auto start = steady_clock::now();
  std::unique_ptr<storage::StoreBatch> store_batch = store_.NewBatch();
  for (const std::unique_ptr<IdentityMap>& map : plan_.identity_maps) {
    MR_RETURN_IF_ERROR(
        map->BeginBatch(FindChanges(batch, map->table()),
                        batch.part ? std::optional(batch.part->pass) : std::nullopt));
  }
  for (const std::unique_ptr<TableState>& state : plan_.table_states) {
    MR_RETURN_IF_ERROR(state->BeginBatch(FindChanges(batch, state->table())));
  }
  std::vector<OutputBatch> outputs;
  MR_RETURN_IF_ERROR(MakeOutputs(batch, *store_batch, outputs));
  for (const std::unique_ptr<IdentityMap>& map : plan_.identity_maps) {
    map->Save(*store_batch);
  }
  for (const std::unique_ptr<TableState>& state : plan_.table_states) {
    state->Save(*store_batch);
  }
  AppendRecords(std::move(outputs), batch.end, *store_batch);
  if (!batch.is_snapshot) {
    store_batch->SetPosition(batch.end);
  }
  for (const SourceNote& note : batch.notes) {
    store_batch->SetNote(note);
  }
  metrics_.BatchStageRan("compute", SecondsSince(start));

  MR_FAILPOINT("engine.before_commit");
  const auto commit_start = steady_clock::now();
  MR_RETURN_IF_ERROR(store_.Commit(std::move(store_batch)));
  for (const std::unique_ptr<IdentityMap>& map : plan_.identity_maps) {
    map->EndBatch();
  }
  for (const std::unique_ptr<TableState>& state : plan_.table_states) {
    state->EndBatch();
  }
  if (batch.snapshot_complete) {
    MR_FAILPOINT("engine.after_snapshot_staged");
    MR_RETURN_IF_ERROR(store_.CompleteSnapshot(batch.end));
    log_.Info("First snapshot is complete", {{"position", FormatLsn(batch.end.end_lsn)}});
  }
  metrics_.BatchCommitted(batch.row_count, SecondsSince(commit_start));
  MR_FAILPOINT("engine.after_commit");

  source_rows_ += batch.row_count;
  if (!batch.transactions.empty()) {
    last_commit_ts_ = batch.transactions.back().commit_ts;
  }
  if (!batch.is_snapshot || batch.snapshot_complete) {
    confirm_(batch.end);
  }
  return Status::Ok();
}

Status BatchLoop::MakeOutputs(ChangeBatch& batch, storage::StoreBatch& store_batch,
                              std::vector<OutputBatch>& outputs) {
  for (size_t i = 0; i < plan_.streams.size(); ++i) {
    const PlannedStream& planned = plan_.streams[i];
    const TableChanges* changes = FindChanges(batch, *planned.driving);
    if (changes == nullptr || changes->changes.empty()) {
      continue;
    }
    const std::string context = fmt::format("stream '{}'", planned.stream()->name);
    if (!planned.stream()->append_only) {
      MR_RETURN_IF_ERROR(CheckNoGaps(*changes).WithContext(context));
    }
    StreamRows rows{RowBatch(planned.stream()->columns), {}};
    if (planned.query) {
      Result<StreamRows> result = planned.query->Run(batch, *changes);
      if (!result.ok()) {
        return result.status().WithContext(context);
      }
      rows = std::move(result).value();
    } else {
      rows.rows.AppendRange(changes->new_rows, 0, changes->new_rows.row_count());
      rows.driving_row.resize(changes->new_rows.row_count());
      for (uint32_t row = 0; row < rows.driving_row.size(); ++row) {
        rows.driving_row[row] = row;
      }
    }
    MR_ASSIGN_OR_RETURN(OutputBatch output,
                        planned.outputs->Build(batch, *changes, std::move(rows), store_batch));
    stream_rows_[i] += output.row_count();
    if (output.row_count() != 0) {
      outputs.push_back(std::move(output));
    }
  }
  return Status::Ok();
}

void BatchLoop::AppendRecords(std::vector<OutputBatch> outputs, SourcePosition position,
                              storage::StoreBatch& store_batch) {
  OutputRecord record;
  record.first = store_.AppendEnd();
  record.end = record.first;
  record.position = position;
  const auto flush = [&] {
    if (!record.batches.empty()) {
      store_batch.AppendOutput(record);
      record.first = record.end;
      record.batches.clear();
    }
  };
  const auto add = [&](OutputBatch output) {
    output.first_offset = record.end;
    output.epoch = position.epoch;
    record.end = Offset(record.end.value() + output.row_count());
    record.batches.push_back(std::make_shared<const OutputBatch>(std::move(output)));
  };
  size_t rows = 0;
  for (const OutputBatch& output : outputs) {
    rows += output.row_count();
  }
  for (OutputBatch& output : outputs) {
    if (rows <= options_.record_rows_max) {
      add(std::move(output));
      continue;
    }
    // A transaction beyond the bound: records of their own for each part of each stream.
    for (size_t begin = 0; begin < output.row_count(); begin += options_.record_rows_max) {
      add(CutOutput(output, begin, std::min(begin + options_.record_rows_max, output.row_count())));
      flush();
    }
  }
  flush();
}

}  // namespace millrace::pipeline
