// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "millrace/config/pipeline_config.h"

namespace millrace::config {

// The rules between fields, pure. Findings are about values that are known: one finding is not
// followed by others that it causes.
void LintPipeline(const PipelineConfig& config, const LoadOptions& options, Findings& findings);

// `host:port` or `[host]:port`, the host without brackets; nothing if it is neither.
std::optional<std::pair<std::string, int>> ParseListenAddress(std::string_view text);
bool IsLoopback(std::string_view host);

}  // namespace millrace::config
