// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/duckdb/duckdb_query.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "millrace/sql/duckdb/duckdb_error.h"
#include "millrace/sql/duckdb/duckdb_types.h"
#include "millrace/sql/duckdb/value_limits.h"
#include "millrace/sql/duckdb/vector_io.h"
#include "millrace/sql/key_index.h"
#include "millrace/sql/query_functions.h"

namespace millrace::sql {
namespace {

constexpr std::string_view kRowNumber = "millrace_row";

std::string Quoted(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    quoted.append(c == '"' ? 2 : 1, c);
  }
  return quoted + "\"";
}

const Field& FieldOf(const QuerySpec& spec, ColumnSource source) {
  static const Field kCommitTime{"_commit_ts", TypeKind::kTimestampTz, true};
  if (source.column == ColumnSource::kCommitTime) {
    return kCommitTime;
  }
  const QueryInput& input =
      source.lookup < 0 ? spec.driving : spec.lookups[static_cast<size_t>(source.lookup)];
  return (*input.columns)[static_cast<size_t>(source.column)];
}

}  // namespace

DuckDbQuery::DuckDbQuery(std::shared_ptr<DuckDbDatabase> database, CheckedQuery query,
                         OutOfRange out_of_range)
    : database_(std::move(database)), query_(std::move(query)), out_of_range_(out_of_range) {
  for (const CheckedQuery::Join& join : query_.joins) {
    joins_.push_back(join.on);
  }
  for (size_t i = 0; i < query_.items.size(); ++i) {
    if (!query_.items[i].is_plain) {
      computed_.push_back(i);
    }
  }
}

DuckDbQuery::~DuckDbQuery() {
  statement_.Reset();
  if (scan_ != nullptr) {
    database_->GiveBack(scan_);
  }
}

Result<std::unique_ptr<PreparedQuery>> DuckDbQuery::Make(std::shared_ptr<DuckDbDatabase> database,
                                                         const QuerySpec& spec) {
  MR_ASSIGN_OR_RETURN(const std::string tree, database->TreeOf(spec.sql));
  MR_ASSIGN_OR_RETURN(CheckedQuery checked, CheckQuery(spec, tree));
  std::unique_ptr<DuckDbQuery> query(
      new DuckDbQuery(std::move(database), std::move(checked), spec.out_of_range));
  MR_RETURN_IF_ERROR(query->NameItems());
  MR_RETURN_IF_ERROR(query->PrepareStatement(spec));
  return std::unique_ptr<PreparedQuery>(std::move(query));
}

Status DuckDbQuery::NameItems() {
  std::set<std::string> seen;
  for (CheckedQuery::Item& item : query_.items) {
    if (item.name.empty()) {
      MR_ASSIGN_OR_RETURN(item.name, database_->ExpressionOf(item.unnamed));
    }
    if (!seen.insert(ToLower(item.name)).second) {
      return InvalidArgument(fmt::format(
          "two columns of the result are called '{}': give one another name with AS", item.name));
    }
  }
  return Status::Ok();
}

Status DuckDbQuery::PrepareStatement(const QuerySpec& spec) {
  std::string select;
  if (!computed_.empty() || !query_.where.empty()) {
    MR_ASSIGN_OR_RETURN(scan_, database_->TakeScan());
    std::vector<Scan::Declared> declared;
    for (const ScanColumn& column : query_.scan) {
      declared.push_back({column.name, FieldOf(spec, column.source).type});
    }
    scan_->Declare(std::move(declared), std::string(kRowNumber));
    MR_ASSIGN_OR_RETURN(select, WriteSelect());
    MR_RETURN_IF_ERROR(PrepareText(select));
  }
  return TypeItems(spec, select);
}

// One item a line, so that the line of an error tells its column.
Result<std::string> DuckDbQuery::WriteSelect() {
  std::string sql = "SELECT\n";
  const auto line = [&sql] { return static_cast<size_t>(std::ranges::count(sql, '\n')); };
  for (const size_t index : computed_) {
    const CheckedQuery::Item& item = query_.items[index];
    MR_ASSIGN_OR_RETURN(const std::string text, database_->ExpressionOf(item.expression));
    sql += text;
    if (item.has_alias) {
      sql += " AS " + Quoted(item.name);
    }
    sql += ",\n";
    last_lines_.push_back(line());
  }
  sql +=
      fmt::format("{0}.{1}\nFROM {2}() AS {0}", kScanRelation, Quoted(kRowNumber), scan_->name());
  if (!query_.where.empty()) {
    MR_ASSIGN_OR_RETURN(const std::string text, database_->ExpressionOf(query_.where));
    sql += "\nWHERE " + text;
  }
  return sql;
}

