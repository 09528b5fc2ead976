// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "millrace/config/pipeline_config.h"

namespace millrace::config {

// The rules between fields, pure. Findings are about values that are known: one finding is not
// followed by others that it causes.
void LintPipeline(const PipelineConfig& config, const LoadOptions& options, Findings& findings);

}  // namespace millrace::config
