// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

#include "millrace/model/change_batch.h"
#include "millrace/model/column.h"
#include "millrace/model/row_batch.h"

// How rows fit into later versions of their columns. A column keeps its place for ever: later
// versions rename it, widen its type, let it be NULL, or add columns behind the last one. Pure
// functions.
namespace millrace {

// True if every value of `from` is a value of `to`, and is shown as such by whoever changes the
// type.
bool Widens(const DataType& from, const DataType& to);

// Appends rows [begin, end) of `from` to `to`. REQUIRES: Widens(from.type(), to.type()).
void AppendWidened(const Column& from, size_t begin, size_t end, Column& to);

// Appends `count` times what column `place` holds in rows that were made before the column was
// there: the value in the only row of `fill`, NULL without `fill`.
void AppendFill(const RowBatch* fill, size_t place, size_t count, Column& to);

// Appends column `place` of an earlier version's rows [begin, end): widened, NULL where the type
// does not widen, what `fill` says where that version has no such column.
void AppendEarlierColumn(const RowBatch& from, size_t begin, size_t end, size_t place,
                         const RowBatch* fill, Column& to);

// Appends rows [begin, end) of an earlier version to `to`.
void AppendEarlierRows(const RowBatch& from, size_t begin, size_t end, const RowBatch* fill,
                       RowBatch& to);

// `fill` of an earlier version for one with the columns `columns`, those that it lacks NULL.
std::shared_ptr<const RowBatch> WidenFill(const RowBatch* fill, const SchemaPtr& columns);

// Turns `changes` into changes of `newer`, a later version of their table.
void Evolve(TableChanges& changes, const TablePtr& newer);

}  // namespace millrace
