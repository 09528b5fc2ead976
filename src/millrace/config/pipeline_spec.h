// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "millrace/config/section.h"

namespace millrace::config {

// How large a batch may grow, and how long rows may wait for company.
struct BatchLimits {
  uint64_t rows_max = 0;
  uint64_t bytes_max = 0;
  std::chrono::milliseconds wait_max{0};

  bool operator==(const BatchLimits&) const = default;
};

// A kind of sink as the configuration sees it. components/ makes one of each sinks::SinkType.
struct SinkTypeSpec {
  std::string type;
  std::string description;
  // The fields of a sink of this type besides type, batch, retry and on_full.
  std::vector<FieldSpec> fields;
  BatchLimits batch_defaults;
  // Rules that the fields cannot express, about the sink's section alone; pure. Called only for
  // sections whose fields are right. Findings about a value that is unknown are left out
  // afterwards.
  std::function<void(const Section&, Findings&)> lint;
};

// The fields of the whole configuration file.
std::vector<FieldSpec> PipelineFields(const std::vector<SinkTypeSpec>& sink_types);

}  // namespace millrace::config
