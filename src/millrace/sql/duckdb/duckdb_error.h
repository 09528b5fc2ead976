// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <duckdb.h>

#include "millrace/common/status.h"

namespace millrace::sql {

// The line of the statement that an error of DuckDB points at, from 1.
std::optional<size_t> ErrorLine(std::string_view message);

// What DuckDB says about SQL that it does not take: the first sentence. It may quote the SQL.
std::string PlanError(std::string_view message);

// A failure while rows are computed: kInvalidArgument if a row is to blame, kResourceExhausted for
// memory, else kInternal. `where` is put in front. Of DuckDB's sentence only what cannot be a row's
// value is kept: its fixed beginning and the types it names.
Status RunError(duckdb_error_type type, std::string_view message, std::string_view where);

}  // namespace millrace::sql
