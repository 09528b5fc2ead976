// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/row_batch.h"
#include "millrace/model/stream.h"

namespace millrace::sql {

// A relation that a query may read: the driving table (or stream), or a lookup.
struct QueryInput {
  std::string schema;  // `public`; empty for a stream
  std::string name;    // `content`: found by `content` and by `public.content`
  SchemaPtr columns;
  // Lookups: the keys by which a join may address a row, the primary key first.
  std::vector<std::vector<uint32_t>> keys;
};

struct QuerySpec {
  std::string sql;
  QueryInput driving;
  std::vector<QueryInput> lookups;
  // What becomes of a value that an expression reads and SQL does not have: a decimal that is NaN,
  // an infinite interval. Columns that the result takes as they are keep it.
  OutOfRange out_of_range = OutOfRange::kError;
};

// How a query finds a row of a lookup: lookup.columns[lookup_columns[i]] = driving.columns[
// driving_columns[i]] for each i, and lookup_columns is one of the lookup's keys.
struct LookupJoin {
  std::vector<uint32_t> lookup_columns;
  std::vector<uint32_t> driving_columns;
};

// What a query gives for a micro-batch. Row i came from driving row driving_row[i]; ascending. A
// driving row that does not occur was filtered out.
struct QueryResult {
  explicit QueryResult(SchemaPtr schema) : rows(std::move(schema)) {}
  RowBatch rows;
  std::vector<uint32_t> driving_row;
};

// A row whose evaluation fails (a cast, an overflow) fails Run() with kInvalidArgument; the caller
// finds it by running parts of the batch.
class PreparedQuery {
 public:
  virtual ~PreparedQuery() = default;

  // The result's columns. A column that is plainly one of the driving table keeps its nullability;
  // others are nullable.
  virtual const SchemaPtr& columns() const = 0;
  // For each result column, the driving column that it plainly is, or -1.
  virtual const std::vector<int>& driving_columns() const = 0;
  // One for each lookup of the spec, in its order.
  virtual const std::vector<LookupJoin>& joins() const = 0;

  // Runs the query. `driving` has the spec's columns; `commit_ts` one entry for each of its rows,
  // in SQL the column `_commit_ts`. `lookups` holds, for each lookup, the rows that the join may
  // find, each key once. Blocking; memory is bounded by the engine's limit.
  virtual Result<QueryResult> Run(const RowBatch& driving, std::span<const int64_t> commit_ts,
                                  std::span<const RowBatch* const> lookups) = 0;
};

// SqlEngine computes: SQL over the rows of one micro-batch. It remembers nothing.
//
// User SQL cannot read files, load extensions, change settings or reach the network. Not
// deterministic functions are refused.
//
// Threads: Prepare() and Run() from the engine thread only.
class SqlEngine {
 public:
  SqlEngine() = default;
  SqlEngine(const SqlEngine&) = delete;
  SqlEngine& operator=(const SqlEngine&) = delete;
  virtual ~SqlEngine() = default;

  // kInvalidArgument with one sentence if the SQL is wrong or not what a stream may be: one SELECT
  // over the driving relation, joined to lookups by key, INNER or LEFT.
  virtual Result<std::unique_ptr<PreparedQuery>> Prepare(const QuerySpec& spec) = 0;
};

}  // namespace millrace::sql
