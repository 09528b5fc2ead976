// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

#include "millrace/common/status.h"
#include "millrace/model/column.h"

namespace millrace::sources::postgres {

// The most bytes that the values of one row may have; a greater row is a bad row. Snapshot and
// stream hold a row to it as a whole, the parsers each value.
inline constexpr size_t kRowBytesMax = size_t{256} << 20;

// Why a text is not a value of its column's type. Constants: compare the address, print `reason`.
//   kInvalidArgument  a value of PostgreSQL that the column's type cannot hold: a bad row
//   kCorruption       no value that PostgreSQL prints for this type
struct ValueError {
  Code code;
  std::string_view reason;  // completes "column x: ..."; without the value
};

// Parses PostgreSQL's text form of one value, as the pinned session settings make it, and appends
// it to `column`. Returns null on success; on an error `column` is as before. Snapshot and stream
// use the same functions, so that a value is the same whichever way it came. Text, enum and JSON
// are valid UTF-8 once they are in a column.
using AppendValueFn = const ValueError* (*)(std::string_view text, Column& column);

// A row that has more than kRowBytesMax.
extern const ValueError kRowTooLarge;

// The parser for columns of `type`: picked once a column, so that the loop over rows has no switch.
// REQUIRES: MapColumnType() gives such a type.
AppendValueFn ValueParserFor(const DataType& type);

}  // namespace millrace::sources::postgres
