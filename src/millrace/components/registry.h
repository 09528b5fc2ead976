// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/config/pipeline_config.h"
#include "millrace/model/source_state.h"
#include "millrace/pipeline/pipeline.h"
#include "millrace/sinks/sink.h"
#include "millrace/telemetry/log.h"

namespace millrace::components {

// The one list of every sink type in this binary, and the one place that names concrete sources,
// stores and SQL engines.

const std::vector<sinks::SinkType>& SinkTypes();

// The sink type of a checked configuration. REQUIRES: it is in SinkTypes().
const sinks::SinkType& FindSinkType(const std::string& type);

// Judges a stream's SQL without a connection, for lint.
void CheckStreamSql(const config::StreamConfig& stream, config::Findings& findings);

// Opens data_dir and makes the source and the SQL engine of a configuration; connects nowhere.
Result<pipeline::Parts> MakeParts(const config::PipelineConfig& config,
                                  const telemetry::Logger& log);

// Connects to the source and says what is missing there, and how to mend it. Changes nothing.
std::vector<sources::CheckFinding> CheckSource(const config::PipelineConfig& config);

// The SQL by which a DBA installs what `source.capture_ddl` needs.
std::string CaptureDdlScript();

// What data_dir knows about the source; nothing if data_dir was never made. kFailedPrecondition if
// another process holds it.
Result<std::optional<SourceState>> ReadSourceState(const config::PipelineConfig& config);

// The dead letters of a pipeline that does not run; nothing if data_dir was never made.
// kFailedPrecondition if another process holds it.
struct StoredDeadLetters {
  std::unique_ptr<storage::Store> store;
  std::unique_ptr<pipeline::DeadLetters> letters;
};
Result<std::optional<StoredDeadLetters>> OpenDeadLetters(const config::PipelineConfig& config);

// The slot on the server, as lines of text, with the position of `state` if there is one.
Result<std::string> ShowSlot(const config::PipelineConfig& config, const SourceState* state);

// Drops the slot; true if there was one. kUnavailable while it is in use.
Result<bool> DropSlot(const config::PipelineConfig& config);

struct AdoptedSlot {
  SourcePosition from;
  SourcePosition to;
  bool made_slot = false;
};

// Lets data_dir go on, with the next epoch, at the slot of the server that source.url reaches.
// kFailedPrecondition if the database did not move, or another process holds data_dir.
Result<AdoptedSlot> AdoptSlot(const config::PipelineConfig& config);

}  // namespace millrace::components
