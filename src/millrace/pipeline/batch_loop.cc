// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/batch_loop.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <mutex>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "millrace/common/backoff.h"
#include "millrace/common/failpoint.h"
#include "millrace/model/evolution.h"

namespace millrace::pipeline {

namespace {

using std::chrono::steady_clock;

// From here on copies count, whether one row is as large or the trigger lets so many gather.
constexpr size_t kLargeBatch = size_t{16} << 20;

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

// Rows may be large, and commits take copies of them.
void DropRows(ChangeBatch& batch, const Table& table) {
  if (TableChanges* changes = FindChanges(batch, table)) {
    changes->new_rows = RowBatch(changes->table->columns);
    changes->old_rows = RowBatch(changes->table->columns);
  }
}

// Of what came, or of what fills the gaps of unchanged values.
bool MayHaveLargeRows(const ChangeBatch& batch) {
  return batch.byte_size >= kLargeBatch || HasUnchangedToast(batch);
}

bool HasLargeRows(const ChangeBatch& batch) {
  return std::any_of(batch.tables.begin(), batch.tables.end(), [](const TableChanges& changes) {
    return changes.new_rows.byte_size() + changes.old_rows.byte_size() >= kLargeBatch;
  });
}

// One transaction, or with a change that makes outputs of rows that are not in the batch: any
// number.
bool MayOutgrowMemory(const ChangeBatch& batch) {
  const auto is_of_all_rows = [](const Change& change) {
    return change.op == ChangeOp::kTruncate || change.op == ChangeOp::kReadAgainEnd;
  };
  return batch.transactions.size() <= 1 ||
         std::any_of(batch.tables.begin(), batch.tables.end(), [&](const TableChanges& changes) {
           return std::any_of(changes.changes.begin(), changes.changes.end(), is_of_all_rows);
         });
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

}  // namespace

BatchLoop::BatchLoop(StreamPlan& plan, StreamPlanInputs inputs, storage::Store& store,
                     HandOver& hand_over, StreamBoard& streams, DeadLetters& dead_letters,
                     Options options, std::function<void(SourcePosition)> confirm,
                     telemetry::PipelineMetrics& metrics, telemetry::Logger log)
    : plan_(plan),
      inputs_(std::move(inputs)),
      store_(store),
      hand_over_(hand_over),
      streams_(streams),
      dead_letters_(dead_letters),
      options_(options),
      confirm_(std::move(confirm)),
      metrics_(metrics),
      log_(std::move(log)),
      last_commit_ts_(options.last_commit_ts),
      stream_rows_(plan.streams.size()) {}

Status BatchLoop::Run(std::stop_token stop) {
  MR_ASSIGN_OR_RETURN(const SourceState state, store_.LoadSourceState());
  position_ = state.position.value_or(SourcePosition());
  std::unique_ptr<ChangeBatch> batch;
  do {
    MR_RETURN_IF_ERROR(SendLettersAgain());
    if (batch == nullptr) {
      continue;
    }
    if (!WaitForRoom(stop)) {
      return Status::Ok();  // not accepted: the source sends it again
    }
    MR_RETURN_IF_ERROR(Process(*batch));
  } while (hand_over_.Take(stop, batch));
  return Status::Ok();
}

Status BatchLoop::SendLettersAgain() {
  if (!dead_letters_.HasRetries() || store_.HasOpenParts()) {
    return Status::Ok();
  }
  return dead_letters_.SendAgain(position_);
}

bool BatchLoop::WaitForRoom(std::stop_token stop) {
  // What a large transaction makes cannot be delivered before its last part.
  while (!store_.HasOpenParts() && store_.OutputLogBytes() >= options_.output_log_bytes_max) {
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

Result<std::vector<StreamPtr>> BatchLoop::FollowTables(ChangeBatch& batch) {
  std::vector<StreamPtr> changed;
  for (TableChanges& changes : batch.tables) {
    const auto planned = std::find_if(
        inputs_.tables.begin(), inputs_.tables.end(),
        [&](const TablePtr& table) { return table->FullName() == changes.table->FullName(); });
    if (planned == inputs_.tables.end() || (*planned)->version == changes.table->version) {
      continue;
    }
    if ((*planned)->version > changes.table->version) {
      Evolve(changes, *planned);
      continue;
    }
    MR_ASSIGN_OR_RETURN(const std::vector<StreamPtr> streams,
                        FollowTable(changes.table, inputs_, plan_));
    changed.insert(changed.end(), streams.begin(), streams.end());
    log_.Info("Table has other columns",
              {{"table", changes.table->FullName()}, {"version", changes.table->version}});
  }
  return changed;
}

Status BatchLoop::Process(ChangeBatch& batch) {
  const auto start = steady_clock::now();
  std::unique_lock<std::mutex> turn;
  if (MayHaveLargeRows(batch)) {
    turn = store_.TakeTurn();
  }
  MR_ASSIGN_OR_RETURN(const std::vector<StreamPtr> changed, FollowTables(batch));
  MR_RETURN_IF_ERROR(BeginPart(batch));
  const bool is_last = !batch.part || batch.part->is_last;
  const bool has_outputs = !batch.part || batch.part->pass == TransactionPart::Pass::kChanges;
  const bool holds_outputs = !MayOutgrowMemory(batch);
  BatchWriter writer(store_, options_.writer, batch.end, batch.part.has_value(),
                     holds_outputs ? BatchWriter::Outputs::kHeld : BatchWriter::Outputs::kBounded);
  for (const std::unique_ptr<IdentityMap>& map : plan_.identity_maps) {
    MR_RETURN_IF_ERROR(
        map->BeginBatch(FindChanges(batch, map->table()),
                        batch.part ? std::optional(batch.part->pass) : std::nullopt));
  }
  MR_ASSIGN_OR_RETURN(const std::vector<TableState*> states, BeginStates(batch));
  if (!HasLargeRows(batch)) {
    hand_over_.NoteSmall();
  }
  if (has_outputs) {
    MR_RETURN_IF_ERROR(MakeOutputs(batch, writer));
  }
  for (const std::unique_ptr<IdentityMap>& map : plan_.identity_maps) {
    map->Save(writer.state());
    map->EndBatch();
  }
  for (TableState* state : states) {
    MR_RETURN_IF_ERROR(writer.CutIfLarge());
    MR_RETURN_IF_ERROR(state->Save(writer));
    state->EndBatch();
    DropRows(batch, state->table());
  }
  batch.tables.clear();
  std::move(batch.notes.begin(), batch.notes.end(), std::back_inserter(notes_));
  if (is_last) {
    writer.state().SetPosition(batch.end);
    for (const SourceNote& note : notes_) {
      writer.state().SetNote(note);
    }
    notes_.clear();
  }
  metrics_.BatchStageRan("compute", SecondsSince(start));

  MR_FAILPOINT("engine.before_commit");
  const auto commit_start = steady_clock::now();
  MR_RETURN_IF_ERROR(writer.Commit(is_last));
  metrics_.BatchCommitted(has_outputs ? batch.row_count : 0, SecondsSince(commit_start));
  MR_FAILPOINT("engine.after_commit");
  for (const StreamPtr& stream : changed) {
    streams_.Set(stream);
  }

  source_rows_ += has_outputs ? batch.row_count : 0;
  if (!is_last) {
    return Status::Ok();
  }
  if (!batch.transactions.empty()) {
    last_commit_ts_ = batch.transactions.back().commit_ts;
  }
  position_ = batch.end;
  confirm_(batch.end);
  return Status::Ok();
}

Status BatchLoop::BeginPart(const ChangeBatch& batch) {
  const bool goes_on = batch.part && !batch.part->is_first;
  if (goes_on && !store_.HasOpenParts()) {
    return Internal("a part of a large transaction came before its first");
  }
  if (!goes_on && store_.HasOpenParts()) {
    log_.Info("Large transaction broke off, its parts are dropped", {});
    MR_RETURN_IF_ERROR(store_.DropParts());
    notes_.clear();
    for (const std::unique_ptr<TableState>& state : plan_.table_states) {
      state->ForgetStored();
    }
    for (const PlannedStream& planned : plan_.streams) {
      planned.outputs->ForgetStored();
    }
  }
  return Status::Ok();
}

Result<std::vector<TableState*>> BatchLoop::BeginStates(ChangeBatch& batch) {
  const bool second_pass = batch.part && batch.part->pass == TransactionPart::Pass::kChanges;
  std::vector<TableState*> states;
  for (const std::unique_ptr<TableState>& state : plan_.table_states) {
    TableChanges* changes = FindChanges(batch, state->table());
    if (second_pass && state->keep() == TableState::Keep::kAllRows) {
      // The first pass has applied these changes: rows join the table as it is after all of them.
      MR_RETURN_IF_ERROR(state->BeginBatch(nullptr));
      MR_RETURN_IF_ERROR(state->Replay().BeginBatch(changes));
      states.push_back(&state->Replay());
    } else {
      MR_RETURN_IF_ERROR(state->BeginBatch(changes));
    }
    states.push_back(state.get());
  }
  return states;
}

Status BatchLoop::MakeOutputs(ChangeBatch& batch, BatchWriter& writer) {
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
    MR_RETURN_IF_ERROR(writer.CutOutputsIfLarge());  // before more is made
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
      std::iota(rows.driving_row.begin(), rows.driving_row.end(), 0);
    }
    MR_ASSIGN_OR_RETURN(const size_t outputs,
                        planned.outputs->Build(batch, *changes, std::move(rows), writer));
    stream_rows_[i] += outputs;
  }
  return Status::Ok();
}

}  // namespace millrace::pipeline
