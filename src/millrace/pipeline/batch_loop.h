// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <stop_token>
#include <vector>

#include "millrace/common/status.h"
#include "millrace/pipeline/batch_writer.h"
#include "millrace/pipeline/dead_letters.h"
#include "millrace/pipeline/hand_over.h"
#include "millrace/pipeline/stream_board.h"
#include "millrace/pipeline/stream_plan.h"
#include "millrace/storage/store.h"
#include "millrace/telemetry/log.h"
#include "millrace/telemetry/pipeline_metrics.h"

namespace millrace::pipeline {

// BatchLoop is the engine: it turns each change batch into outputs and state and commits both, with
// the source position, as one synced write. Only then is the source told that it may forget. Where
// a batch brings a later version of a table, the streams follow first.
//
// Parts of a large transaction (model/change_batch.h) are committed as they come and count together
// with the last: the first pass applies the changes of joined tables to their state, the second
// makes the outputs. A transaction that is begun anew, or not gone on with, is dropped first.
//
// Threads: Run() is the body of mr-engine. Counters may be read from any thread.
class BatchLoop {
 public:
  struct Options {
    // An output log of this size makes the engine wait for the sinks.
    uint64_t output_log_bytes_max = 0;
    TimestampMicros last_commit_ts = 0;  // of an earlier engine
    BatchWriter::Limits writer;
  };

  // `confirm` is called with each position that has become durable.
  // `inputs` is what `plan` was made from; both follow the source's tables from here on.
  BatchLoop(StreamPlan& plan, StreamPlanInputs inputs, storage::Store& store, HandOver& hand_over,
            StreamBoard& streams, DeadLetters& dead_letters, Options options,
            std::function<void(SourcePosition)> confirm, telemetry::PipelineMetrics& metrics,
            telemetry::Logger log);

  // Until `stop` is requested and everything given is durable, or a failure.
  Status Run(std::stop_token stop);

  // Commit time of the newest durable transaction; 0 before the first.
  TimestampMicros last_commit_ts() const { return last_commit_ts_.load(); }
  // Changes that are durable, since the start of this process.
  uint64_t source_rows() const { return source_rows_.load(); }
  // Outputs of a stream, since the start of this process.
  uint64_t stream_rows(size_t stream) const { return stream_rows_[stream].load(); }

 private:
  Status Process(ChangeBatch& batch);
  // Brings the plan up to the tables of `batch`, and those up to the plan. The streams that
  // changed.
  Result<std::vector<StreamPtr>> FollowTables(ChangeBatch& batch);
  Status BeginPart(const ChangeBatch& batch);
  // The states that `batch` changes, having begun it.
  Result<std::vector<TableState*>> BeginStates(ChangeBatch& batch);
  Status MakeOutputs(ChangeBatch& batch, BatchWriter& writer);
  bool WaitForRoom(std::stop_token stop);
  // Appends the dead letters whose retry was asked for.
  Status SendLettersAgain();

  StreamPlan& plan_;
  StreamPlanInputs inputs_;
  storage::Store& store_;
  HandOver& hand_over_;
  StreamBoard& streams_;
  DeadLetters& dead_letters_;
  const Options options_;
  const std::function<void(SourcePosition)> confirm_;
  telemetry::PipelineMetrics& metrics_;
  const telemetry::Logger log_;
  std::vector<SourceNote> notes_;  // of the open transaction in parts
  SourcePosition position_;        // that is durable
  std::atomic<TimestampMicros> last_commit_ts_ = 0;
  std::atomic<uint64_t> source_rows_ = 0;
  std::vector<std::atomic<uint64_t>> stream_rows_;
};

}  // namespace millrace::pipeline
