// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/pipeline.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "millrace/common/backoff.h"
#include "millrace/common/clock.h"
#include "millrace/common/failpoint.h"
#include "millrace/pipeline/error_policy.h"
#include "millrace/pipeline/thread_name.h"

namespace millrace::pipeline {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kStatusInterval{250};
// A source that is back, or a slot that is free, is found within this.
constexpr milliseconds kSourceWaitMax{3'000};
// Dropping output costs a synced write.
constexpr milliseconds kDropInterval{1'000};  // and how often rates are measured
// SIGTERM promises an exit in under 10 s; this is what sinks have of it.
constexpr milliseconds kDrainTime{7'000};

}  // namespace

Pipeline::Pipeline(const config::PipelineConfig& config, Parts parts,
                   telemetry::PipelineMetrics& metrics, StatusBoard& board, telemetry::Logger log)
    : config_(config),
      metrics_(metrics),
      board_(board),
      log_(std::move(log)),
      store_(std::move(parts.store)),
      dead_letters_(std::move(parts.dead_letters)),
      source_(std::move(parts.source)),
      sql_(std::move(parts.sql)),
      desk_(*dead_letters_, DeskNames(config), [this] { hand_over_.Wake(); }),
      sinks_(config, std::move(parts.sink_types), *store_, streams_, *dead_letters_, metrics, log_,
             [this](Status status) { Fail(std::move(status)); }) {}

Status Pipeline::Run(std::stop_token stop) {
  std::stop_callback stop_on_request(stop, [this] { ending_.request_stop(); });
  PublishStatus("starting");
  MR_RETURN_IF_ERROR(ConnectSource(ending_.get_token()));
  if (ending_.stop_requested()) {
    return Status::Ok();
  }
  MR_RETURN_IF_ERROR(Plan());
  Start();
  while (Supervise()) {
    PublishStatus("starting");
    StopEngine();
    MR_FAILPOINT("pipeline.before_new_plan");
    if (Status planned = Plan(); !planned.ok()) {
      Fail(std::move(planned));
      break;
    }
    MR_FAILPOINT("pipeline.after_new_plan");
    Start();
    log_.Info("Goes on with the tables that there are now");
  }
  StopAll();
  return FirstFailure();
}

// The tables must be known before the streams can be planned.
Status Pipeline::ConnectSource(std::stop_token stop) {
  Backoff backoff({.wait_max = kSourceWaitMax});
  while (!stop.stop_requested()) {
    MR_ASSIGN_OR_RETURN(const SourceState state, store_->LoadSourceState());
    const Status status = source_->Connect(state);
    if (status.ok()) {
      return status;
    }
    if (ReactionTo(Stage::kSource, status.code()) != Reaction::kRetry) {
      return status.WithContext("source");
    }
    source_->Close();
    const milliseconds wait = backoff.NextWait();
    log_.Warn("Source cannot be reached, will try again",
              {{"attempt", backoff.attempts()}, {"wait_ms", wait.count()}, {"error", status}});
    StatusSnapshot snapshot = *board_.Read();
    snapshot.source.last_error = status.message();
    snapshot.not_ready_reason = "the source cannot be reached: " + status.message();
    board_.Publish(std::move(snapshot));
    WaitUnlessStopped(wait, stop);
  }
  return Status::Ok();
}

StreamPlanInputs Pipeline::MakePlanInputs() const {
  return {.config = config_,
          .tables = source_->Tables(),
          .candidates = source_->Candidates(),
          .left_out = {},
          .uses = sinks_.Uses(),
          .sql = *sql_,
          .store = *store_,
          .log = log_};
}

Status Pipeline::Plan() {
  StreamPlanInputs inputs = MakePlanInputs();
  for (;;) {
    plan_ = StreamPlan();
    MR_ASSIGN_OR_RETURN(plan_, PlanStreams(inputs));
    std::set<std::string> at_fault;
    const Status made = sinks_.Plan(plan_, at_fault);
    if (made.ok()) {
      break;
    }
    // A sink that has no use for the stream of a new table: that table is left out.
    inputs.left_out = plan_.table_roles.left_out;
    const size_t left_out = inputs.left_out.size();
    for (const PlannedStream& planned : plan_.streams) {
      const std::string table = planned.driving->FullName();
      if (at_fault.contains(planned.stream()->name) &&
          std::find(inputs.candidates.begin(), inputs.candidates.end(), table) !=
              inputs.candidates.end()) {
        inputs.left_out[table] = sources::LeftOutSentence(table, made);
      }
    }
    if (inputs.left_out.size() == left_out) {
      return made;
    }
  }
  waiting_.clear();
  for (const auto& [stream, waits] : plan_.waiting) {
    log_.Info("Stream waits for its table", {{"stream", stream}, {"reason", waits.reason}});
    waiting_.push_back(waits);
  }
  states_.clear();
  state_bytes_.clear();
  std::map<std::string, std::string> append_only;
  for (const PlannedStream& planned : plan_.streams) {
    states_.push_back({planned.stream()->name, planned.state});
    if (planned.stream()->append_only) {
      append_only[planned.driving->FullName()] = planned.stream()->name;
    }
  }
  MutexLock lock(mu_);
  append_only_ = std::move(append_only);
  return Status::Ok();
}

Status Pipeline::ReadTableAgain(const std::string& table) {
  {
    MutexLock lock(mu_);
    if (!append_only_.has_value()) {
      return FailedPrecondition("the pipeline is starting: try again when it streams");
    }
    for (const std::string& name : {table, "public." + table}) {
      if (const auto found = append_only_->find(name); found != append_only_->end()) {
        return FailedPrecondition(fmt::format(
            "stream '{}' of table {} is append_only, so that its sinks would hold each row twice: "
            "empty its targets and set the pipeline up in a new data_dir instead",
            found->second, name));
      }
    }
  }
  return source_->ReadAgain(table);
}

void Pipeline::Start() {
  const config::BatchLimits& batch = config_.engine.batch;
  StreamPlanInputs inputs = MakePlanInputs();
  inputs.tables = plan_.tables;
  engine_ = std::make_unique<BatchLoop>(
      plan_, std::move(inputs), *store_, hand_over_, streams_, *dead_letters_,
      BatchLoop::Options{.output_log_bytes_max = config_.storage.max_bytes,
                         .last_commit_ts = earlier_.last_commit_ts},
      [this](SourcePosition position) { source_->Confirm(position.end_lsn); }, metrics_,
      log_.With("component", "engine"));
  capture_ =
      std::make_unique<CaptureLoop>(*source_, *store_, hand_over_,
                                    CaptureLoop::Options{.trigger = batch,
                                                         .backoff = {.wait_max = kSourceWaitMax},
                                                         .table_roles = plan_.table_roles},
                                    metrics_, log_.With("component", "source"));

  sinks_.Start();
  engine_thread_ = std::jthread([this](std::stop_token stop) {
    NameThread("mr-engine");
    Fail(engine_->Run(stop));
  });
  capture_ended_ = std::stop_source();
  capture_thread_ = std::jthread([this, ended = capture_ended_](std::stop_token stop) mutable {
    NameThread("mr-capture");
    Fail(capture_->Run(stop));
    ended.request_stop();
  });
}

// Everything that was given to the engine is durable; the source stays as it is.
void Pipeline::StopEngine() {
  if (!engine_thread_.joinable()) {
    return;
  }
  capture_thread_.request_stop();
  capture_thread_.join();
  engine_thread_.request_stop();
  engine_thread_.join();
  earlier_.source_rows += engine_->source_rows();
  earlier_.last_commit_ts = engine_->last_commit_ts();
  for (size_t i = 0; i < states_.size(); ++i) {
    earlier_.stream_rows[states_[i].stream] += engine_->stream_rows(i);
  }
  engine_.reset();
}

void Pipeline::Fail(Status status) {
  if (status.ok()) {
    return;
  }
  {
    MutexLock lock(mu_);
    if (failure_.ok()) {
      failure_ = std::move(status);
    }
  }
  failed_.request_stop();
  ending_.request_stop();
}

Status Pipeline::FirstFailure() const {
  MutexLock lock(mu_);
  return failure_;
}

// True if the run goes on with a later plan.
bool Pipeline::Supervise() {
  const std::stop_callback end(ending_.get_token(), [this] { capture_ended_.request_stop(); });
  while (WaitUnlessStopped(kStatusInterval, capture_ended_.get_token())) {
    if (steady_clock::now() - measured_at_ >= kDropInterval) {
      MeasureRates();
      DropDeliveredOutput();
    }
    PublishStatus("streaming");
  }
  // Of a capture that goes on it is not asked.
  return !ending_.stop_requested() && capture_->needs_plan();
}

void Pipeline::MeasureRates() {
  const auto now = steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - measured_at_).count();
  measured_at_ = now;
  source_rate_.Measure(earlier_.source_rows + engine_->source_rows(), seconds);
  snapshot_rate_.Measure(source_->GetStatus().snapshot_rows, seconds);
  const std::vector<const SinkWriter*> writers = sinks_.writers();
  sink_rates_.resize(writers.size());
  for (size_t i = 0; i < writers.size(); ++i) {
    sink_rates_[i].Measure(writers[i]->GetProgress().rows, seconds);
  }
  state_bytes_.assign(states_.size(), 0);
  for (size_t i = 0; i < states_.size(); ++i) {
    for (const storage::StateTableId state : states_[i].tables) {
      state_bytes_[i] += store_->ApproximateStateBytes(state);
    }
  }
}

// Down the stream: what capture has given is computed, what is committed is delivered, and the
// server learns what it may forget.
void Pipeline::StopAll() {
  PublishStatus("stopping");
  const auto deadline = steady_clock::now() + kDrainTime;
  StopEngine();
  source_->Close();
  sinks_.Stop(failed_.get_token(), deadline);
}

void Pipeline::DropDeliveredOutput() {
  const auto now = steady_clock::now();
  const Offset end = store_->ReadableEnd();
  const uint64_t log_bytes = store_->OutputLogBytes();
  if (retained_.empty() || retained_.back().end != end) {
    retained_.push_back({now, end, log_bytes});
  }
  Offset delivered = end;
  for (const SinkWriter* writer : sinks_.writers()) {
    delivered = std::min(delivered, writer->GetProgress().delivered.value_or(Offset(0)));
  }
  // Delivered output is kept for a while, for targets that lose what they acknowledged.
  Offset drop(0);
  while (!retained_.empty() && retained_.front().end <= delivered &&
         (now - retained_.front().at > config_.storage.retain_time ||
          log_bytes > config_.storage.retain_bytes)) {
    const uint64_t bytes = retained_.front().log_bytes;
    drop = retained_.front().end;
    retained_.pop_front();
    if (log_bytes > config_.storage.retain_bytes && bytes >= log_bytes / 2) {
      break;  // the rest is looked at when the log has shrunk
    }
  }
  if (drop > store_->LogBegin()) {
    Fail(store_->TruncateOutput(drop).WithContext("output log"));
    Fail(dead_letters_->ForgetBefore(store_->LogBegin()).WithContext("dead letters"));
  }
}

StatusSnapshot::Sink Pipeline::DescribeSink(const SinkWriter& writer) const {
  const SinkWriter::Progress progress = writer.GetProgress();
  StatusSnapshot::Sink sink;
  sink.name = writer.options().name;
  sink.type = writer.options().type;
  sink.state = progress.state;
  sink.rows = progress.rows;
  sink.last_error = progress.last_error;
  const uint64_t end = store_->ReadableEnd().value();
  const uint64_t passed = progress.passed.value_or(store_->LogBegin()).value();
  sink.lag_rows = end > passed ? end - passed : 0;
  if (sink.lag_rows != 0 && engine_) {
    const TimestampMicros since =
        progress.last_commit_ts != 0 ? progress.last_commit_ts : engine_->last_commit_ts();
    sink.lag_seconds = std::max(0.0, static_cast<double>(NowMicros() - since) / 1e6);
  }
  return sink;
}

void Pipeline::DescribeReadings(const sources::SourceStatus& source,
                                StatusSnapshot::Source& to) const {
  uint64_t rows_left = 0;
  bool is_known = true;
  for (const sources::TableReading& reading : source.readings) {
    using State = sources::TableReading::State;
    const bool is_done = reading.state == State::kDone;
    to.tables.push_back({.name = reading.table,
                         .state = is_done                            ? "done"
                                  : reading.state == State::kWaiting ? "waiting"
                                                                     : "reading",
                         .rows = reading.rows,
                         .rows_estimated = reading.rows_estimated});
    if (!is_done) {
      is_known &= reading.rows_estimated != 0;
      rows_left += reading.rows_estimated - std::min(reading.rows, reading.rows_estimated);
      to.snapshot = "running";
    }
  }
  to.snapshot_rows_per_second = snapshot_rate_.rows_per_second;
  if (to.snapshot == "running" && is_known && snapshot_rate_.rows_per_second >= 1) {
    to.snapshot_seconds_left = static_cast<double>(rows_left) / snapshot_rate_.rows_per_second;
  }
  metrics_.SnapshotRowsLeft(rows_left);
}

void Pipeline::PublishStatus(std::string_view state) {
  const sources::SourceStatus source = source_->GetStatus();
  StatusSnapshot snapshot;
  snapshot.pipeline = config_.pipeline;
  snapshot.state = state;
  snapshot.output_log_bytes = store_->OutputLogBytes();
  snapshot.source.slot = source.slot;
  snapshot.source.connected = source.connected;
  snapshot.source.confirmed_lsn = source.confirmed_lsn;
  snapshot.source.received_lsn = source.received_lsn;
  if (source.server_lsn > source.confirmed_lsn) {
    snapshot.source.lag_bytes = source.server_lsn.value() - source.confirmed_lsn.value();
  }
  snapshot.source.retained_wal_bytes = source.retained_wal_bytes;
  snapshot.source.wal_status = source.wal_status;
  snapshot.source.snapshot = source.snapshot_running ? "running" : "done";
  snapshot.source.snapshot_rows = source.snapshot_rows;
  DescribeReadings(source, snapshot.source);
  snapshot.source.last_error = source.last_error;
  snapshot.source.rows_per_second = source_rate_.rows_per_second;
  for (const sources::PausedTable& paused : source.paused_tables) {
    snapshot.source.paused_tables.push_back({paused.table, paused.reason});
  }
  for (const sources::PausedTable& left_out : source.left_out_tables) {
    snapshot.source.left_out_tables.push_back({left_out.table, left_out.reason});
  }
  for (const sources::PausedTable& waits : waiting_) {
    if (std::none_of(source.left_out_tables.begin(), source.left_out_tables.end(),
                     [&](const auto& left_out) { return left_out.table == waits.table; })) {
      snapshot.source.left_out_tables.push_back({waits.table, waits.reason});
    }
  }
  metrics_.TablesPaused(source.paused_tables.size());
  metrics_.ChangesLeftOut(source.paused_changes -
                          std::exchange(paused_changes_, source.paused_changes));
  if (source.unconfirmed_commit_ts != 0) {
    snapshot.source.lag_seconds =
        std::max(0.0, static_cast<double>(NowMicros() - source.unconfirmed_commit_ts) / 1e6);
  }
  const std::map<std::string, uint64_t> dead_letters = dead_letters_->CountByStream();
  for (size_t i = 0; i < states_.size() && engine_; ++i) {
    StatusSnapshot::Stream stream;
    stream.name = states_[i].stream;
    stream.rows = engine_->stream_rows(i) + earlier_.stream_rows[stream.name];
    if (const auto found = dead_letters.find(stream.name); found != dead_letters.end()) {
      stream.dead_letters = found->second;
    }
    stream.state_bytes = i < state_bytes_.size() ? state_bytes_[i] : 0;
    snapshot.streams.push_back(std::move(stream));
  }
  for (const SinkWriter* writer : sinks_.writers()) {
    const size_t i = snapshot.sinks.size();
    snapshot.sinks.push_back(DescribeSink(*writer));
    snapshot.sinks.back().rows_per_second =
        i < sink_rates_.size() ? sink_rates_[i].rows_per_second : 0;
    metrics_.SinkLag(writer->options().name, snapshot.sinks.back().lag_rows,
                     snapshot.sinks.back().lag_seconds);
  }
  metrics_.SourceLag(snapshot.source.lag_bytes, snapshot.source.lag_seconds);
  metrics_.SlotRetainsWal(snapshot.source.retained_wal_bytes);
  metrics_.OutputLogSize(snapshot.output_log_bytes);
  metrics_.QueueHolds("engine", hand_over_.WaitingBytes());
  JudgeReadiness(source, snapshot);
  metrics_.Ready(snapshot.ready);
  if (snapshot.state != last_state_) {
    log_.Info("Pipeline state changed", {{"state", snapshot.state}});
    last_state_ = snapshot.state;
  }
  board_.Publish(std::move(snapshot));
}

// Ready means that changes really flow: a heartbeat came back through the slot within three
// intervals, and every sink's target has answered lately.
void Pipeline::JudgeReadiness(const sources::SourceStatus& source, StatusSnapshot& snapshot) const {
  const auto now = steady_clock::now();
  const bool heartbeats = config_.source.heartbeat_interval.count() > 0;
  const auto interval =
      heartbeats ? config_.source.heartbeat_interval : std::chrono::milliseconds(10'000);
  const auto seen = heartbeats ? source.heartbeat_seen : source.keepalive_seen;
  if (snapshot.state != "streaming") {
    snapshot.not_ready_reason = "the pipeline is " + snapshot.state;
  } else if (!source.connected) {
    snapshot.state = "connecting";
    snapshot.not_ready_reason =
        fmt::format("the source is not connected{}{}", source.last_error.empty() ? "" : ": ",
                    source.last_error);
  } else if (source.snapshot_running) {
    snapshot.state = "snapshot";
    snapshot.not_ready_reason = "the tables are being read";
  } else if (!seen || now - *seen > 3 * interval) {
    snapshot.state = "catching_up";
    snapshot.not_ready_reason = fmt::format(
        "no heartbeat has come back through the slot within {} ms", (3 * interval).count());
  } else {
    for (const SinkWriter* writer : sinks_.writers()) {
      const SinkWriter::Progress progress = writer->GetProgress();
      const bool flows = progress.state == "flowing" || progress.state == "idle";
      if (!flows) {
        snapshot.not_ready_reason =
            fmt::format("sink '{}' is {}{}{}", writer->options().name, progress.state,
                        progress.last_error.empty() ? "" : ": ", progress.last_error);
        return;
      }
      if (const auto silence = now - progress.acknowledged; silence > 3 * interval) {
        snapshot.not_ready_reason =
            fmt::format("sink '{}' has acknowledged nothing for {} s", writer->options().name,
                        std::chrono::duration_cast<std::chrono::seconds>(silence).count());
        return;
      }
    }
    snapshot.ready = true;
  }
}

}  // namespace millrace::pipeline
