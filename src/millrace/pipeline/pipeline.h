// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "millrace/common/mutex.h"
#include "millrace/common/status.h"
#include "millrace/config/pipeline_config.h"
#include "millrace/pipeline/batch_loop.h"
#include "millrace/pipeline/capture_loop.h"
#include "millrace/pipeline/dead_letter_desk.h"
#include "millrace/pipeline/hand_over.h"
#include "millrace/pipeline/sink_threads.h"
#include "millrace/pipeline/status_snapshot.h"
#include "millrace/pipeline/stream_plan.h"
#include "millrace/sinks/sink.h"
#include "millrace/sources/source.h"
#include "millrace/sql/sql_engine.h"
#include "millrace/storage/store.h"
#include "millrace/telemetry/log.h"
#include "millrace/telemetry/pipeline_metrics.h"

namespace millrace::pipeline {

// What a pipeline is made of; components/ builds it from the configuration.
struct Parts {
  std::unique_ptr<storage::Store> store;
  std::unique_ptr<DeadLetters> dead_letters;  // of the store
  std::unique_ptr<sources::Source> source;
  std::unique_ptr<sql::SqlEngine> sql;
  // The type of each sink of the configuration, in its order.
  std::vector<const sinks::SinkType*> sink_types;
};

// Pipeline runs one configuration: source -> streams -> output log -> sinks, with everything
// durable in the Store. Where the source finds tables that come or go while it runs, engine and
// capture end at what is durable, and go on with a new plan, as do the sinks that it gives other
// streams. It owns all threads but those of the admin server:
//
//   mr-capture      reads the source                        stops on request
//   mr-engine       computes and commits micro-batches      when all that was given is durable
//   mr-sink-<name>  delivers to one sink                    when all that is readable is delivered
//   the caller's    publishes status, drops delivered output, waits for the stop
//
// Threads: Run() is called once.
class Pipeline {
 public:
  Pipeline(const config::PipelineConfig& config, Parts parts, telemetry::PipelineMetrics& metrics,
           StatusBoard& board, telemetry::Logger log);

  // Runs until `stop` is requested and what was accepted is flushed (at most 8 s), or until a
  // failure that a retry cannot mend, which it returns.
  Status Run(std::stop_token stop);

  // Has a table of the source read again while streaming goes on. Any thread. kFailedPrecondition
  // with why it cannot be: a stream that only appends would show each row twice.
  Status ReadTableAgain(const std::string& table);

  // What an operator asks of the dead letters; see DeadLetterDesk. Any thread.
  Result<std::string> AnswerDeadLetters(const std::string& request) {
    return desk_.Answer(request);
  }

 private:
  struct RetainedOutput {
    std::chrono::steady_clock::time_point at;
    Offset end;
    uint64_t log_bytes = 0;
  };

  Status ConnectSource(std::stop_token stop);
  Status Plan();
  StreamPlanInputs MakePlanInputs() const;
  void Start();
  void StopEngine();
  void StopAll();
  bool Supervise();
  void PublishStatus(std::string_view state);
  void DescribeReadings(const sources::SourceStatus& source, StatusSnapshot::Source& to) const;
  StatusSnapshot::Sink DescribeSink(const SinkWriter& writer) const;
  void JudgeReadiness(const sources::SourceStatus& source, StatusSnapshot& snapshot) const;
  void DropDeliveredOutput();
  void MeasureRates();
  // Ends the run; the first failure is the one that is returned.
  void Fail(Status status);
  Status FirstFailure() const;

  // Constant after construction.
  const config::PipelineConfig& config_;
  telemetry::PipelineMetrics& metrics_;
  StatusBoard& board_;
  const telemetry::Logger log_;

  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<DeadLetters> dead_letters_;
  std::unique_ptr<sources::Source> source_;
  std::unique_ptr<sql::SqlEngine> sql_;
  StreamPlan plan_;  // once started, the engine's
  StreamBoard streams_;
  HandOver hand_over_;
  DeadLetterDesk desk_;
  std::unique_ptr<CaptureLoop> capture_;
  std::unique_ptr<BatchLoop> engine_;
  SinkThreads sinks_;

  // Used by the thread of Run() only.
  struct PlannedState {
    std::string stream;
    std::vector<storage::StateTableId> tables;
  };
  std::vector<PlannedState> states_;           // of each stream
  std::vector<sources::PausedTable> waiting_;  // tables that streams wait for
  // Of the engines that an earlier plan had.
  struct Earlier {
    uint64_t source_rows = 0;
    TimestampMicros last_commit_ts = 0;
    std::map<std::string, uint64_t> stream_rows;
  } earlier_;
  std::deque<RetainedOutput> retained_;
  std::string last_state_;
  // Refreshed once a second.
  struct Rate {
    uint64_t rows = 0;
    double rows_per_second = 0;
    void Measure(uint64_t rows_now, double seconds) {
      rows_per_second = static_cast<double>(rows_now - rows) / seconds;
      rows = rows_now;
    }
  };
  std::chrono::steady_clock::time_point measured_at_ = std::chrono::steady_clock::now();
  Rate source_rate_;
  std::vector<Rate> sink_rates_;
  Rate snapshot_rate_;
  std::vector<uint64_t> state_bytes_;  // of each stream
  uint64_t paused_changes_ = 0;        // counted so far

  std::stop_source failed_;
  std::stop_source ending_;         // a failure, or a stop that was asked for
  std::stop_source capture_ended_;  // of the capture that runs, or `ending_`
  mutable Mutex mu_;
  // Guarded by mu_.
  Status failure_ MR_GUARDED_BY(mu_);
  // Of each table, the stream that only appends what it drives; nothing before the streams are
  // planned.
  std::optional<std::map<std::string, std::string>> append_only_ MR_GUARDED_BY(mu_);

  std::jthread capture_thread_;
  std::jthread engine_thread_;
};

}  // namespace millrace::pipeline
