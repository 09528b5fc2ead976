// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "millrace/config/pipeline_config.h"

namespace millrace::config {

// What the rules of one run share.
struct LintContext {
  const PipelineConfig& config;
  const LoadOptions& options;
  Findings& findings;

  // Findings about a field, which `text` does not repeat.
  void Error(const Section& section, std::string_view field, const std::string& text,
             std::string code);
  void Warning(const Section& section, std::string_view field, const std::string& text,
               std::string code);

  // True if an error of this part, or of one inside of it, was found.
  bool HasErrorsUnder(const std::string& path) const;

  // Adds what `lint` finds, but for findings about values that have one: these follow from it. A
  // text that does not say what it is about gets `path` in front.
  void AddUnlessCaused(const std::string& path, const std::function<void(Findings&)>& lint);
};

// Given, and of a known value.
bool IsGiven(const Section& section, std::string_view field);

bool IsPipelineName(std::string_view text);
bool IsStreamName(std::string_view text);
bool IsSinkName(std::string_view text);
bool IsSlotName(std::string_view text);

void LintStreams(LintContext& context);
void LintSinks(LintContext& context);

}  // namespace millrace::config
