// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "millrace/config/pipeline_spec.h"

namespace millrace::config {

// docs/reference/config.md: every option of the configuration file, as Markdown.
std::string ConfigReference(const std::vector<SinkTypeSpec>& sink_types);

}  // namespace millrace::config
