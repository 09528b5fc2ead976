// SPDX-License-Identifier: Apache-2.0
// millrace version [--failpoints]
#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "millrace/cli/command.h"
#include "millrace/common/failpoint.h"

namespace millrace::cli {

namespace {

int Version(bool failpoints) {
  if (!failpoints) {
    std::puts("millrace " MILLRACE_VERSION);
    return kExitFine;
  }
  for (const std::string_view name : failpoint::kAll) {
    std::puts(std::string(name).c_str());
  }
  return kExitFine;
}

}  // namespace

void AddVersionCommand(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("version", "Prints the version");
  auto failpoints = std::make_shared<bool>(false);
  command->add_flag("--failpoints", *failpoints,
                    "Prints the places at which MILLRACE_FAILPOINT can end the process");
  command->callback(
      [failpoints, &line] { line.run = [failpoints] { return Version(*failpoints); }; });
}

}  // namespace millrace::cli
