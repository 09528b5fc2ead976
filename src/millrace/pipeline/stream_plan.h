// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/config/pipeline_config.h"
#include "millrace/model/stream.h"
#include "millrace/model/table.h"
#include "millrace/pipeline/identity_map.h"
#include "millrace/pipeline/output_builder.h"
#include "millrace/pipeline/query_runner.h"
#include "millrace/pipeline/table_state.h"
#include "millrace/sinks/sink.h"
#include "millrace/sources/source.h"
#include "millrace/sql/sql_engine.h"
#include "millrace/storage/store.h"
#include "millrace/telemetry/log.h"

namespace millrace::pipeline {

// One stream, ready to run.
struct PlannedStream {
  TablePtr driving;
  std::unique_ptr<QueryRunner> query;  // null: a mirror
  std::unique_ptr<OutputBuilder> outputs;
  // What it keeps in data_dir: the addresses of its outputs, and the rows of the tables it reads.
  std::vector<storage::StateTableId> state;

  const StreamPtr& stream() const { return outputs->stream(); }
};

// What the configuration's streams come to on the tables as they are: which rows are kept as state,
// which SQL runs, what each output row is addressed by.
struct StreamPlan {
  std::vector<std::unique_ptr<IdentityMap>> identity_maps;
  std::vector<std::unique_ptr<TableState>> table_states;
  std::vector<PlannedStream> streams;
  sources::TableRoles table_roles;
  // The tables that it is for: those that were given, without those that are left out.
  std::vector<TablePtr> tables;
  // Streams that are not made, by name: the table that is not there yet or left out, and a
  // sentence.
  std::map<std::string, sources::PausedTable> waiting;
  // The streams by name, for the sinks.
  std::map<std::string, StreamPtr> by_name;
};

struct StreamPlanInputs {
  const config::PipelineConfig& config;
  std::vector<TablePtr> tables;  // as the plan is
  // Tables that may be left out, and those that are, with the reason.
  std::vector<std::string> candidates;
  std::map<std::string, std::string> left_out;
  // What the sinks ask of the streams.
  std::vector<sinks::StreamUse> uses;
  sql::SqlEngine& sql;
  storage::Store& store;
  telemetry::Logger log;
};

// kInvalidArgument or kFailedPrecondition with one sentence if streams and tables do not fit. A
// candidate whose streams do not fit is left out instead; with source.discover a stream waits whose
// table a pattern matches and that is not there.
Result<StreamPlan> PlanStreams(const StreamPlanInputs& inputs);

// Brings `plan` and `inputs.tables` up to `newer`, a later version of one of the tables: mirrors
// get a new version of their columns, streams with SQL are prepared again. The streams that
// changed. The same failures: what was written for an earlier version of the columns no longer
// fits.
Result<std::vector<StreamPtr>> FollowTable(const TablePtr& newer, StreamPlanInputs& inputs,
                                           StreamPlan& plan);

}  // namespace millrace::pipeline
