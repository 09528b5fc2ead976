// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/sql/sql_engine.h"

namespace millrace::sql {

// The longest SQL that is looked at, in bytes.
inline constexpr size_t kMaxSqlBytes = size_t{256} * 1024;

// Where the values of a column come from.
struct ColumnSource {
  static constexpr int kDriving = -1;     // as `lookup`
  static constexpr int kCommitTime = -2;  // as `column`: `_commit_ts`
  int lookup = kDriving;                  // index into QuerySpec::lookups
  int column = 0;                         // of that relation

  bool operator==(const ColumnSource&) const = default;
};

// A column that the engine hands to the computed expressions, under a name that is unique.
struct ScanColumn {
  ColumnSource source;
  std::string name;
};

// A query, taken to pieces. Expressions are syntax trees as JSON text, in the form of DuckDB's
// json_serialize_sql, whose column references are all {kScanRelation, ScanColumn::name}.
struct CheckedQuery {
  struct Item {
    std::string name;        // empty: the engine derives it from `unnamed`
    bool is_plain = false;   // nothing but the column `source`
    ColumnSource source;     // of a plain item
    std::string expression;  // of a computed item
    std::string unnamed;     // of a computed item without a name: the expression as it was written
    bool has_alias = false;  // other expressions may refer to it by its name
  };
  struct Join {
    LookupJoin on;
    bool inner = false;
  };

  std::vector<Item> items;
  std::string where;             // empty: no condition
  std::vector<Join> joins;       // one for each lookup of the spec, in its order
  std::vector<ScanColumn> scan;  // what the expressions and `where` read
};

// The name of the one relation that rewritten expressions read.
inline constexpr std::string_view kScanRelation = "millrace_rows";

// Checks that `tree`, what json_serialize_sql gave for spec.sql, is one SELECT over the driving
// relation, joined to each lookup by one of its keys, INNER or LEFT, without anything that makes a
// row depend on other rows, on the time or on the system; and takes it to pieces.
//
// kInvalidArgument with `line L, column C: ` (of the SQL, where known), what is wrong, and the
// remedy.
Result<CheckedQuery> CheckQuery(const QuerySpec& spec, std::string_view tree);

// As much of the same as can be said without knowing columns and keys. `driving` and `lookups` are
// names as a configuration file writes them: `public.content`, or of a stream.
Status CheckQueryShape(std::string_view sql, std::string_view tree, const std::string& driving,
                       const std::vector<std::string>& lookups);

}  // namespace millrace::sql
