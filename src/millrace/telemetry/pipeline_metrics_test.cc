// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/pipeline_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace::telemetry {
namespace {

using testing::HasSubstr;

TEST(PipelineMetrics, CountersBeginAtZero) {
  MetricsRegistry registry("p");
  PipelineMetrics metrics(registry);
  EXPECT_THAT(registry.RenderText(),
              HasSubstr("millrace_source_events_total{pipeline=\"p\",op=\"delete\"} 0\n"));
}

TEST(PipelineMetrics, FactsBecomeNumbers) {
  MetricsRegistry registry("p");
  PipelineMetrics metrics(registry);
  metrics.EventsRead("insert", 10);
  metrics.SourceLag(4096, 1.5);
  metrics.SlotRetainsWal(8192);
  metrics.SnapshotRowsLeft(123);
  metrics.Ready(true);
  metrics.BatchCommitted(100, 0.002);
  metrics.BatchStageRan("query", 0.003);
  metrics.OutputLogSize(77);
  metrics.RowsDelivered("live", 50, 0.02);
  metrics.EndToEnd("live", -0.5);
  metrics.DeliveryFailed("live", Code::kUnavailable);
  metrics.SinkLag("live", 16240, 13.5);
  metrics.RowsDeadLettered("dim", "overflow", 3);
  metrics.BackpressureApplied("capture");
  metrics.BackpressureApplied("engine");
  metrics.BackpressureReleased("engine");
  metrics.QueueHolds("capture", 1000);
  const std::string text = registry.RenderText();
  for (const char* line : {
           "millrace_source_events_total{pipeline=\"p\",op=\"insert\"} 10\n",
           "millrace_source_lag_bytes{pipeline=\"p\"} 4096\n",
           "millrace_source_lag_seconds{pipeline=\"p\"} 1.5\n",
           "millrace_slot_retained_wal_bytes{pipeline=\"p\"} 8192\n",
           "millrace_snapshot_left_rows{pipeline=\"p\"} 123\n",
           "millrace_ready{pipeline=\"p\"} 1\n",
           "millrace_batch_rows_sum{pipeline=\"p\"} 100\n",
           "millrace_output_log_commit_seconds_count{pipeline=\"p\"} 1\n",
           "millrace_batch_seconds_count{pipeline=\"p\",stage=\"query\"} 1\n",
           "millrace_output_log_size_bytes{pipeline=\"p\"} 77\n",
           "millrace_sink_rows_total{pipeline=\"p\",sink=\"live\"} 50\n",
           "millrace_sink_write_seconds_count{pipeline=\"p\",sink=\"live\"} 1\n",
           "millrace_end_to_end_seconds_sum{pipeline=\"p\",sink=\"live\"} 0\n",
           "millrace_sink_errors_total{pipeline=\"p\",code=\"unavailable\",sink=\"live\"} 1\n",
           "millrace_sink_lag_rows{pipeline=\"p\",sink=\"live\"} 16240\n",
           "millrace_sink_lag_seconds{pipeline=\"p\",sink=\"live\"} 13.5\n",
           "millrace_dead_letter_rows_total{pipeline=\"p\",reason=\"overflow\",stream=\"dim\"} 3\n",
           "millrace_backpressure_active{pipeline=\"p\",stage=\"capture\"} 1\n",
           "millrace_backpressure_active{pipeline=\"p\",stage=\"engine\"} 0\n",
           "millrace_queue_bytes{pipeline=\"p\",queue=\"capture\"} 1000\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

}  // namespace
}  // namespace millrace::telemetry
