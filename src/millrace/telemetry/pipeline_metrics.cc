// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/pipeline_metrics.h"

#include <algorithm>

namespace millrace::telemetry {

PipelineMetrics::PipelineMetrics(MetricsRegistry& registry)
    : registry_(registry),
      ready_(registry.GetGauge(metric::kReady)),
      source_lag_bytes_(registry.GetGauge(metric::kSourceLagBytes)),
      source_lag_seconds_(registry.GetGauge(metric::kSourceLagSeconds)),
      slot_retained_wal_bytes_(registry.GetGauge(metric::kSlotRetainedWalBytes)),
      snapshot_rows_left_(registry.GetGauge(metric::kSnapshotRowsLeft)),
      source_paused_tables_(registry.GetGauge(metric::kSourcePausedTables)),
      source_paused_changes_(registry.GetCounter(metric::kSourcePausedChanges)),
      output_log_size_bytes_(registry.GetGauge(metric::kOutputLogSizeBytes)),
      output_log_commit_seconds_(registry.GetHistogram(metric::kOutputLogCommitSeconds)),
      batch_rows_(registry.GetHistogram(metric::kBatchRows)) {
  // Counters begin at 0 rather than with their first event, so that rate() sees that event.
  for (const std::string_view op : {"insert", "update", "delete", "truncate", "read"}) {
    registry.GetCounter(metric::kSourceEvents, {op});
  }
}

void PipelineMetrics::EventsRead(std::string_view op, uint64_t count) {
  registry_.GetCounter(metric::kSourceEvents, {op}).Increment(static_cast<double>(count));
}

void PipelineMetrics::SourceLag(uint64_t bytes, double seconds) {
  source_lag_bytes_.Set(static_cast<double>(bytes));
  source_lag_seconds_.Set(seconds);
}

void PipelineMetrics::SlotRetainsWal(uint64_t bytes) {
  slot_retained_wal_bytes_.Set(static_cast<double>(bytes));
}

void PipelineMetrics::SnapshotRowsLeft(uint64_t rows) {
  snapshot_rows_left_.Set(static_cast<double>(rows));
}

void PipelineMetrics::TablesPaused(uint64_t count) {
  source_paused_tables_.Set(static_cast<double>(count));
}

void PipelineMetrics::ChangesLeftOut(uint64_t count) {
  source_paused_changes_.Increment(static_cast<double>(count));
}

void PipelineMetrics::Ready(bool ready) { ready_.Set(ready ? 1 : 0); }

void PipelineMetrics::BatchCommitted(uint64_t rows, double commit_seconds) {
  batch_rows_.Observe(static_cast<double>(rows));
  output_log_commit_seconds_.Observe(commit_seconds);
}

void PipelineMetrics::BatchStageRan(std::string_view stage, double seconds) {
  registry_.GetHistogram(metric::kBatchSeconds, {stage}).Observe(seconds);
}

void PipelineMetrics::OutputLogSize(uint64_t bytes) {
  output_log_size_bytes_.Set(static_cast<double>(bytes));
}

void PipelineMetrics::RowsDelivered(std::string_view sink, uint64_t rows, double seconds) {
  registry_.GetCounter(metric::kSinkRows, {sink}).Increment(static_cast<double>(rows));
  registry_.GetHistogram(metric::kSinkWriteSeconds, {sink}).Observe(seconds);
}

void PipelineMetrics::EndToEnd(std::string_view sink, double seconds) {
  registry_.GetHistogram(metric::kEndToEndSeconds, {sink}).Observe(std::max(seconds, 0.0));
}

void PipelineMetrics::DeliveryFailed(std::string_view sink, Code code) {
  registry_.GetCounter(metric::kSinkErrors, {sink, CodeName(code)}).Increment();
}

void PipelineMetrics::SinkLag(std::string_view sink, uint64_t rows, double seconds) {
  registry_.GetGauge(metric::kSinkLagRows, {sink}).Set(static_cast<double>(rows));
  registry_.GetGauge(metric::kSinkLagSeconds, {sink}).Set(seconds);
}

void PipelineMetrics::RowsDeadLettered(std::string_view stream, std::string_view reason,
                                       uint64_t count) {
  registry_.GetCounter(metric::kDeadLetterRows, {stream, reason})
      .Increment(static_cast<double>(count));
}

void PipelineMetrics::BackpressureApplied(std::string_view stage) {
  registry_.GetGauge(metric::kBackpressureActive, {stage}).Set(1);
}

void PipelineMetrics::BackpressureReleased(std::string_view stage) {
  registry_.GetGauge(metric::kBackpressureActive, {stage}).Set(0);
}

void PipelineMetrics::QueueHolds(std::string_view queue, uint64_t bytes) {
  registry_.GetGauge(metric::kQueueBytes, {queue}).Set(static_cast<double>(bytes));
}

}  // namespace millrace::telemetry
