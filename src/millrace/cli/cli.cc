// SPDX-License-Identifier: Apache-2.0
#include "millrace/cli/cli.h"

#include <cstdio>

#include <CLI/CLI.hpp>

#include "millrace/cli/command.h"

namespace millrace::cli {

namespace {

// Every command of this binary, in the order of the help.
constexpr AddCommand kCommands[] = {
    AddRunCommand, AddLintCommand, AddCheckCommand, AddStatusCommand,  AddSnapshotCommand,
    AddDlqCommand, AddSlotCommand, AddDocsCommand,  AddVersionCommand,
};

}  // namespace

int Main(int argc, char** argv, const Components& components) {
  CLI::App app("Streams committed PostgreSQL changes through SQL into ClickHouse, Redis and Kafka.",
               "millrace");
  app.set_version_flag("--version", "millrace " MILLRACE_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(36);
  CommandLine line{components, nullptr};
  for (const AddCommand add : kCommands) {
    add(app, line);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      return app.exit(error);  // --help and --version, on stdout
    }
    std::fprintf(stderr, "millrace: %s; see millrace --help\n", error.what());
    return kExitUsage;
  }
  return line.run();
}

void AddConfigOption(CLI::App& command, std::string& file) {
  command.add_option("-c,--config", file, "The configuration file")
      ->required()
      ->option_text("FILE");
}

std::optional<config::PipelineConfig> LoadConfig(const std::string& file,
                                                 const Components& components) {
  config::Findings findings;
  std::optional<config::PipelineConfig> loaded;
  if (const auto text = config::ReadConfigText(file, findings)) {
    loaded = config::LoadPipelineConfig(
        *text, file,
        {.sink_types = components.sink_types, .check_sql = components.check_sql, .read = {}},
        findings);
  }
  for (const config::Finding& finding : findings.all()) {
    std::fprintf(stderr, "%s\n", finding.ToString().c_str());
  }
  if (!loaded) {
    return std::nullopt;
  }
  if (const Status status = config::CheckSupported(*loaded); !status.ok()) {
    Fail(status);
    return std::nullopt;
  }
  return loaded;
}

Status CheckCanBeAsked(const config::PipelineConfig& config) {
  if (!config.admin.is_configured) {
    return FailedPrecondition(
        "the configuration has no `admin` section, so a running pipeline cannot be asked: add "
        "`admin: {listen: 127.0.0.1:7070}` and start it again");
  }
  return Status::Ok();
}

int Fail(const Status& status) {
  std::fprintf(stderr, "millrace: %s\n", status.message().c_str());
  return kExitFailed;
}

}  // namespace millrace::cli
