// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "millrace/model/column.h"
#include "millrace/model/data_type.h"

namespace millrace {

// Rows of one schema, column by column. Every column has the same number of rows once a row is
// complete. Owned by one thread at a time; const access from many threads is safe.
class RowBatch {
 public:
  explicit RowBatch(SchemaPtr schema);

  const SchemaPtr& schema() const { return schema_; }
  size_t row_count() const { return columns_.empty() ? 0 : columns_.front().size(); }
  size_t column_count() const { return columns_.size(); }
  const Column& column(size_t i) const { return columns_[i]; }
  Column& column(size_t i) { return columns_[i]; }
  size_t byte_size() const;

  void AppendNullRow();
  // REQUIRES: the same column types.
  void AppendRow(const RowBatch& from, size_t row);
  void AppendRange(const RowBatch& from, size_t begin, size_t end);
  // Drops the rows from `rows` on.
  void Truncate(size_t rows);

 private:
  SchemaPtr schema_;
  std::vector<Column> columns_;
};

}  // namespace millrace
