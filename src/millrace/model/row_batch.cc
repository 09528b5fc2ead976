// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/row_batch.h"

#include <utility>

namespace millrace {

RowBatch::RowBatch(SchemaPtr schema) : schema_(std::move(schema)) {
  columns_.reserve(schema_->size());
  for (const Field& field : *schema_) {
    columns_.emplace_back(field.type);
  }
}

size_t RowBatch::byte_size() const {
  size_t bytes = 0;
  for (const Column& column : columns_) {
    bytes += column.byte_size();
  }
  return bytes;
}

void RowBatch::AppendNullRow() {
  for (Column& column : columns_) {
    column.AppendNull();
  }
}

void RowBatch::AppendRow(const RowBatch& from, size_t row) {
  for (size_t i = 0; i < columns_.size(); ++i) {
    columns_[i].AppendFrom(from.columns_[i], row);
  }
}

void RowBatch::AppendRange(const RowBatch& from, size_t begin, size_t end) {
  for (size_t i = 0; i < columns_.size(); ++i) {
    columns_[i].AppendRange(from.columns_[i], begin, end);
  }
}

void RowBatch::Truncate(size_t rows) {
  for (Column& column : columns_) {
    column.Truncate(rows);
  }
}

}  // namespace millrace
