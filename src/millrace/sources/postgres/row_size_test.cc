// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/row_size.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "millrace/sources/postgres/value_parser.h"

namespace millrace::sources::postgres {
namespace {

TEST(RowSize, CountsTheValuesOfARowTogether) {
  Table table;
  table.schema = "public";
  table.name = "t";
  table.columns =
      std::make_shared<const Schema>(Schema{{"id", TypeKind::kInt32, false},
                                            {"a", TypeKind::kText, true},
                                            {"b", DataType::List(TypeKind::kBytes), true}});
  RowBatch rows(table.columns);
  const std::string half(kRowBytesMax / 2, 'x');
  rows.column(0).Append<int32_t>(1);
  rows.column(1).AppendText(half);
  rows.column(2).child().AppendText(half);
  rows.column(2).AppendListEnd();
  // Bytes have twice their size as text.
  EXPECT_TRUE(CheckRowSize(table, rows, 0, 3 * half.size()).ok());

  rows.column(0).Append<int32_t>(2);
  rows.column(1).AppendText("x");
  rows.column(2).child().AppendText(half);
  rows.column(2).child().AppendText(half);
  rows.column(2).AppendListEnd();
  const Status status = CheckRowSize(table, rows, 1, 4 * half.size() + 1);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(status.message().find("table public.t: the row is larger than 256 MiB"), 0U)
      << status.message();
}

}  // namespace
}  // namespace millrace::sources::postgres
