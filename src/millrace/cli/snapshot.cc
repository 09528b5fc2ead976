// SPDX-License-Identifier: Apache-2.0
// millrace snapshot -c FILE TABLE
#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "millrace/admin/status_client.h"
#include "millrace/cli/command.h"

namespace millrace::cli {

namespace {

struct SnapshotOptions {
  std::string file;
  std::string table;
};

int ReadAgain(const SnapshotOptions& options, const Components& components) {
  const auto config = LoadConfig(options.file, components);
  if (!config) {
    return kExitUsage;
  }
  if (const Status status = CheckCanBeAsked(*config); !status.ok()) {
    return Fail(status);
  }
  const Status status = admin::RequestSnapshot(config->admin.host, config->admin.port,
                                               config->admin.token, options.table);
  if (!status.ok()) {
    return Fail(status);
  }
  std::printf("Table %s is being read again; `millrace status` says how far.\n",
              options.table.c_str());
  return kExitFine;
}

}  // namespace

void AddSnapshotCommand(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand(
      "snapshot", "Has a running pipeline read a table again, beside the stream");
  auto options = std::make_shared<SnapshotOptions>();
  AddConfigOption(*command, options->file);
  command->add_option("table", options->table, "A table of source.tables")
      ->required()
      ->option_text("TABLE");
  command->callback([options, &line] {
    line.run = [options, &line] { return ReadAgain(*options, line.components); };
  });
}

}  // namespace millrace::cli
