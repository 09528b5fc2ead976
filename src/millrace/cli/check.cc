// SPDX-License-Identifier: Apache-2.0
// millrace check -c FILE
#include <cstdio>
#include <memory>
#include <stop_token>
#include <string>

#include <CLI/CLI.hpp>

#include "millrace/admin/status_client.h"
#include "millrace/admin/status_json.h"
#include "millrace/cli/command.h"
#include "millrace/components/registry.h"
#include "millrace/telemetry/log.h"

namespace millrace::cli {

namespace {

using sources::CheckFinding;

// Prints one finding; true if it is a problem.
bool Print(const CheckFinding& finding) {
  const char* level = finding.level == CheckFinding::Level::kOk        ? "ok"
                      : finding.level == CheckFinding::Level::kWarning ? "warning"
                                                                       : "error";
  std::printf("%-8s %s: %s\n", level, finding.subject.c_str(), finding.text.c_str());
  return finding.level == CheckFinding::Level::kError;
}

// What a running pipeline says of its tables; silent where none runs.
bool PrintPausedTables(const config::AdminConfig& admin) {
  if (!admin.is_configured) {
    return false;
  }
  const Result<std::string> json = admin::FetchStatus(admin.host, admin.port, admin.token);
  if (!json.ok()) {
    return false;
  }
  const Result<pipeline::StatusSnapshot> status = admin::ParseStatusJson(*json);
  bool has_problem = false;
  if (status.ok()) {
    for (const auto& paused : status->source.paused_tables) {
      has_problem |= Print({CheckFinding::Level::kError, "source", paused.reason});
    }
    for (const auto& left_out : status->source.left_out_tables) {
      Print({CheckFinding::Level::kWarning, "source", left_out.reason});
    }
  }
  return has_problem;
}

int Check(const std::string& file, const Components& components) {
  const auto config = LoadConfig(file, components);
  if (!config) {
    return kExitUsage;
  }
  const telemetry::Logger log =
      telemetry::MakeStderrLogger(telemetry::LogLevel::kError, telemetry::LogFormat::kText);
  bool has_problem = false;
  for (const CheckFinding& finding : components::CheckSource(*config)) {
    has_problem |= Print(finding);
  }
  has_problem |= PrintPausedTables(config->admin);
  for (const config::SinkConfig& sink : config->sinks) {
    const std::string subject = "sink '" + sink.name + "'";
    const Status status = components::FindSinkType(sink.type).check(sink.section, log);
    has_problem |=
        Print(status.ok() ? CheckFinding{CheckFinding::Level::kOk, subject, "reachable"}
                          : CheckFinding{CheckFinding::Level::kError, subject, status.message()});
  }
  return has_problem ? kExitFailed : kExitFine;
}

}  // namespace

void AddCheckCommand(CLI::App& app, CommandLine& line) {
  CLI::App* command =
      app.add_subcommand("check", "Connects to source and sinks, and says what is missing there");
  auto file = std::make_shared<std::string>();
  AddConfigOption(*command, *file);
  command->callback(
      [file, &line] { line.run = [file, &line] { return Check(*file, line.components); }; });
}

}  // namespace millrace::cli
