// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "millrace/config/pipeline_config.h"

namespace millrace::cli {

// A page of `millrace docs`, written out of what the code declares.
struct ReferencePage {
  std::string name;  // "metrics"
  std::function<std::string()> text;
};

// What the commands know of the parts in this binary.
struct Components {
  std::vector<config::SinkTypeSpec> sink_types;
  // Judges a stream's SQL for lint; see config::LoadOptions.
  std::function<void(const config::StreamConfig&, config::Findings&)> check_sql;
  // Besides `config`.
  std::vector<ReferencePage> pages;
};

// Runs the command that the arguments name and returns the exit code of the process.
int Main(int argc, char** argv, const Components& components);

}  // namespace millrace::cli