// "column 'x': ", of the item that an error of DuckDB points at, or empty.
std::string DuckDbQuery::PlaceOf(std::string_view message) const {
  const std::optional<size_t> line = ErrorLine(message);
  if (!line) {
    return {};
  }
  const auto at = std::ranges::lower_bound(last_lines_, *line);
  return at == last_lines_.end()
             ? "WHERE: "
             : fmt::format(
                   "column '{}': ",
                   query_.items[computed_[static_cast<size_t>(at - last_lines_.begin())]].name);
}

Status DuckDbQuery::PrepareText(const std::string& sql) {
  if (duckdb_prepare(database_->connection(), sql.c_str(), statement_.out()) != DuckDBSuccess) {
    const char* error = duckdb_prepare_error(statement_.get());
    const std::string_view message = error == nullptr ? "" : error;
    return InvalidArgument(PlaceOf(message) + PlanError(message));
  }
  return Status::Ok();
}

// Finds the result's types, and has nested ones written as JSON.
Status DuckDbQuery::TypeItems(const QuerySpec& spec, const std::string& select) {
  std::vector<DataType> types;
  std::string outer = "SELECT ";
  std::string names;
  bool has_nested = false;
  for (size_t i = 0; i < computed_.size(); ++i) {
    const DuckType type(duckdb_prepared_statement_column_logical_type(statement_.get(), i));
    std::optional<DataType> known = FromDuckType(type.get());
    const bool nested = !known && IsNested(type.get());
    if (!known && !nested) {
      return InvalidArgument(fmt::format(
          "column '{}': its type is {}, which sinks do not know: cast it, for example to VARCHAR",
          query_.items[computed_[i]].name, DuckTypeName(type.get())));
    }
    has_nested |= nested;
    types.push_back(nested ? DataType(TypeKind::kJson) : *std::move(known));
    outer += nested ? fmt::format("to_json(c{}), ", i) : fmt::format("c{}, ", i);
    names += fmt::format("c{}, ", i);
  }
  if (has_nested) {
    // The inner SELECT stays on lines of its own, as many as before.
    MR_RETURN_IF_ERROR(PrepareText(fmt::format("{}r FROM ({}) AS q({}r)", outer, select, names)));
  }
  auto schema = std::make_shared<Schema>();
  size_t next = 0;
  for (const CheckedQuery::Item& item : query_.items) {
    if (!item.is_plain) {
      schema->push_back({item.name, types[next++], true});
      driving_columns_.push_back(-1);
      continue;
    }
    const Field& field = FieldOf(spec, item.source);
    const bool is_driving = item.source.lookup < 0 && item.source.column >= 0;
    schema->push_back({item.name, field.type, !is_driving || field.nullable});
    driving_columns_.push_back(is_driving ? item.source.column : -1);
  }
  columns_ = std::move(schema);
  return Status::Ok();
}

// --- running -------------------------------------------------------------------------------------

Result<DuckDbQuery::Joined> DuckDbQuery::Join(const RowBatch& driving,
                                              std::span<const RowBatch* const> lookups) const {
  Joined joined;
  joined.row_count = driving.row_count();
  bool has_inner = false;
  for (size_t i = 0; i < joins_.size(); ++i) {
    MR_ASSIGN_OR_RETURN(const KeyIndex index,
                        KeyIndex::Build(*lookups[i], joins_[i].lookup_columns));
    joined.match.push_back(index.Find(driving, joins_[i].driving_columns));
    has_inner |= query_.joins[i].inner;
  }
  if (!has_inner) {
    return joined;
  }
  for (uint32_t row = 0; row < driving.row_count(); ++row) {
    bool keep = true;
    for (size_t i = 0; i < joins_.size(); ++i) {
      keep &= !query_.joins[i].inner || joined.match[i][row] != kNoMatch;
    }
    if (keep) {
      for (std::vector<uint32_t>& match : joined.match) {
        match[joined.driving.size()] = match[row];
      }
      joined.driving.push_back(row);
    }
  }
  joined.row_count = joined.driving.size();
  joined.is_whole = joined.row_count == driving.row_count();
  return joined;
}

