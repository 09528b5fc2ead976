// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "millrace/common/result.h"
#include "millrace/config/section.h"
#include "millrace/sinks/clickhouse/clickhouse_options.h"
#include "millrace/sinks/sink.h"

namespace millrace::sinks {

// `type: clickhouse`, for the list of sink types.
SinkType ClickHouseSinkType();

}  // namespace millrace::sinks

namespace millrace::sinks::clickhouse {

// The fields of a ClickHouse sink.
std::vector<config::FieldSpec> ClickHouseFields();

// Findings that the field list cannot express; pure.
void LintClickHouse(const config::Section& section, config::Findings& findings);

// The options of a section without findings. kInvalidArgument otherwise.
Result<ClickHouseOptions> ReadClickHouseOptions(const config::Section& section);

}  // namespace millrace::sinks::clickhouse
