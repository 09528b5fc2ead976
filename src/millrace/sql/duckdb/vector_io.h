// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "millrace/model/column.h"
#include "millrace/sql/duckdb/handles.h"

namespace millrace::sql {

// Fills the first `n` values of an empty vector with rows of `column`: rows[i], where kNoMatch is
// NULL, or, without `rows`, begin + i. Texts longer than 12 bytes are not copied: they stay where
// they are in `column`. REQUIRES: without `rows`, `begin` is a multiple of 64.
void FillVector(duckdb_vector vector, const Column& column, size_t begin, const uint32_t* rows,
                size_t n);

// Appends the first `n` values of a flat vector of a result to `column`, of the type that
// FromDuckType() gives for it. Overwrites the vector's values of NULLs.
void AppendVector(duckdb_vector vector, size_t n, Column& column);

}  // namespace millrace::sql
