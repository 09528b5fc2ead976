// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "millrace/model/column.h"
#include "millrace/model/stream.h"

// Values of ours that DuckDB's types do not have: a decimal that is NaN, infinite intervals. Pure
// functions.
namespace millrace::sql {

// Whether one of the values rows[0 .. n), or [0, n) without `rows`, is one of them, elements of
// lists included. kNoMatch in `rows` is NULL.
bool HasUnheld(const Column& column, const uint32_t* rows, size_t n);

// The column with NULL, or with kClamp's nearest value, in their place. NaN has no nearest value:
// kClamp leaves it. REQUIRES: not kError.
Column ReplaceUnheld(const Column& column, OutOfRange out_of_range);

}  // namespace millrace::sql
