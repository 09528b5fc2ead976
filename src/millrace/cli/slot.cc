// SPDX-License-Identifier: Apache-2.0
// millrace slot -c FILE show|drop|adopt
#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "millrace/admin/status_client.h"
#include "millrace/admin/status_json.h"
#include "millrace/cli/command.h"
#include "millrace/components/registry.h"

namespace millrace::cli {

namespace {

// What a running pipeline says of its position; nothing if it cannot be asked.
std::string AskRunningPipeline(const config::PipelineConfig& config) {
  if (!config.admin.is_configured) {
    return "";
  }
  const Result<std::string> json =
      admin::FetchStatus(config.admin.host, config.admin.port, config.admin.token);
  if (!json.ok()) {
    return "";
  }
  const Result<pipeline::StatusSnapshot> status = admin::ParseStatusJson(*json);
  return status.ok() ? FormatLsn(status->source.confirmed_lsn) : "";
}

int Show(const config::PipelineConfig& config) {
  const Result<std::optional<SourceState>> state = components::ReadSourceState(config);
  if (!state.ok() && state.status().code() != Code::kFailedPrecondition) {
    return Fail(state.status());
  }
  const Result<std::string> text =
      components::ShowSlot(config, state.ok() && state->has_value() ? &**state : nullptr);
  if (!text.ok()) {
    return Fail(text.status());
  }
  std::fputs(text->c_str(), stdout);
  if (!state.ok()) {
    const std::string position = AskRunningPipeline(config);
    std::printf("%-17s %s\n", "data_dir",
                position.empty() ? state.status().message().c_str()
                                 : (position + ", of a running pipeline").c_str());
  } else if (!state->has_value()) {
    std::printf("%-17s not made yet\n", "data_dir");
  }
  return kExitFine;
}

int Drop(const config::PipelineConfig& config) {
  const Result<bool> dropped = components::DropSlot(config);
  if (!dropped.ok()) {
    return Fail(dropped.status());
  }
  std::printf("slot '%s' %s\n", config.source.slot.c_str(),
              *dropped ? "is dropped" : "does not exist");
  std::printf(
      "data_dir %s and publication '%s' stay: the data_dir cannot go on without the slot, and is "
      "of "
      "use only to `millrace slot adopt`\n",
      config.data_dir.c_str(), config.source.publication.c_str());
  return kExitFine;
}

int Adopt(const config::PipelineConfig& config) {
  const Result<components::AdoptedSlot> adopted = components::AdoptSlot(config);
  if (!adopted.ok()) {
    return Fail(adopted.status());
  }
  std::printf("%s slot '%s'; data_dir goes on at %s with epoch %u (it was at %s with epoch %u)\n",
              adopted->made_slot ? "made" : "took", config.source.slot.c_str(),
              FormatLsn(adopted->to.end_lsn).c_str(), adopted->to.epoch.value(),
              FormatLsn(adopted->from.end_lsn).c_str(), adopted->from.epoch.value());
  std::printf(
      "rows that changed between the two are not read: where there may be any, run `millrace "
      "snapshot` for their tables once the pipeline runs\n");
  return kExitFine;
}

}  // namespace

void AddSlotCommand(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("slot", "The replication slot of a pipeline");
  auto file = std::make_shared<std::string>();
  AddConfigOption(*command, *file);
  command->require_subcommand(1);
  const auto add = [&](const char* name, const char* description,
                       int (*run)(const config::PipelineConfig&)) {
    command->add_subcommand(name, description)->callback([file, run, &line] {
      line.run = [file, run, &line] {
        const auto config = LoadConfig(*file, line.components);
        return config ? run(*config) : kExitUsage;
      };
    });
  };
  add("show", "The slot, the server's and data_dir's positions", Show);
  add("drop", "Drops the slot, unless it is in use", Drop);
  add("adopt", "Goes on at a database that moved: a new epoch, at the slot that is there", Adopt);
}

}  // namespace millrace::cli
