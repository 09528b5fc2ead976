// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/duckdb/scan.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "millrace/common/check.h"
#include "millrace/sql/duckdb/duckdb_types.h"
#include "millrace/sql/duckdb/vector_io.h"

namespace millrace::sql {

// Where an execution stands, and the columns that it wants.
struct Scan::Position {
  size_t row = 0;
  std::vector<idx_t> columns;
};

bool Scan::Register(duckdb_connection connection) {
  const DuckTableFunction function(duckdb_create_table_function());
  duckdb_table_function_set_name(function.get(), name_.c_str());
  duckdb_table_function_set_extra_info(function.get(), this, nullptr);
  duckdb_table_function_set_bind(function.get(), &Scan::Bind);
  duckdb_table_function_set_init(function.get(), &Scan::Init);
  duckdb_table_function_set_function(function.get(), &Scan::Read);
  duckdb_table_function_supports_projection_pushdown(function.get(), true);
  return duckdb_register_table_function(connection, function.get()) == DuckDBSuccess;
}

void Scan::Declare(std::vector<Declared> columns, std::string row_number) {
  declared_ = std::move(columns);
  row_number_ = std::move(row_number);
  views.assign(declared_.size(), {});
  row_count = 0;
}

void Scan::Bind(duckdb_bind_info info) {
  auto* scan = static_cast<Scan*>(duckdb_bind_get_extra_info(info));
  for (const Declared& column : scan->declared_) {
    const DuckType type = ToDuckType(column.type);
    duckdb_bind_add_result_column(info, column.name.c_str(), type.get());
  }
  const DuckType number(duckdb_create_logical_type(DUCKDB_TYPE_UINTEGER));
  duckdb_bind_add_result_column(info, scan->row_number_.c_str(), number.get());
  duckdb_bind_set_bind_data(info, scan, nullptr);
}

void Scan::Init(duckdb_init_info info) {
  auto* position = new Position;
  const idx_t count = duckdb_init_get_column_count(info);
  for (idx_t i = 0; i < count; ++i) {
    position->columns.push_back(duckdb_init_get_column_index(info, i));
  }
  duckdb_init_set_init_data(info, position,
                            [](void* data) { delete static_cast<Position*>(data); });
  duckdb_init_set_max_threads(info, 1);
}

void Scan::Read(duckdb_function_info info, duckdb_data_chunk chunk) {
  auto* scan = static_cast<Scan*>(duckdb_function_get_bind_data(info));
  scan->Fill(*static_cast<Position*>(duckdb_function_get_init_data(info)), chunk);
}

void Scan::Fill(Position& at, duckdb_data_chunk chunk) {
  static const size_t kVectorSize = duckdb_vector_size();
  const size_t n = std::min(kVectorSize, row_count - at.row);
  for (size_t i = 0; n != 0 && i < at.columns.size(); ++i) {
    const duckdb_vector vector = duckdb_data_chunk_get_vector(chunk, i);
    const idx_t index = at.columns[i];
    if (index < declared_.size()) {
      const View& view = views[index];
      if (view.column == nullptr) {
        std::memcpy(duckdb_vector_get_data(vector), view.raw + at.row, n * sizeof(int64_t));
      } else {
        FillVector(vector, *view.column, at.row,
                   view.rows == nullptr ? nullptr : view.rows + at.row, n);
      }
    } else if (index == declared_.size()) {
      auto* numbers = static_cast<uint32_t*>(duckdb_vector_get_data(vector));
      std::iota(numbers, numbers + n, static_cast<uint32_t>(at.row));
    }
  }
  at.row += n;
  rows_read += n;
  duckdb_data_chunk_set_size(chunk, n);
}

}  // namespace millrace::sql
