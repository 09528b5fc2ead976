// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/chunk_sql.h"

#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/clients/postgres/quoting.h"

namespace millrace::sources::postgres {
namespace {

std::string KeyList(const SourceTable& table) {
  std::vector<std::string> names;
  for (const uint32_t column : table.row_key()) {
    names.push_back(pg::QuoteIdentifier((*table.table->columns)[column].name));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string ColumnList(const SourceTable& table) {
  std::vector<std::string> names;
  for (size_t i = 0; i < table.table->columns->size(); ++i) {
    const bool is_dropped = i < table.columns.size() && table.columns[i].is_dropped;
    names.push_back(is_dropped ? "NULL" : pg::QuoteIdentifier((*table.table->columns)[i].name));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string BoundList(const KeyBound& bound) {
  std::vector<std::string> values;
  for (const std::string& text : bound.text) {
    values.push_back(pg::QuoteLiteral(text));
  }
  return fmt::format("{}", fmt::join(values, ", "));
}

// The rows that are published, and in front of them others.
std::string WhereClause(const SourceTable& table, std::vector<std::string> conditions) {
  if (!table.row_filter.empty()) {
    conditions.push_back(fmt::format("({})", table.row_filter));
  }
  return conditions.empty() ? "" : fmt::format(" WHERE {}", fmt::join(conditions, " AND "));
}

// Comparisons of rows, which the index of the key serves.
std::string RangeCondition(const SourceTable& table, const KeyRange& range) {
  std::vector<std::string> conditions;
  if (range.lo.has_value()) {
    conditions.push_back(fmt::format("({}) {} ({})", KeyList(table), range.includes_lo ? ">=" : ">",
                                     BoundList(*range.lo)));
  }
  if (range.hi.has_value()) {
    conditions.push_back(fmt::format("({}) <= ({})", KeyList(table), BoundList(*range.hi)));
  }
  return WhereClause(table, std::move(conditions));
}

}  // namespace

std::string LockTableStatement(const SourceTable& table) {
  return fmt::format("LOCK TABLE {} IN ACCESS SHARE MODE", FromClause(table));
}

std::string ChunkEndStatement(const SourceTable& table, const KeyRange& range, uint64_t rows) {
  return fmt::format("SELECT {0} FROM {1}{2} ORDER BY {0} OFFSET {3} LIMIT 1", KeyList(table),
                     FromClause(table), RangeCondition(table, range), rows == 0 ? 0 : rows - 1);
}

std::string CopyChunkStatement(const SourceTable& table, const KeyRange& range) {
  return fmt::format("COPY (SELECT {} FROM {}{} ORDER BY {}) TO STDOUT", ColumnList(table),
                     FromClause(table), RangeCondition(table, range), KeyList(table));
}

std::string CopyPagesStatement(const SourceTable& table, const PageRange& pages) {
  std::vector<std::string> conditions;
  if (pages.begin != 0) {
    conditions.push_back(fmt::format("ctid >= '({},0)'", pages.begin));
  }
  if (pages.end.has_value()) {
    conditions.push_back(fmt::format("ctid < '({},0)'", *pages.end));
  }
  return fmt::format("COPY (SELECT {} FROM {}{}) TO STDOUT", ColumnList(table), FromClause(table),
                     WhereClause(table, std::move(conditions)));
}

}  // namespace millrace::sources::postgres
