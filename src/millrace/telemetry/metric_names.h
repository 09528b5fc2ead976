// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string_view>

// Every metric: its name, its labels, and the question that it answers. docs/reference/metrics.md
// is made from this table.
namespace millrace::telemetry {

enum class MetricType { kCounter, kGauge, kHistogram };

// Bucket bounds of a histogram.
enum class MetricBuckets { kNone, kSeconds, kRows };

struct MetricSpec {
  std::string_view name;
  MetricType type = MetricType::kGauge;
  std::array<std::string_view, 2> labels{};  // besides `pipeline`, which all have; empty: none
  std::string_view help;
  std::string_view question;
  MetricBuckets buckets = MetricBuckets::kNone;
};

namespace metric {

inline constexpr MetricSpec kReady{
    .name = "millrace_ready",
    .help = "1 if changes really flow, as /readyz says; else 0.",
    .question =
        "Does the pipeline work? Page somebody when it is 0 for longer than a restart takes.",
};
inline constexpr MetricSpec kSourceEvents{
    .name = "millrace_source_events_total",
    .type = MetricType::kCounter,
    .labels = {"op"},
    .help = "Row changes read from the source, by insert, update, delete, truncate and read.",
    .question = "How much changes in the source, and in what way?",
};
inline constexpr MetricSpec kSourcePausedTables{
    .name = "millrace_source_paused_tables",
    .help = "Tables whose changes are left out, because what became of their columns is not known.",
    .question = "Does a table have to be read again? `millrace status` names it, with the reason.",
};
inline constexpr MetricSpec kSourcePausedChanges{
    .name = "millrace_source_paused_changes_total",
    .type = MetricType::kCounter,
    .help = "Row changes that were left out because their table is paused.",
    .question = "How much do the mirrors of paused tables lack?",
};
inline constexpr MetricSpec kSourceLagBytes{
    .name = "millrace_source_lag_bytes",
    .help = "WAL between the server's newest position and the confirmed one.",
    .question = "How far is Millrace behind the source?",
};
inline constexpr MetricSpec kSourceLagSeconds{
    .name = "millrace_source_lag_seconds",
    .help = "Age of the oldest source transaction that is not durable in data_dir.",
    .question = "For how long would a lost source be missing changes here?",
};
inline constexpr MetricSpec kSlotRetainedWalBytes{
    .name = "millrace_slot_retained_wal_bytes",
    .help = "WAL that the server keeps on its disk for the replication slot.",
    .question = "Does this pipeline fill the database's disk?",
};
inline constexpr MetricSpec kSnapshotRowsLeft{
    .name = "millrace_snapshot_left_rows",
    .help = "Rows of tables that are still to be read beside the stream, as the server guesses.",
    .question = "How long until the tables are complete? Beside the rate of op=read events.",
};
inline constexpr MetricSpec kOutputLogSizeBytes{
    .name = "millrace_output_log_size_bytes",
    .help = "Size of the output log in data_dir.",
    .question =
        "How near is storage.max_bytes, at which a stuck sink is parked or the source waits?",
};
inline constexpr MetricSpec kOutputLogCommitSeconds{
    .name = "millrace_output_log_commit_seconds",
    .type = MetricType::kHistogram,
    .help =
        "Time to make one micro-batch durable: state, outputs and position in one synced write.",
    .question = "Is the disk of data_dir fast enough?",
    .buckets = MetricBuckets::kSeconds,
};
inline constexpr MetricSpec kBatchRows{
    .name = "millrace_batch_rows",
    .type = MetricType::kHistogram,
    .help = "Source changes in one micro-batch.",
    .question = "Are batches as large as the load asks, or is batch.max_rows the bound?",
    .buckets = MetricBuckets::kRows,
};
inline constexpr MetricSpec kBatchSeconds{
    .name = "millrace_batch_seconds",
    .type = MetricType::kHistogram,
    .labels = {"stage"},
    .help = "Time of one micro-batch in each stage of the engine.",
    .question = "Where does the engine's time go?",
    .buckets = MetricBuckets::kSeconds,
};
inline constexpr MetricSpec kSinkRows{
    .name = "millrace_sink_rows_total",
    .type = MetricType::kCounter,
    .labels = {"sink"},
    .help = "Rows that are durable in the sink.",
    .question = "How much does each sink take?",
};
inline constexpr MetricSpec kSinkWriteSeconds{
    .name = "millrace_sink_write_seconds",
    .type = MetricType::kHistogram,
    .labels = {"sink"},
    .help = "Time of one delivery, from its first byte to the target's acknowledgement.",
    .question = "Is a sink slow?",
    .buckets = MetricBuckets::kSeconds,
};
inline constexpr MetricSpec kSinkErrors{
    .name = "millrace_sink_errors_total",
    .type = MetricType::kCounter,
    .labels = {"sink", "code"},
    .help = "Deliveries and connections that failed, by kind of failure.",
    .question = "Is a sink down, and does it refuse us or not answer?",
};
inline constexpr MetricSpec kSinkLagRows{
    .name = "millrace_sink_lag_rows",
    .labels = {"sink"},
    .help = "Rows in the output log that the sink does not have yet.",
    .question = "Which sink is behind, and does it catch up?",
};
inline constexpr MetricSpec kSinkLagSeconds{
    .name = "millrace_sink_lag_seconds",
    .labels = {"sink"},
    .help = "Age of the oldest source transaction that the sink does not have yet.",
    .question = "How old is what a reader of the sink sees?",
};
inline constexpr MetricSpec kDeadLetterRows{
    .name = "millrace_dead_letter_rows_total",
    .type = MetricType::kCounter,
    .labels = {"stream", "reason"},
    .help = "Rows put into the dead letter queue.",
    .question = "Does data arrive that cannot be delivered?",
};
inline constexpr MetricSpec kBackpressureActive{
    .name = "millrace_backpressure_active",
    .labels = {"stage"},
    .help = "1 while a full bounded queue makes this stage wait; else 0.",
    .question = "Which stage is the bottleneck?",
};
inline constexpr MetricSpec kQueueBytes{
    .name = "millrace_queue_bytes",
    .labels = {"queue"},
    .help = "Bytes that wait in a bounded queue.",
    .question = "Where do rows wait?",
};
inline constexpr MetricSpec kEndToEndSeconds{
    .name = "millrace_end_to_end_seconds",
    .type = MetricType::kHistogram,
    .labels = {"sink"},
    .help =
        "From the commit in the source to durable in the sink, for the oldest row of a delivery.",
    .question = "How fresh is the sink? Depends on both machines' clocks.",
    .buckets = MetricBuckets::kSeconds,
};
inline constexpr MetricSpec kProcessResidentMemory{
    .name = "process_resident_memory_bytes",
    .help = "Resident memory of the process.",
    .question = "Is memory bounded?",
};
inline constexpr MetricSpec kProcessCpuSeconds{
    .name = "process_cpu_seconds_total",
    .type = MetricType::kCounter,
    .help = "User and system CPU time of the process.",
    .question = "What does the pipeline cost?",
};
inline constexpr MetricSpec kProcessOpenFds{
    .name = "process_open_fds",
    .help = "Open file descriptors of the process.",
    .question = "Do descriptors leak?",
};
inline constexpr MetricSpec kProcessMaxFds{
    .name = "process_max_fds",
    .help = "The most file descriptors that the process may open.",
    .question = "How near is the limit?",
};
inline constexpr MetricSpec kProcessStartTime{
    .name = "process_start_time_seconds",
    .help = "When the process started, in seconds since 1970-01-01 UTC.",
    .question = "Did it restart?",
};

}  // namespace metric

inline constexpr std::array kAllMetrics = {
    &metric::kReady,
    &metric::kSourceEvents,
    &metric::kSourcePausedTables,
    &metric::kSourcePausedChanges,
    &metric::kSourceLagBytes,
    &metric::kSourceLagSeconds,
    &metric::kSlotRetainedWalBytes,
    &metric::kSnapshotRowsLeft,
    &metric::kOutputLogSizeBytes,
    &metric::kOutputLogCommitSeconds,
    &metric::kBatchRows,
    &metric::kBatchSeconds,
    &metric::kSinkRows,
    &metric::kSinkWriteSeconds,
    &metric::kSinkErrors,
    &metric::kSinkLagRows,
    &metric::kSinkLagSeconds,
    &metric::kDeadLetterRows,
    &metric::kBackpressureActive,
    &metric::kQueueBytes,
    &metric::kEndToEndSeconds,
    &metric::kProcessResidentMemory,
    &metric::kProcessCpuSeconds,
    &metric::kProcessOpenFds,
    &metric::kProcessMaxFds,
    &metric::kProcessStartTime,
};

}  // namespace millrace::telemetry
