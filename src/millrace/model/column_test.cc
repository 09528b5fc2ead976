// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/column.h"

#include <string>

#include <gtest/gtest.h>

namespace millrace {
namespace {

Column Texts(int n) {
  Column column(TypeKind::kText);
  for (int i = 0; i < n; ++i) {
    if (i % 3 == 0) {
      column.AppendNull();
    } else {
      column.AppendText(std::string(static_cast<size_t>(i), 'x'));
    }
  }
  return column;
}

TEST(Column, FixedValuesAndNulls) {
  Column column(TypeKind::kInt32);
  for (int32_t i = 0; i < 200; ++i) {
    i % 7 == 0 ? column.AppendNull() : column.Append<int32_t>(i);
  }
  ASSERT_EQ(column.size(), 200U);
  EXPECT_EQ(column.null_count(), 29U);
  for (int32_t i = 0; i < 200; ++i) {
    EXPECT_EQ(column.IsNull(static_cast<size_t>(i)), i % 7 == 0);
    EXPECT_EQ(column.Value<int32_t>(static_cast<size_t>(i)), i % 7 == 0 ? 0 : i);
  }
}

TEST(Column, ValidityIsAbsentWithoutNulls) {
  Column column(TypeKind::kInt64);
  column.Append<int64_t>(1);
  EXPECT_TRUE(column.validity().empty());
  column.SetNull(0);
  EXPECT_EQ(column.null_count(), 1U);
  column.SetNull(0);
  EXPECT_EQ(column.null_count(), 1U);
}

TEST(Column, AppendRangeEqualsAppendFrom) {
  const Column from = Texts(150);
  Column by_range(TypeKind::kText);
  by_range.AppendRange(from, 10, 140);
  Column by_row(TypeKind::kText);
  for (size_t row = 10; row < 140; ++row) {
    by_row.AppendFrom(from, row);
  }
  ASSERT_EQ(by_range.size(), 130U);
  EXPECT_EQ(by_range.null_count(), by_row.null_count());
  for (size_t row = 0; row < 130; ++row) {
    EXPECT_EQ(by_range.IsNull(row), by_row.IsNull(row));
    EXPECT_EQ(by_range.Text(row), from.Text(row + 10));
  }
}

TEST(Column, AppendRangeOfTextWithoutNullsCopiesOnce) {
  Column from(TypeKind::kText);
  for (const char* text : {"a", "bc", "", "def"}) {
    from.AppendText(text);
  }
  Column to(TypeKind::kText);
  to.AppendText("z");
  to.AppendRange(from, 1, 4);
  ASSERT_EQ(to.size(), 4U);
  EXPECT_EQ(to.Text(0), "z");
  EXPECT_EQ(to.Text(1), "bc");
  EXPECT_EQ(to.Text(2), "");
  EXPECT_EQ(to.Text(3), "def");
}

TEST(Column, TruncateForgetsNullsAndBytes) {
  Column column = Texts(100);
  column.Truncate(65);
  EXPECT_EQ(column.size(), 65U);
  EXPECT_EQ(column.null_count(), 22U);
  column.AppendText("end");
  EXPECT_FALSE(column.IsNull(65));
  EXPECT_EQ(column.Text(65), "end");
  EXPECT_EQ(column.Text(64), std::string(64, 'x'));
  column.Truncate(0);
  EXPECT_EQ(column.null_count(), 0U);
  EXPECT_TRUE(column.bytes().empty());
}

TEST(Column, ListsKeepTheirElements) {
  Column column(DataType::List(TypeKind::kInt16));
  column.child().Append<int16_t>(1);
  column.child().AppendNull();
  column.AppendListEnd();
  column.AppendNull();
  column.AppendListEnd();
  Column copy(column.type());
  copy.AppendRange(column, 0, 3);
  EXPECT_EQ(copy.ListRange(0), std::make_pair(size_t{0}, size_t{2}));
  EXPECT_TRUE(copy.child().IsNull(1));
  EXPECT_TRUE(copy.IsNull(1));
  EXPECT_EQ(copy.ListRange(2), std::make_pair(size_t{2}, size_t{2}));
  copy.Truncate(1);
  EXPECT_EQ(copy.child().size(), 2U);
  copy.Truncate(0);
  EXPECT_EQ(copy.child().size(), 0U);
}

}  // namespace
}  // namespace millrace
