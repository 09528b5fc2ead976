// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/sinks/clickhouse/clickhouse_schema.h"

// How a table follows its stream to a newer version of its columns. Pure: nothing here talks to a
// server.
namespace millrace::sinks::clickhouse {

// The statements, in order, that bring a table from what one of `earlier`, other versions of the
// stream, needed to `need`; none if it is there. What a crash leaves half done is seen in `facts`:
// the statements that remain are given again.
//
//   a new column      ADD COLUMN; its DEFAULT is what rows from before hold
//   another name      ADD COLUMN with the former one as its DEFAULT, MATERIALIZE, DROP the former
//   another type      MODIFY COLUMN; where the type does not widen, as of a table that was made
//                     anew, DROP and ADD
//
// RENAME COLUMN is not used: a merge that runs beside it loses the column's values, in all versions
// up to 26.7.2 (ClickHouse issue 80648, pull requests 104822 and 109356). The former column says by
// its comment what becomes of it.
//
// A column that is as no version needed it is its operator's: it is left to CheckTable().
// kFailedPrecondition with the remedy for a change of a sorting or partition key, which ClickHouse
// does not make.
Result<std::vector<std::string>> AlterTableSql(const TableNeed& need,
                                               const std::vector<StreamPtr>& earlier,
                                               TableFacts facts);

// The value in `row` of `column` as an expression of ClickHouse. `as_string`: its exact text.
std::string ValueExpression(const Column& column, size_t row, bool as_string);

}  // namespace millrace::sinks::clickhouse
