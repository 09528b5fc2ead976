// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "millrace/model/column.h"
#include "millrace/sql/duckdb/handles.h"

namespace millrace::sql {

// A table function without arguments over columns of the current micro-batch: how DuckDB reads our
// rows. Only the columns that a plan needs are filled, 2,048 rows at a time.
//
// Declare() what it has, then prepare statements over it; before each execution set `row_count`,
// `views` and `rows_read`. It stays registered as long as its database; Declare() makes it another
// relation, for statements that are prepared from then on.
class Scan {
 public:
  // The values of a declared column: rows[i] of `column`, where kNoMatch is NULL, or row i without
  // `rows`. Without `column` they are `raw`, of eight bytes each, never NULL.
  struct View {
    const Column* column = nullptr;
    const uint32_t* rows = nullptr;
    const int64_t* raw = nullptr;
  };
  struct Declared {
    std::string name;
    DataType type;
  };

  explicit Scan(std::string name) : name_(std::move(name)) {}
  Scan(const Scan&) = delete;
  Scan& operator=(const Scan&) = delete;

  // False if DuckDB refuses. REQUIRES: this outlives the database of `connection`.
  bool Register(duckdb_connection connection);

  // The columns; behind them stands one more, the number of the row, as UINTEGER.
  void Declare(std::vector<Declared> columns, std::string row_number);

  const std::string& name() const { return name_; }

  // For the next execution; one view for each declared column.
  size_t row_count = 0;
  std::vector<View> views;
  // Of the execution: rows handed to DuckDB.
  size_t rows_read = 0;

 private:
  struct Position;

  static void Bind(duckdb_bind_info info);
  static void Init(duckdb_init_info info);
  static void Read(duckdb_function_info info, duckdb_data_chunk chunk);
  void Fill(Position& at, duckdb_data_chunk chunk);

  const std::string name_;
  std::vector<Declared> declared_;
  std::string row_number_;
};

}  // namespace millrace::sql
