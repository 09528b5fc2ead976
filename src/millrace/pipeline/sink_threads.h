// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "millrace/common/status.h"
#include "millrace/config/pipeline_config.h"
#include "millrace/pipeline/sink_writer.h"
#include "millrace/pipeline/stream_board.h"
#include "millrace/pipeline/stream_plan.h"
#include "millrace/sinks/sink.h"
#include "millrace/storage/store.h"
#include "millrace/telemetry/log.h"
#include "millrace/telemetry/pipeline_metrics.h"

namespace millrace::pipeline {

// SinkThreads holds the sinks of a pipeline, each with its SinkWriter and thread mr-sink-<name>.
//
// Lifecycle: Plan(), Start(), and again for every later plan: a sink that uses other streams by
// then is made anew, and goes on where its target stands; the others do not notice. Stop() ends
// all.
//
// Threads: the caller's; the writers' progress from any.
class SinkThreads {
 public:
  // `fail` is called, on a sink's thread, with a failure that ends the run.
  SinkThreads(const config::PipelineConfig& config, std::vector<const sinks::SinkType*> types,
              storage::Store& store, const StreamBoard& streams, DeadLetters& dead_letters,
              telemetry::PipelineMetrics& metrics, telemetry::Logger log,
              std::function<void(Status)> fail);

  // What the sinks ask of the streams.
  std::vector<sinks::StreamUse> Uses() const;

  // Makes what `plan` needs, beside what runs. A failure names the sink, and leaves the names of
  // its streams in `at_fault`.
  Status Plan(const StreamPlan& plan, std::set<std::string>& at_fault);
  // Starts what Plan() made, in place of what ran.
  void Start();

  // Delivers what is readable until `deadline` or `failed`, from where on as little as possible.
  void Stop(std::stop_token failed, std::chrono::steady_clock::time_point deadline);

  // In the order of the configuration; those that run.
  std::vector<const SinkWriter*> writers() const;

 private:
  struct Entry {
    std::set<std::string> streams;
    std::unique_ptr<SinkWriter> writer;
    std::stop_source stop;
    std::stop_source drain;
    std::jthread thread;
  };
  using EntryPtr = std::unique_ptr<Entry>;

  Status Make(size_t number, const StreamPlan& plan, std::set<std::string> streams);

  // Constant after construction.
  const config::PipelineConfig& config_;
  const std::vector<const sinks::SinkType*> types_;
  storage::Store& store_;
  const StreamBoard& streams_;
  DeadLetters& dead_letters_;
  telemetry::PipelineMetrics& metrics_;
  const telemetry::Logger log_;
  const std::function<void(Status)> fail_;

  std::vector<EntryPtr> running_;  // of each sink of the configuration; null before Start()
  std::vector<EntryPtr> planned_;  // null: what runs goes on
};

}  // namespace millrace::pipeline
