// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "millrace/model/column.h"
#include "millrace/model/stream.h"

// What ClickHouse's types do not hold of ours: Date32 and DateTime64(6) have 1900-01-01 to
// 2299-12-31, Decimal has no NaN. Pure functions.
namespace millrace::sinks::clickhouse {

// Whether `type`, or the type of its elements, has such values.
bool HasLimits(const DataType& type);

// The first row of [begin, end) that has one; NULL is none.
std::optional<size_t> FindOutOfRange(const Column& column, size_t begin, size_t end);

// Completes "the value at ... ": "is outside 1900-01-01 to 2299-12-31, which is what ClickHouse
// holds". REQUIRES: HasLimits(type).
std::string_view OutOfRangeReason(const DataType& type);

// Rows [begin, end) with kClamp's nearest value, or with NULL, in the place of those values,
// elements of lists included. NaN has no nearest value: kClamp leaves it. REQUIRES: not kError.
Column ReplaceOutOfRange(const Column& column, size_t begin, size_t end, OutOfRange out_of_range);

// The same of columns of a stream: NULL may stand where the source has none. Key columns keep their
// values, or rows of different keys would become one.
bool ReplacesWithNull(const Stream& stream, size_t column, OutOfRange out_of_range);
bool IsKeyColumn(const Stream& stream, size_t column);

}  // namespace millrace::sinks::clickhouse
