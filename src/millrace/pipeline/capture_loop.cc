// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/capture_loop.h"

#include <array>
#include <set>
#include <utility>

#include "millrace/pipeline/error_policy.h"
#include "millrace/pipeline/stored_source_state.h"

namespace millrace::pipeline {

namespace {

using std::chrono::milliseconds;

// How often the source may tell the server that it lives while the engine is behind: well within
// the shortest wal_sender_timeout that anybody sets.
constexpr milliseconds kBackpressurePoll{100};
// A batch that is so far beyond the trigger's bound has a row that is large by itself.
constexpr size_t kLargeRow = size_t{8} << 20;

void CountEvents(const ChangeBatch& batch, telemetry::PipelineMetrics& metrics) {
  constexpr std::array<std::string_view, 8> kOps = {
      "", "insert", "update", "delete", "truncate", "read", "read_again_begin", "read_again_end"};
  std::array<uint64_t, kOps.size()> counts{};
  for (const TableChanges& changes : batch.tables) {
    for (const Change& change : changes.changes) {
      ++counts[static_cast<size_t>(change.op)];
    }
  }
  for (size_t i = 1; i < kOps.size(); ++i) {
    if (counts[i] != 0) {
      metrics.EventsRead(kOps[i], counts[i]);
    }
  }
}

}  // namespace

CaptureLoop::CaptureLoop(sources::Source& source, storage::Store& store, HandOver& hand_over,
                         Options options, telemetry::PipelineMetrics& metrics,
                         telemetry::Logger log)
    : source_(source),
      store_(store),
      hand_over_(hand_over),
      options_(std::move(options)),
      metrics_(metrics),
      log_(std::move(log)),
      backoff_(options_.backoff) {}

Status CaptureLoop::Run(std::stop_token stop) {
  while (!stop.stop_requested()) {
    const Status status = Serve(stop);
    if (stop.stop_requested() || status.ok()) {
      return Status::Ok();
    }
    if (ReactionTo(Stage::kSource, status.code()) != Reaction::kRetry) {
      return status.WithContext("source");
    }
    source_.Close();
    is_connected_ = false;
    const milliseconds wait = backoff_.NextWait();
    log_.Warn("Source broke off, will connect again",
              {{"attempt", backoff_.attempts()}, {"wait_ms", wait.count()}, {"error", status}});
    // What has been given to the engine must be durable before the position is read again.
    if (!WaitUnlessStopped(wait, stop) || !hand_over_.WaitIdle(stop)) {
      return Status::Ok();
    }
  }
  return Status::Ok();
}

// What is left out may fit by now.
bool CaptureLoop::IsPlanned() const {
  std::set<std::string> tables;
  for (const TablePtr& table : source_.Tables()) {
    tables.insert(table->FullName());
  }
  const std::vector<std::string>& planned = options_.table_roles.snapshot_order;
  return source_.Candidates().empty() &&
         tables == std::set<std::string>(planned.begin(), planned.end());
}

Status CaptureLoop::Serve(std::stop_token stop) {
  MR_ASSIGN_OR_RETURN(const SourceState state, store_.LoadSourceState());
  if (!is_connected_) {
    MR_RETURN_IF_ERROR(source_.Connect(state));
    is_connected_ = true;
    if (!IsPlanned()) {
      needs_plan_ = true;
      return Status::Ok();
    }
  }
  StoredSourceState state_store(store_);
  MR_RETURN_IF_ERROR(source_.Start(state, state_store, options_.table_roles));
  log_.Info("Source is connected",
            {{"position", state.position ? FormatLsn(state.position->end_lsn) : "first start"}});

  bool may_be_large = false;  // what the engine was given last
  while (!stop.stop_requested()) {
    // Beside large rows no other is read, which may be as large.
    source_.Hold(may_be_large);
    if (may_be_large) {
      MR_RETURN_IF_ERROR(source_.Poll(milliseconds(0)));
      may_be_large = !hand_over_.WaitMemory(kBackpressurePoll, stop);
      continue;
    }
    // While something waits to be taken, look often whether the engine has become idle.
    MR_RETURN_IF_ERROR(source_.Poll(milliseconds(source_.Pending().can_take ? 1 : 50)));
    backoff_.Reset();
    const sources::Source::PendingBatch pending = source_.Pending();
    const bool is_full = pending.is_full || pending.rows >= options_.trigger.rows_max ||
                         pending.bytes >= options_.trigger.bytes_max;
    if (!pending.can_take || !hand_over_.IsFree()) {
      if (pending.can_take && is_full) {
        // The source reads nothing more before this is taken.
        hand_over_.WaitFree(kBackpressurePoll, stop);
      }
      continue;
    }
    const bool waited =
        std::chrono::steady_clock::now() - pending.since >= options_.trigger.wait_max;
    if (is_full || waited || hand_over_.IsIdle()) {
      MR_ASSIGN_OR_RETURN(std::unique_ptr<ChangeBatch> batch, source_.Take());
      CountEvents(*batch, metrics_);
      may_be_large =
          batch->byte_size >= options_.trigger.bytes_max + kLargeRow || HasUnchangedToast(*batch);
      hand_over_.Give(std::move(batch));
    }
  }
  return Status::Ok();
}

}  // namespace millrace::pipeline
