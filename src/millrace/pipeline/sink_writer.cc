// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/sink_writer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "millrace/common/clock.h"
#include "millrace/common/failpoint.h"
#include "millrace/pipeline/error_policy.h"

namespace millrace::pipeline {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// How long a paused sink waits before it looks whether its operator has acted.
constexpr milliseconds kPausedWait{15'000};
// A sink that takes only some streams moves its position this often over rows of others.
constexpr milliseconds kPositionInterval{1'000};
// How long the log is waited for at a time.
constexpr milliseconds kWaitForOutput{500};

}  // namespace

Result<sinks::DeliveryLog::State> StoredDeliveryLog::Load() {
  MR_ASSIGN_OR_RETURN(const storage::DeliveryState stored, store_.LoadDelivery(sink_));
  State state;
  if (stored.started) {
    state.delivered = stored.delivered;
  }
  state.plan = stored.plan;
  return state;
}

Status StoredDeliveryLog::SavePlan(Offset delivered, std::string_view plan) {
  return store_.SaveDelivery(
      sink_, {.delivered = delivered, .plan = std::string(plan), .started = true}, true);
}

Status StoredDeliveryLog::SavePosition(Offset delivered) {
  return store_.SaveDelivery(sink_, {.delivered = delivered, .plan = "", .started = true}, false);
}

SinkWriter::SinkWriter(Options options, std::unique_ptr<sinks::Sink> sink,
                       std::unique_ptr<StoredDeliveryLog> log_of_deliveries, storage::Store& store,
                       const StreamBoard& streams, DeadLetters& dead_letters,
                       telemetry::PipelineMetrics& metrics, telemetry::Logger log)
    : options_(std::move(options)),
      deliveries_(std::move(log_of_deliveries)),
      sink_(std::move(sink)),
      store_(store),
      streams_(streams),
      dead_letters_(dead_letters),
      metrics_(metrics),
      log_(std::move(log)),
      backoff_(options_.backoff) {}

SinkWriter::Progress SinkWriter::GetProgress() const {
  MutexLock lock(mu_);
  return progress_;
}

void SinkWriter::GoOnCounting(const Progress& earlier) {
  MutexLock lock(mu_);
  progress_.rows = earlier.rows;
  progress_.last_commit_ts = earlier.last_commit_ts;
}

void SinkWriter::SetState(std::string state, std::string error) {
  MutexLock lock(mu_);
  progress_.state = std::move(state);
  progress_.last_error = std::move(error);
}

Status SinkWriter::Run(std::stop_token stop, std::stop_token drain) {
  while (!stop.stop_requested()) {
    Status status = Serve(stop, drain);
    sink_->Close();
    if (status.ok() || stop.stop_requested()) {
      break;
    }
    status = status.WithContext(fmt::format("sink '{}'", options_.name));
    metrics_.DeliveryFailed(options_.name, status.code());
    switch (ReactionTo(Stage::kSink, status.code())) {
      case Reaction::kStop:
        SetState("stopped", status.message());
        return status;
      case Reaction::kPause:
        SetState("paused", status.message());
        log_.Error("Sink needs an operator, others go on", {{"error", status}});
        if (drain.stop_requested()) {
          SetState("stopped", status.message());
          return Status::Ok();
        }
        WaitUnlessStopped(kPausedWait, drain);
        break;
      case Reaction::kRetry: {
        const milliseconds wait = backoff_.NextWait();
        SetState("retrying", status.message());
        log_.Warn("Sink failed, will try again",
                  {{"attempt", backoff_.attempts()}, {"wait_ms", wait.count()}, {"error", status}});
        WaitUnlessStopped(wait, stop);
        break;
      }
    }
  }
  SetState("stopped", "");
  return Status::Ok();
}

Result<sinks::SinkPosition> SinkWriter::OpenAtPosition(std::stop_token stop) {
  MR_ASSIGN_OR_RETURN(sinks::SinkPosition position, sink_->Open(stop));
  MR_ASSIGN_OR_RETURN(const sinks::DeliveryLog::State known, deliveries_->Load());
  if (!position.delivered) {
    if (known.delivered && known.delivered->value() != 0) {
      return FailedPrecondition(
          "the target has lost the position that was written there with the rows: rebuild what it "
          "holds in a new data_dir, or restore the target");
    }
    if (store_.LogBegin().value() != 0) {
      return FailedPrecondition(
          "this sink is new and the output log no longer holds the first rows: give it to a "
          "pipeline with a new data_dir");
    }
    position.delivered = Offset(0);
  }
  if (*position.delivered < store_.LogBegin()) {
    return FailedPrecondition(fmt::format(
        "the target's position {} went back behind the oldest row that is kept, {}: rebuild what "
        "it holds in a new data_dir",
        position.delivered->value(), store_.LogBegin().value()));
  }
  if (*position.delivered > store_.ReadableEnd()) {
    return FailedPrecondition(
        fmt::format("the target's position {} is ahead of this data_dir, which ends at {}: start "
                    "with the data_dir that wrote it",
                    position.delivered->value(), store_.ReadableEnd().value()));
  }
  return position;
}

Status SinkWriter::Serve(std::stop_token stop, std::stop_token drain) {
  MR_ASSIGN_OR_RETURN(sinks::SinkPosition position, OpenAtPosition(stop));
  Offset next = *position.delivered;
  MR_RETURN_IF_ERROR(dead_letters_.Delivered(options_.name, next));
  log_.Info("Sink is connected", {{"offset", next.value()}});
  {
    MutexLock lock(mu_);
    progress_.state = "idle";
    progress_.last_error.clear();
    progress_.delivered = next;
    progress_.passed = next;
    progress_.acknowledged = steady_clock::now();
  }
  last_contact_ = steady_clock::now();
  prepared_.clear();
  // Between the position and its end there is no row for this sink.
  sinks::DeliveryBatch passed{.first = next, .end = next, .position = {}, .slices = {}};
  while (!stop.stop_requested()) {
    // A delivery whose outcome is unknown comes first, as it was.
    if (!position.pending_end) {
      MR_RETURN_IF_ERROR(PrepareNewest(stop));
    }
    MR_ASSIGN_OR_RETURN(const auto batch,
                        Gather(next, passed.end, position.pending_end, stop, drain));
    const auto now = steady_clock::now();
    const bool is_due = now - last_contact_ >= kPositionInterval;
    if (batch && (batch->row_count() != 0 || position.pending_end)) {
      if (!position.pending_end) {
        MR_RETURN_IF_ERROR(PrepareFor(*batch, stop));
      }
      MR_RETURN_IF_ERROR(Deliver(*batch, stop));
      next = batch->end;
      passed = {.first = next, .end = next, .position = {}, .slices = {}};
      position.pending_end.reset();
      backoff_.Reset();
      continue;
    }
    if (batch) {
      passed = *batch;
      MutexLock lock(mu_);
      progress_.passed = passed.end;
    }
    // The position follows over rows of other streams too, or they could never be dropped.
    if (passed.end > next && is_due) {
      MR_RETURN_IF_ERROR(Deliver(passed, stop));
      next = passed.end;
    }
    if (drain.stop_requested() && passed.end >= store_.ReadableEnd()) {
      return Status::Ok();
    }
    if (!batch && now - last_contact_ >= options_.probe_interval) {
      MR_RETURN_IF_ERROR(Probe(next));
    }
  }
  return Status::Ok();
}

// The next delivery; nothing if no row came for a while.
Result<std::optional<sinks::DeliveryBatch>> SinkWriter::Gather(Offset first, Offset scanned,
                                                               std::optional<Offset> pending_end,
                                                               std::stop_token stop,
                                                               std::stop_token drain) {
  if (!drain.stop_requested()) {
    store_.WaitForOutput(scanned, steady_clock::now() + kWaitForOutput, drain);
  }
  if (store_.ReadableEnd() <= scanned) {
    return std::optional<sinks::DeliveryBatch>();
  }
  sinks::DeliveryBatch batch;
  batch.first = first;
  batch.end = scanned;
  size_t rows = 0;
  size_t bytes = 0;
  const auto deadline = steady_clock::now() + options_.limits.wait_max;
  while (!stop.stop_requested()) {
    const Offset limit = pending_end.value_or(store_.ReadableEnd());
    if (batch.end >= limit) {
      if (pending_end || drain.stop_requested() || steady_clock::now() >= deadline || rows == 0) {
        break;
      }
      store_.WaitForOutput(batch.end, deadline, stop);
      continue;
    }
    MR_ASSIGN_OR_RETURN(const OutputRecord record, store_.ReadOutput(batch.end));
    batch.position = record.position;
    const bool is_for_us = record.sink.empty() || record.sink == options_.name;
    for (const OutputBatchPtr& output : record.batches) {
      const uint64_t base = output->first_offset.value();
      const uint64_t end = std::min(base + output->row_count(), limit.value());
      const uint64_t begin = std::max(base, batch.end.value());
      if (begin >= end || !is_for_us || !options_.streams.contains(output->stream->id)) {
        continue;
      }
      batch.slices.push_back({output, begin - base, end - base});
      rows += end - begin;
      bytes += output->rows.byte_size() * (end - begin) / output->row_count();
    }
    batch.end = std::min(record.end, limit);
    if (!pending_end && (rows >= options_.limits.rows_max || bytes >= options_.limits.bytes_max)) {
      break;
    }
  }
  if (pending_end && batch.end != *pending_end) {
    return std::optional<sinks::DeliveryBatch>();  // stopped half-way; a pending delivery is whole
  }
  return std::optional<sinks::DeliveryBatch>(std::move(batch));
}

Status SinkWriter::Prepare(const StreamPtr& stream, std::stop_token stop) {
  SchemaVersion& prepared = prepared_[stream->id];
  if (stream->schema_version > prepared) {
    MR_FAILPOINT("sink_writer.before_prepare");
    MR_RETURN_IF_ERROR(sink_->Prepare(stream, std::move(stop)));
    MR_FAILPOINT("sink_writer.after_prepare");
    prepared = stream->schema_version;
  }
  return Status::Ok();
}

Status SinkWriter::PrepareFor(const sinks::DeliveryBatch& batch, std::stop_token stop) {
  for (const sinks::OutputSlice& slice : batch.slices) {
    MR_RETURN_IF_ERROR(Prepare(slice.batch->stream, stop));
  }
  return Status::Ok();
}

Status SinkWriter::PrepareNewest(std::stop_token stop) {
  for (const StreamId id : options_.streams) {
    if (const StreamPtr newest = streams_.Newest(id)) {
      MR_RETURN_IF_ERROR(Prepare(newest, stop));
    }
  }
  return Status::Ok();
}

void SinkWriter::LeaveOut(sinks::DeliveryBatch& batch) const {
  const std::vector<Offset> left_out = dead_letters_.LeftOut(options_.name, batch.first, batch.end);
  if (left_out.empty()) {
    return;
  }
  std::vector<sinks::OutputSlice> slices;
  for (const sinks::OutputSlice& slice : batch.slices) {
    const uint64_t first = slice.batch->first_offset.value();
    size_t begin = slice.begin;
    const auto add = [&](size_t end) {
      if (begin < end) {
        slices.push_back({slice.batch, begin, end});
      }
    };
    for (auto at = std::lower_bound(left_out.begin(), left_out.end(), Offset(first + begin));
         at != left_out.end() && at->value() < first + slice.end; ++at) {
      add(at->value() - first);
      begin = at->value() - first + 1;
    }
    add(slice.end);
  }
  batch.slices = std::move(slices);
}

Status SinkWriter::Keep(const sinks::DeliveryBatch& batch, const Status& why,
                        const sinks::RefusedRows& refused) {
  std::map<std::string, int64_t> counts;
  bool ends_run = false;
  for (const sinks::OutputSlice& slice : batch.slices) {
    const uint64_t first = slice.batch->first_offset.value();
    const auto count = std::distance(refused.rows.lower_bound(Offset(first + slice.begin)),
                                     refused.rows.lower_bound(Offset(first + slice.end)));
    if (count != 0) {
      counts[slice.batch->stream->name] += count;
      ends_run |= !options_.dead_letter_streams.contains(slice.batch->stream->id);
    }
  }
  // Where the position has moved over them, they would be lost.
  if (ends_run && !refused.is_rest_delivered) {
    return why;
  }
  MR_RETURN_IF_ERROR(dead_letters_.Keep(options_.name, options_.newest_by, batch, refused.rows));
  for (const auto& [stream, count] : counts) {
    metrics_.RowsDeadLettered(stream, "refused_by_sink", static_cast<uint64_t>(count));
    log_.Warn("Rows became dead letters",
              {{"stream", stream}, {"rows", count}, {"first", refused.rows.begin()->second}});
  }
  return ends_run ? why : Status::Ok();
}

// Dying anywhere in it, the sink is offered the range again, without the rows that are kept by
// then.
Status SinkWriter::DeliverOrKeep(sinks::DeliveryBatch& batch, const std::stop_token& stop) {
  // Only what is kept can change what is offered, so that it ends.
  for (size_t tries = batch.row_count() + 1; tries != 0; --tries) {
    const Status status = sink_->Deliver(batch, stop);
    if (status.ok()) {
      return status;
    }
    const sinks::RefusedRows refused = sink_->TakeRefused();
    if (refused.rows.empty()) {
      return status;
    }
    MR_RETURN_IF_ERROR(Keep(batch, status, refused));
    if (refused.is_rest_delivered) {
      return Status::Ok();
    }
    LeaveOut(batch);
  }
  return Internal("the sink refused a row that it was not offered");
}

Status SinkWriter::Deliver(sinks::DeliveryBatch batch, std::stop_token stop) {
  MR_FAILPOINT("sink_writer.before_deliver");
  SetState(batch.row_count() == 0 ? "idle" : "flowing", "");
  const auto start = steady_clock::now();
  // Rows that are left out make none void; what they make void is left out too.
  LeaveOut(batch);
  MR_RETURN_IF_ERROR(dead_letters_.Supersede(options_.name, options_.newest_by, batch));
  LeaveOut(batch);
  MR_RETURN_IF_ERROR(DeliverOrKeep(batch, stop));
  MR_FAILPOINT("sink_writer.after_deliver");
  // Known here too, so that a target that loses its position is noticed.
  MR_RETURN_IF_ERROR(deliveries_->SavePosition(batch.end));
  MR_RETURN_IF_ERROR(dead_letters_.Delivered(options_.name, batch.end));

  last_contact_ = steady_clock::now();
  const double seconds = std::chrono::duration<double>(last_contact_ - start).count();
  metrics_.RowsDelivered(options_.name, batch.row_count(), seconds);
  TimestampMicros newest = 0;
  if (!batch.slices.empty()) {
    const sinks::OutputSlice& first = batch.slices.front();
    const sinks::OutputSlice& last = batch.slices.back();
    newest = last.batch->CommitTimeOf(last.end - 1);
    const TimestampMicros oldest = first.batch->CommitTimeOf(first.begin);
    metrics_.EndToEnd(options_.name, static_cast<double>(NowMicros() - oldest) / 1e6);
  }
  MutexLock lock(mu_);
  progress_.delivered = batch.end;
  progress_.passed = batch.end;
  progress_.rows += batch.row_count();
  progress_.last_commit_ts = std::max(progress_.last_commit_ts, newest);
  progress_.acknowledged = last_contact_;
  return Status::Ok();
}

// Asks an idle target for its position: it must be alive, and must not have lost anything.
Status SinkWriter::Probe(Offset delivered) {
  MR_ASSIGN_OR_RETURN(const std::optional<Offset> position, sink_->ReadPosition());
  const Offset now = position.value_or(Offset(0));
  if (now < delivered) {
    return Unavailable(fmt::format("the target's position went back from {} to {}",
                                   delivered.value(), now.value()));
  }
  last_contact_ = steady_clock::now();
  MutexLock lock(mu_);
  progress_.state = "idle";
  progress_.acknowledged = last_contact_;
  return Status::Ok();
}

}  // namespace millrace::pipeline
