// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <stop_token>
#include <string>
#include <vector>

#include "millrace/common/backoff.h"
#include "millrace/common/status.h"
#include "millrace/config/pipeline_config.h"
#include "millrace/pipeline/hand_over.h"
#include "millrace/sources/source.h"
#include "millrace/storage/store.h"
#include "millrace/telemetry/log.h"
#include "millrace/telemetry/pipeline_metrics.h"

namespace millrace::pipeline {

// CaptureLoop reads the source and gives its changes to the engine, a batch at a time: at once to
// an idle engine, else when the trigger says so. It connects again, with growing waits, when the
// source breaks off, from what is durable by then. Where the source finds other tables than those
// of the plan, it ends: with a later plan another one goes on, over the source as it is.
//
// Threads: Run() is the body of mr-capture.
class CaptureLoop {
 public:
  struct Options {
    config::BatchLimits trigger;  // what closes a micro-batch while the engine is busy
    BackoffOptions backoff;
    sources::TableRoles table_roles;
  };

  CaptureLoop(sources::Source& source, storage::Store& store, HandOver& hand_over, Options options,
              telemetry::PipelineMetrics& metrics, telemetry::Logger log);

  // Until `stop`, or a failure that ends the run. The source is left open, so that it can be told
  // the last durable position when the engine has finished.
  Status Run(std::stop_token stop);
  // Run() ended because the source has other tables: it is connected, and a new plan is needed.
  bool needs_plan() const { return needs_plan_; }

 private:
  Status Serve(std::stop_token stop);
  bool IsPlanned() const;

  sources::Source& source_;
  storage::Store& store_;
  HandOver& hand_over_;
  const Options options_;
  telemetry::PipelineMetrics& metrics_;
  const telemetry::Logger log_;
  Backoff backoff_;
  bool is_connected_ = true;
  bool needs_plan_ = false;
};

}  // namespace millrace::pipeline
