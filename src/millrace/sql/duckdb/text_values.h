// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "millrace/model/column.h"
#include "millrace/model/data_type.h"

namespace millrace::sql {

// The notation of tests/sql/*.test.

// "int64", "decimal(10,2)", "list(text)", as DataType::ToString() writes them.
std::optional<DataType> ParseType(std::string_view text);

// Appends a value as FormatValue() writes it; false if it is not of the column's type.
bool AppendParsed(std::string_view text, Column* column);

// NULL; numbers in decimal; bytes in hexadecimal behind `\x`; dates and times as in ISO 8601, with
// Z in UTC; intervals as months/days/microseconds; lists in brackets, by commas; text as it is,
// with
// `(empty)` for none and `\n` for a line's end.
std::string FormatValue(const Column& column, size_t row);

}  // namespace millrace::sql
