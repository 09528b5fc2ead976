// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "millrace/common/status.h"
#include "millrace/telemetry/metrics.h"

namespace millrace::telemetry {

// PipelineMetrics counts what a pipeline does: each method is a fact that happened or a state that
// holds. metric_names.h says what each number is for. Called once a batch or less, not once a row.
//
// Threads: any. `registry` outlives it.
class PipelineMetrics {
 public:
  explicit PipelineMetrics(MetricsRegistry& registry);

  // `op`: insert, update, delete, truncate, read.
  void EventsRead(std::string_view op, uint64_t count);
  void SourceLag(uint64_t bytes, double seconds);
  void SlotRetainsWal(uint64_t bytes);
  // About so many rows of tables are still to be read.
  void SnapshotRowsLeft(uint64_t rows);
  void TablesPaused(uint64_t count);
  // Row changes of paused tables, left out since the last call.
  void ChangesLeftOut(uint64_t count);
  void Ready(bool ready);

  // A micro-batch of `rows` source changes is durable; `commit_seconds` is its synced write.
  void BatchCommitted(uint64_t rows, double commit_seconds);
  // The time that a micro-batch spent in one stage of the engine, such as `state`, `query`,
  // `encode`.
  void BatchStageRan(std::string_view stage, double seconds);
  void OutputLogSize(uint64_t bytes);

  // `rows` are durable in the sink, `seconds` after the delivery began.
  void RowsDelivered(std::string_view sink, uint64_t rows, double seconds);
  // From source commit to durable in the sink, for the oldest row of a delivery. A negative time,
  // of clocks that disagree, counts as 0.
  void EndToEnd(std::string_view sink, double seconds);
  void DeliveryFailed(std::string_view sink, Code code);
  void SinkLag(std::string_view sink, uint64_t rows, double seconds);

  // `reason`: one of a few fixed words, never a message.
  void RowsDeadLettered(std::string_view stream, std::string_view reason, uint64_t count);

  void BackpressureApplied(std::string_view stage);
  void BackpressureReleased(std::string_view stage);
  void QueueHolds(std::string_view queue, uint64_t bytes);

 private:
  // Constant after construction.
  MetricsRegistry& registry_;
  const Gauge ready_;
  const Gauge source_lag_bytes_;
  const Gauge source_lag_seconds_;
  const Gauge slot_retained_wal_bytes_;
  const Gauge snapshot_rows_left_;
  const Gauge source_paused_tables_;
  const Counter source_paused_changes_;
  const Gauge output_log_size_bytes_;
  const Histogram output_log_commit_seconds_;
  const Histogram batch_rows_;
};

}  // namespace millrace::telemetry
