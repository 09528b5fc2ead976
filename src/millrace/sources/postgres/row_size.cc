// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/row_size.h"

#include <fmt/format.h>

#include "millrace/sources/postgres/value_parser.h"

namespace millrace::sources::postgres {
namespace {

// Of values whose size is theirs: text, bytes, and lists of them.
size_t LargeBytes(const Column& column, size_t row) {
  if (column.type().is_varlen()) {
    return column.Text(row).size();
  }
  size_t bytes = 0;
  if (column.type().is_list()) {
    const auto [begin, end] = column.ListRange(row);
    for (size_t i = begin; i < end; ++i) {
      bytes += LargeBytes(column.child(), i);
    }
  }
  return bytes;
}

}  // namespace

Status CheckRowSize(const Table& table, const RowBatch& rows, size_t row, size_t text_bytes) {
  if (text_bytes <= kRowBytesMax) [[likely]] {
    return Status::Ok();
  }
  size_t bytes = 0;
  for (size_t i = 0; i < rows.column_count(); ++i) {
    bytes += LargeBytes(rows.column(i), row);
  }
  return bytes <= kRowBytesMax
             ? Status::Ok()
             : Status(kRowTooLarge.code,
                      fmt::format("table {}: {}", table.FullName(), kRowTooLarge.reason));
}

}  // namespace millrace::sources::postgres