Status DuckDbQuery::SetViews(const RowBatch& driving, std::span<const int64_t> commit_ts,
                             std::span<const RowBatch* const> lookups, const Joined& joined,
                             std::vector<int64_t>* times) {
  replaced_.clear();
  const uint32_t* rows = joined.is_whole ? nullptr : joined.driving.data();
  scan_->row_count = joined.row_count;
  scan_->rows_read = 0;
  for (size_t i = 0; i < query_.scan.size(); ++i) {
    const ColumnSource source = query_.scan[i].source;
    Scan::View& view = scan_->views[i];
    if (source.lookup >= 0) {
      const auto lookup = static_cast<size_t>(source.lookup);
      view = {.column = &lookups[lookup]->column(static_cast<size_t>(source.column)),
              .rows = joined.match[lookup].data()};
    } else if (source.column >= 0) {
      view = {.column = &driving.column(static_cast<size_t>(source.column)), .rows = rows};
    } else if (joined.is_whole) {
      view = {.raw = commit_ts.data()};
    } else {
      times->clear();
      for (const uint32_t row : joined.driving) {
        times->push_back(commit_ts[row]);
      }
      view = {.raw = times->data()};
    }
    if (view.column != nullptr && HasUnheld(*view.column, view.rows, joined.row_count))
        [[unlikely]] {
      MR_RETURN_IF_ERROR(ReplaceValues(query_.scan[i].name, joined.row_count, &view));
    }
  }
  return Status::Ok();
}

// Points `view` at its column with values that DuckDB does not have replaced.
Status DuckDbQuery::ReplaceValues(const std::string& name, size_t rows, Scan::View* view) {
  if (out_of_range_ != OutOfRange::kError) {
    replaced_.push_back(std::make_unique<Column>(ReplaceUnheld(*view->column, out_of_range_)));
    view->column = replaced_.back().get();
    if (!HasUnheld(*view->column, view->rows, rows)) {
      return Status::Ok();
    }
  }
  return InvalidArgument(fmt::format(
      "column '{}' has a NaN or an infinite interval, which SQL does not have: set out_of_range: "
      "null on the stream, or take the column as it is",
      name));
}

Status DuckDbQuery::FailureOf(duckdb_result* result) const {
  const char* error = duckdb_result_error(result);
  const std::string_view message = error == nullptr ? "" : error;
  return RunError(duckdb_result_error_type(result), message, PlaceOf(message));
}

// Appends the computed columns to `rows`, and returns the row of the scan that each came from.
Result<std::vector<uint32_t>> DuckDbQuery::Compute(const Joined& joined, RowBatch* rows) {
  // Streamed, because what DuckDB holds of a finished result is not part of its memory limit.
  DuckPending pending;
  DuckResult result;
  if (duckdb_pending_prepared_streaming(statement_.get(), pending.out()) != DuckDBSuccess) {
    return Internal(fmt::format("run a query: DuckDB does not begin: {}",
                                PlanError(duckdb_pending_error(pending.get()))));
  }
  if (duckdb_execute_pending(pending.get(), result.get()) != DuckDBSuccess) {
    return FailureOf(result.get());
  }
  std::vector<uint32_t> positions;
  positions.reserve(joined.row_count);
  while (true) {
    const DuckChunk chunk(duckdb_fetch_chunk(*result.get()));
    const size_t n = chunk ? duckdb_data_chunk_get_size(chunk.get()) : 0;
    if (n == 0) {
      break;
    }
    for (size_t i = 0; i < computed_.size(); ++i) {
      AppendVector(duckdb_data_chunk_get_vector(chunk.get(), i), n, rows->column(computed_[i]));
    }
    if (rows->byte_size() > database_->memory_limit_bytes()) {
      return RunError(DUCKDB_ERROR_OUT_OF_MEMORY, {}, {});
    }
    const auto* numbers = static_cast<const uint32_t*>(
        duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk.get(), computed_.size())));
    positions.insert(positions.end(), numbers, numbers + n);
  }
  // An error ends a stream like its end does; some errors have no type, but all have a text.
  if (duckdb_result_error(result.get()) != nullptr) {
    return FailureOf(result.get());
  }
  // Rows that are missing for no reason would be lost without a word.
  const bool is_whole = query_.where.empty() ? positions.size() == joined.row_count
                                             : scan_->rows_read == joined.row_count ||
                                                   (scan_->rows_read == 0 && positions.empty());
  if (!is_whole) {
    return Internal("run a query: DuckDB ended before it had read every row");
  }
  if (!std::ranges::is_sorted(positions)) [[unlikely]] {
    SortByPosition(&positions, rows, computed_);
  }
  return positions;
}

