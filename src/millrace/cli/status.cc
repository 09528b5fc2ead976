// SPDX-License-Identifier: Apache-2.0
// millrace status -c FILE [--json]
#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "millrace/admin/status_client.h"
#include "millrace/admin/status_json.h"
#include "millrace/admin/status_text.h"
#include "millrace/cli/command.h"

namespace millrace::cli {

namespace {

struct StatusOptions {
  std::string file;
  bool json = false;
};

int PrintStatus(const StatusOptions& options, const Components& components) {
  const auto config = LoadConfig(options.file, components);
  if (!config) {
    return kExitUsage;
  }
  if (const Status status = CheckCanBeAsked(*config); !status.ok()) {
    return Fail(status);
  }
  const Result<std::string> json =
      admin::FetchStatus(config->admin.host, config->admin.port, config->admin.token);
  if (!json.ok()) {
    return Fail(json.status());
  }
  if (options.json) {
    std::puts(json->c_str());
    return kExitFine;
  }
  const Result<pipeline::StatusSnapshot> status = admin::ParseStatusJson(*json);
  if (!status.ok()) {
    return Fail(status.status());
  }
  std::fputs(admin::RenderStatusText(*status).c_str(), stdout);
  return kExitFine;
}

}  // namespace

void AddStatusCommand(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("status", "Says how a running pipeline is");
  auto options = std::make_shared<StatusOptions>();
  AddConfigOption(*command, options->file);
  command->add_flag("--json", options->json, "The whole of it, for programs");
  command->callback([options, &line] {
    line.run = [options, &line] { return PrintStatus(*options, line.components); };
  });
}

}  // namespace millrace::cli
