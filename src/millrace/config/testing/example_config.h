// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "millrace/config/pipeline_spec.h"

namespace millrace::config::testing {

// The engagement pipeline in one process: every feature of the file at least once.
std::string EmbeddedExample();
// The same streams and sinks on Kafka, Debezium and Spark.
std::string DistributedExample();

// Sinks with the fields that the examples use. The lint of `clickhouse` says so where order_by
// lacks a key column.
std::vector<SinkTypeSpec> ExampleSinkTypes();

}  // namespace millrace::config::testing
