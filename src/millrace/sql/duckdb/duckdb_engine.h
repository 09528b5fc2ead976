// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/sql/sql_engine.h"

namespace millrace::sql {

struct DuckDbOptions {
  // What the computed values of a batch and the work on them may take; rows that come in and go out
  // are the caller's.
  uint64_t memory_limit_bytes = uint64_t{128} << 20;
  int threads = 1;
};

// SQL by DuckDB, embedded and in memory. Prepared queries keep what they need of the engine alive.
//
// Lookups are joined here, by hashing keys; plain columns are copied from input to output; DuckDB
// computes the other expressions and the WHERE, over the columns that they read.
Result<std::unique_ptr<SqlEngine>> MakeDuckDbEngine(const DuckDbOptions& options);

// For lint, where the columns of tables are unknown: checks everything that the SQL alone tells.
// kInvalidArgument with `line L, column C: ` of the SQL in front, where known. `driving` and
// `lookups` are written as in the configuration file.
Status CheckShape(std::string_view sql, const std::string& driving,
                  const std::vector<std::string>& lookups);

}  // namespace millrace::sql
