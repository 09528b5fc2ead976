// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "millrace/sql/duckdb/duckdb_database.h"
#include "millrace/sql/duckdb/scan.h"
#include "millrace/sql/query_check.h"
#include "millrace/sql/sql_engine.h"

namespace millrace::sql {

// A query that was taken to pieces and prepared; see DuckDbEngine.
class DuckDbQuery : public PreparedQuery {
 public:
  static Result<std::unique_ptr<PreparedQuery>> Make(std::shared_ptr<DuckDbDatabase> database,
                                                     const QuerySpec& spec);
  ~DuckDbQuery() override;

  const SchemaPtr& columns() const override { return columns_; }
  const std::vector<int>& driving_columns() const override { return driving_columns_; }
  const std::vector<LookupJoin>& joins() const override { return joins_; }

  Result<QueryResult> Run(const RowBatch& driving, std::span<const int64_t> commit_ts,
                          std::span<const RowBatch* const> lookups) override;

 private:
  // The rows that the joins leave over, and their partners.
  struct Joined {
    size_t row_count = 0;
    bool is_whole = true;                      // every driving row
    std::vector<uint32_t> driving;             // unless is_whole
    std::vector<std::vector<uint32_t>> match;  // for each lookup
  };

  DuckDbQuery(std::shared_ptr<DuckDbDatabase> database, CheckedQuery query,
              OutOfRange out_of_range);

  Status NameItems();
  Status PrepareStatement(const QuerySpec& spec);
  Result<std::string> WriteSelect();
  Status PrepareText(const std::string& sql);
  Status TypeItems(const QuerySpec& spec, const std::string& select);
  std::string PlaceOf(std::string_view message) const;
  Status FailureOf(duckdb_result* result) const;

  Result<Joined> Join(const RowBatch& driving, std::span<const RowBatch* const> lookups) const;
  Status SetViews(const RowBatch& driving, std::span<const int64_t> commit_ts,
                  std::span<const RowBatch* const> lookups, const Joined& joined,
                  std::vector<int64_t>* times);
  Status ReplaceValues(const std::string& name, size_t rows, Scan::View* view);
  Result<std::vector<uint32_t>> Compute(const Joined& joined, RowBatch* rows);
  static void AppendPlain(const Column& from, const uint32_t* rows, size_t n, Column* to);

  const std::shared_ptr<DuckDbDatabase> database_;
  CheckedQuery query_;
  const OutOfRange out_of_range_;
  SchemaPtr columns_;
  std::vector<int> driving_columns_;
  std::vector<LookupJoin> joins_;

  std::vector<size_t> computed_;    // items, in the order of the statement's columns
  std::vector<size_t> last_lines_;  // of each computed item in the statement
  Scan* scan_ = nullptr;            // none: everything is plain
  DuckStatement statement_;
  // Of the run that goes on: columns of its input with values replaced.
  std::vector<std::unique_ptr<Column>> replaced_;
};

// Puts `positions` into ascending order, and the rows of those columns that are `moved` with them.
// Rows of one position keep their order.
void SortByPosition(std::vector<uint32_t>* positions, RowBatch* rows,
                    std::span<const size_t> moved);

}  // namespace millrace::sql
