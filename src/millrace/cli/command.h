// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "millrace/cli/cli.h"
#include "millrace/common/status.h"
#include "millrace/config/pipeline_config.h"

namespace CLI {
class App;
}

namespace millrace::cli {

// What a command returns from the process.
inline constexpr int kExitFine = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;  // or the configuration

// A command adds itself as a subcommand of `app`; its callback sets `run`, which Main() calls after
// all arguments were read. `components` outlives both.
struct CommandLine {
  const Components& components;
  std::function<int()> run;
};
using AddCommand = void (*)(CLI::App& app, CommandLine& line);

void AddCheckCommand(CLI::App& app, CommandLine& line);
void AddDlqCommand(CLI::App& app, CommandLine& line);
void AddDocsCommand(CLI::App& app, CommandLine& line);
void AddLintCommand(CLI::App& app, CommandLine& line);
void AddRunCommand(CLI::App& app, CommandLine& line);
void AddSlotCommand(CLI::App& app, CommandLine& line);
void AddSnapshotCommand(CLI::App& app, CommandLine& line);
void AddStatusCommand(CLI::App& app, CommandLine& line);
void AddVersionCommand(CLI::App& app, CommandLine& line);

// `-c FILE` of the commands about one pipeline; required.
void AddConfigOption(CLI::App& command, std::string& file);

// Reads the configuration of a command that acts on it. Findings go to stderr, warnings too. If
// there is an error, or the file asks for what this version does not run, nothing is returned and
// the command ends with kExitUsage.
std::optional<config::PipelineConfig> LoadConfig(const std::string& file,
                                                 const Components& components);

// Whether a running pipeline of this configuration can be reached: kFailedPrecondition if it has no
// `admin` section.
Status CheckCanBeAsked(const config::PipelineConfig& config);

// Prints the sentence of a failure on stderr, and returns the exit code that belongs to it.
int Fail(const Status& status);

}  // namespace millrace::cli
