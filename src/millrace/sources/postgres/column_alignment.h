// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace millrace::sources::postgres {

// A column by what tells it from others.
struct ColumnFace {
  std::string name;
  uint32_t type_oid = 0;
  int32_t typmod = -1;

  bool operator==(const ColumnFace&) const = default;
};

// A number that PostgreSQL has given to a column, with what is known of it before the rows at hand
// and after them.
struct NumberedColumn {
  int attnum = 0;
  // As it was known; nothing: it is newer, or it was dropped or not published by then.
  std::optional<ColumnFace> before;
  // As the catalog has it now; nothing: it is dropped, or not published.
  std::optional<ColumnFace> now;
  // It was made after what was known.
  bool is_new = false;
};

// For each column of a row, in the order of their numbers, the number that it must have: an index
// into `numbers`, ascending. A column that is there before and now was there between; one that is
// not there now may have been there, or not. Of the ways that are possible, the one in which fewest
// columns had a name or type between that they have neither before nor now; nothing if two ways are
// equally good, or none is possible.
std::optional<std::vector<size_t>> AlignColumns(const std::vector<NumberedColumn>& numbers,
                                                const std::vector<ColumnFace>& row);

}  // namespace millrace::sources::postgres
