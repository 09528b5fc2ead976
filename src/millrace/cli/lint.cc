// SPDX-License-Identifier: Apache-2.0
// millrace lint FILE...
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <CLI/CLI.hpp>

#include "millrace/cli/command.h"
#include "millrace/config/markdown.h"

namespace millrace::cli {

namespace {

struct LintOptions {
  std::vector<std::string> files;
  bool deny_warnings = false;
};

bool IsMarkdown(const std::string& file) {
  return file.ends_with(".md") || file.ends_with(".markdown");
}

void LintText(const std::string& text, const std::string& file, const Components& components,
              config::Findings& findings) {
  config::LoadOptions options{
      .sink_types = components.sink_types, .check_sql = components.check_sql, .read = {}};
  options.read.lenient_references = true;
  if (!IsMarkdown(file)) {
    config::LoadPipelineConfig(text, file, options, findings);
    return;
  }
  for (const config::MarkdownBlock& block : config::FindConfigBlocks(text)) {
    options.read.first_line = block.first_line;
    options.read.first_column = block.first_column;
    config::LoadPipelineConfig(block.text, file, options, findings);
  }
}

int Lint(const LintOptions& options, const Components& components) {
  bool has_unreadable = false;
  bool has_findings = false;
  for (const std::string& file : options.files) {
    config::Findings unreadable;
    const auto text = config::ReadConfigText(file, unreadable);
    if (!text) {
      for (const config::Finding& finding : unreadable.all()) {
        std::fprintf(stderr, "%s\n", finding.ToString().c_str());
      }
      has_unreadable = true;
      continue;
    }
    config::Findings findings;
    LintText(*text, file, components, findings);
    std::vector<config::Finding> sorted = findings.all();
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const config::Finding& a, const config::Finding& b) {
                       return std::tie(a.location.line, a.location.column) <
                              std::tie(b.location.line, b.location.column);
                     });
    for (const config::Finding& finding : sorted) {
      std::printf("%s\n", finding.ToString().c_str());
    }
    has_findings =
        has_findings || findings.has_errors() || (options.deny_warnings && !findings.all().empty());
  }
  if (has_unreadable) {
    return kExitUsage;
  }
  return has_findings ? kExitFailed : kExitFine;
}

}  // namespace

void AddLintCommand(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("lint",
                                         "Checks configuration files, and those in the yaml blocks "
                                         "of Markdown files, without touching "
                                         "anything");
  auto options = std::make_shared<LintOptions>();
  command->add_option("files", options->files, "YAML and Markdown files")
      ->required()
      ->option_text("FILE...");
  command->add_flag("--deny-warnings", options->deny_warnings, "Exit 1 for warnings too");
  command->callback([options, &line] {
    line.run = [options, &line] { return Lint(*options, line.components); };
  });
}

}  // namespace millrace::cli
