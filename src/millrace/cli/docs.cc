// SPDX-License-Identifier: Apache-2.0
// millrace docs config|metrics|errors|capture-ddl
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "millrace/cli/command.h"
#include "millrace/config/reference_docs.h"

namespace millrace::cli {

namespace {

int PrintPage(const std::string& name, const Components& components) {
  std::string text;
  if (name == "config") {
    text = config::ConfigReference(components.sink_types);
  }
  for (const ReferencePage& page : components.pages) {
    if (page.name == name) {
      text = page.text();
    }
  }
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    return Fail(Unavailable("write the page to stdout: the other side does not take it"));
  }
  return kExitFine;
}

}  // namespace

void AddDocsCommand(CLI::App& app, CommandLine& line) {
  CLI::App* command =
      app.add_subcommand("docs", "Prints a reference page as Markdown, or SQL for a DBA");
  std::vector<std::string> names = {"config"};
  for (const ReferencePage& page : line.components.pages) {
    names.push_back(page.name);
  }
  auto name = std::make_shared<std::string>();
  command->add_option("page", *name, "The page")->required()->check(CLI::IsMember(names));
  command->callback(
      [name, &line] { line.run = [name, &line] { return PrintPage(*name, line.components); }; });
}

}  // namespace millrace::cli
