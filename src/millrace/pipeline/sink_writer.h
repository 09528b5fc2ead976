// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>

#include "millrace/common/backoff.h"
#include "millrace/common/mutex.h"
#include "millrace/common/status.h"
#include "millrace/pipeline/dead_letters.h"
#include "millrace/pipeline/stream_board.h"
#include "millrace/sinks/sink.h"
#include "millrace/storage/store.h"
#include "millrace/telemetry/log.h"
#include "millrace/telemetry/pipeline_metrics.h"

namespace millrace::pipeline {

// A sink's plan and position in data_dir.
class StoredDeliveryLog : public sinks::DeliveryLog {
 public:
  StoredDeliveryLog(storage::Store& store, std::string sink)
      : store_(store), sink_(std::move(sink)) {}

  Result<State> Load() override;
  Status SavePlan(Offset delivered, std::string_view plan) override;
  Status SavePosition(Offset delivered) override;

 private:
  storage::Store& store_;
  const std::string sink_;
};

// SinkWriter delivers the output log to one sink, from the position that the sink's target holds.
// It connects again, with growing waits, after an error; other sinks do not notice. Rows that the
// target does not take become dead letters where their stream says so.
//
// Threads: Run() is the body of mr-sink-<name>; GetProgress() from any thread.
class SinkWriter {
 public:
  struct Options {
    std::string name;
    std::string type;
    std::set<StreamId> streams;
    // Those whose refused rows become dead letters.
    std::set<StreamId> dead_letter_streams;
    DeadLetters::NewestBy newest_by;
    config::BatchLimits limits;
    BackoffOptions backoff;
    // How often an idle sink's position is read, to see that the target is alive.
    std::chrono::milliseconds probe_interval{10'000};
  };

  // For status. The offsets are nothing until the target's position is known.
  struct Progress {
    std::string state = "connecting";
    std::optional<Offset> delivered;  // the target's position: what lies before it may be dropped
    std::optional<Offset> passed;     // from there to here no row is for this sink
    uint64_t rows = 0;
    TimestampMicros last_commit_ts = 0;  // of the newest delivered row
    std::chrono::steady_clock::time_point acknowledged;
    std::string last_error;
  };

  SinkWriter(Options options, std::unique_ptr<sinks::Sink> sink,
             std::unique_ptr<StoredDeliveryLog> log_of_deliveries, storage::Store& store,
             const StreamBoard& streams, DeadLetters& dead_letters,
             telemetry::PipelineMetrics& metrics, telemetry::Logger log);

  // Until `stop`, or a failure that ends the run. After `drain` is requested it returns once
  // everything readable is delivered.
  Status Run(std::stop_token stop, std::stop_token drain);

  const Options& options() const { return options_; }
  Progress GetProgress() const;
  // Rows count from those of an earlier writer of the sink. Before Run().
  void GoOnCounting(const Progress& earlier);

 private:
  Status Serve(std::stop_token stop, std::stop_token drain);
  Result<sinks::SinkPosition> OpenAtPosition(std::stop_token stop);
  Result<std::optional<sinks::DeliveryBatch>> Gather(Offset first, Offset scanned,
                                                     std::optional<Offset> pending_end,
                                                     std::stop_token stop, std::stop_token drain);
  // Tells the sink of newer versions of its streams: those that the rows of `batch` are of, or
  // those on the board.
  Status PrepareFor(const sinks::DeliveryBatch& batch, std::stop_token stop);
  Status PrepareNewest(std::stop_token stop);
  Status Prepare(const StreamPtr& stream, std::stop_token stop);
  Status Deliver(sinks::DeliveryBatch batch, std::stop_token stop);
  // Delivers `batch` but for the rows that the target refuses, which become dead letters.
  Status DeliverOrKeep(sinks::DeliveryBatch& batch, const std::stop_token& stop);
  // Makes dead letters of `refused`, unless a stream's bad rows end the run by `why`.
  Status Keep(const sinks::DeliveryBatch& batch, const Status& why,
              const sinks::RefusedRows& refused);
  // Takes the rows out of `batch` that the sink is not offered.
  void LeaveOut(sinks::DeliveryBatch& batch) const;
  Status Probe(Offset delivered);
  void SetState(std::string state, std::string error);

  // Constant after construction.
  const Options options_;
  const std::unique_ptr<StoredDeliveryLog> deliveries_;
  const std::unique_ptr<sinks::Sink> sink_;
  storage::Store& store_;
  const StreamBoard& streams_;
  DeadLetters& dead_letters_;
  telemetry::PipelineMetrics& metrics_;
  const telemetry::Logger log_;

  // Used by the writer thread only.
  std::map<StreamId, SchemaVersion> prepared_;  // what the open sink has been told
  Backoff backoff_;
  std::chrono::steady_clock::time_point last_contact_;

  mutable Mutex mu_;
  // Guarded by mu_.
  Progress progress_ MR_GUARDED_BY(mu_);
};

}  // namespace millrace::pipeline
