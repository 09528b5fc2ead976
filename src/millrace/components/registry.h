// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/config/pipeline_config.h"
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

}  // namespace millrace::components