// Appends rows[i] of `from`, where kNoMatch is NULL; runs of rows that follow each other at once.
void DuckDbQuery::AppendPlain(const Column& from, const uint32_t* rows, size_t n, Column* to) {
  for (size_t i = 0; i < n;) {
    if (rows[i] == kNoMatch) {
      to->AppendNull();
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < n && rows[end] == rows[end - 1] + 1 && rows[end] != kNoMatch) {
      ++end;
    }
    if (end == i + 1) {
      to->AppendFrom(from, rows[i]);
    } else {
      to->AppendRange(from, rows[i], size_t{rows[end - 1]} + 1);
    }
    i = end;
  }
}

Result<QueryResult> DuckDbQuery::Run(const RowBatch& driving, std::span<const int64_t> commit_ts,
                                     std::span<const RowBatch* const> lookups) {
  QueryResult result(columns_);
  MR_CHECK(lookups.size() == joins_.size() && commit_ts.size() == driving.row_count());
  if (driving.row_count() == 0) {
    return result;
  }
  MR_ASSIGN_OR_RETURN(Joined joined, Join(driving, lookups));
  std::vector<uint32_t> positions;
  if (scan_ != nullptr) {
    std::vector<int64_t> times;
    MR_RETURN_IF_ERROR(SetViews(driving, commit_ts, lookups, joined, &times));
    auto computed = Compute(joined, &result.rows);
    scan_->row_count = 0;  // what it points at is the caller's
    MR_ASSIGN_OR_RETURN(positions, std::move(computed));
  } else {
    positions.resize(joined.row_count);
    std::iota(positions.begin(), positions.end(), 0);
  }
  result.driving_row = positions;
  if (!joined.is_whole) {
    for (uint32_t& row : result.driving_row) {
      row = joined.driving[row];
    }
  }
  std::vector<std::vector<uint32_t>> matches(joins_.size());
  for (size_t i = 0; i < query_.items.size(); ++i) {
    const CheckedQuery::Item& item = query_.items[i];
    Column& to = result.rows.column(i);
    if (!item.is_plain) {
      continue;
    }
    if (item.source.column == ColumnSource::kCommitTime) {
      for (const uint32_t row : result.driving_row) {
        to.Append(commit_ts[row]);
      }
    } else if (item.source.lookup < 0) {
      AppendPlain(driving.column(static_cast<size_t>(item.source.column)),
                  result.driving_row.data(), result.driving_row.size(), &to);
    } else {
      const auto lookup = static_cast<size_t>(item.source.lookup);
      if (matches[lookup].empty()) {
        for (const uint32_t position : positions) {
          matches[lookup].push_back(joined.match[lookup][position]);
        }
      }
      AppendPlain(lookups[lookup]->column(static_cast<size_t>(item.source.column)),
                  matches[lookup].data(), matches[lookup].size(), &to);
    }
  }
  return result;
}

void SortByPosition(std::vector<uint32_t>* positions, RowBatch* rows,
                    std::span<const size_t> moved) {
  std::vector<uint32_t> order(positions->size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [positions](uint32_t i) { return (*positions)[i]; });
  std::vector<uint32_t> sorted;
  sorted.reserve(order.size());
  for (const uint32_t i : order) {
    sorted.push_back((*positions)[i]);
  }
  *positions = std::move(sorted);
  for (const size_t index : moved) {
    Column column(rows->column(index).type());
    for (const uint32_t i : order) {
      column.AppendFrom(rows->column(index), i);
    }
    rows->column(index) = std::move(column);
  }
}

}  // namespace millrace::sql
