// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "millrace/common/result.h"

namespace millrace::sources::postgres {

// One entry of `source.tables`.
struct TablePattern {
  // Exact names, or with is_pattern operands of SQL's LIKE.
  std::string schema;
  std::string table;
  bool is_pattern = false;

  // Conditions on n.nspname and c.relname.
  std::string SqlCondition() const;
};

// Reads `table`, `schema.table`, `"Odd.Name".t`, `shop.*`. Names without quotes fold to lower case,
// as in SQL; `*` within quotes is itself. kInvalidArgument if it is none.
Result<TablePattern> ParseTablePattern(std::string_view text);

}  // namespace millrace::sources::postgres
