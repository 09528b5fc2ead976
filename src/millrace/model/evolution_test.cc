// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/evolution.h"

#include <string>

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Widens, OnlyWhatHoldsEveryValue) {
  EXPECT_TRUE(Widens(TypeKind::kInt16, TypeKind::kInt64));
  EXPECT_TRUE(Widens(TypeKind::kFloat32, TypeKind::kFloat64));
  EXPECT_TRUE(Widens(TypeKind::kEnum, TypeKind::kText));
  EXPECT_TRUE(Widens(DataType::Decimal(6, 2), DataType::Decimal(10, 4)));
  EXPECT_FALSE(Widens(TypeKind::kInt64, TypeKind::kInt32));
  EXPECT_FALSE(Widens(TypeKind::kInt32, TypeKind::kFloat64));
  EXPECT_FALSE(
      Widens(DataType::Decimal(6, 2), DataType::Decimal(8, 5)));  // one digit less in front
  EXPECT_FALSE(Widens(TypeKind::kBytes, TypeKind::kText));
  EXPECT_FALSE(Widens(TypeKind::kText, TypeKind::kJson));
}

TEST(Widens, ValuesStayWhatTheyAre) {
  Column integers(TypeKind::kInt16);
  integers.Append<int16_t>(-3);
  integers.AppendNull();
  Column wide(TypeKind::kInt64);
  AppendWidened(integers, 0, 2, wide);
  EXPECT_EQ(wide.Value<int64_t>(0), -3);
  EXPECT_TRUE(wide.IsNull(1));

  Column decimals(DataType::Decimal(6, 2));
  decimals.Append<int32_t>(-12345);
  Column scaled(DataType::Decimal(24, 4));
  AppendWidened(decimals, 0, 1, scaled);
  EXPECT_EQ(scaled.Value<Int128>(0), Int128{-1234500});

  Column floats(TypeKind::kFloat32);
  floats.Append<float>(0.1F);
  Column doubles(TypeKind::kFloat64);
  AppendWidened(floats, 0, 1, doubles);
  EXPECT_EQ(doubles.Value<double>(0), static_cast<double>(0.1F));
}

TablePtr MakeTable(uint32_t version, Schema columns, std::shared_ptr<const RowBatch> fill) {
  auto table = std::make_shared<Table>();
  table->version = version;
  table->columns = std::make_shared<const Schema>(std::move(columns));
  table->fill = std::move(fill);
  return table;
}

TEST(Evolve, RowsBecomeRowsOfTheNewerVersion) {
  TableChanges changes(
      MakeTable(1, {{"id", TypeKind::kInt32, false}, {"t", TypeKind::kText, true}}, nullptr));
  changes.new_rows.column(0).Append<int32_t>(7);
  changes.new_rows.column(1).AppendText("x");
  changes.old_rows.column(0).Append<int32_t>(6);
  changes.old_rows.column(1).AppendNull();
  changes.unchanged_toast.push_back({0, 1});

  const Schema columns = {{"id", TypeKind::kInt64, false},
                          {"text", TypeKind::kText, true},
                          {"n", TypeKind::kInt32, false},
                          {"none", TypeKind::kUuid, true}};
  auto fill = std::make_shared<RowBatch>(std::make_shared<const Schema>(columns));
  fill->AppendNullRow();
  Column five(TypeKind::kInt32);
  five.Append<int32_t>(5);
  fill->column(2) = std::move(five);
  const TablePtr newer = MakeTable(2, columns, fill);
  Evolve(changes, newer);

  EXPECT_EQ(changes.table, newer);
  ASSERT_EQ(changes.new_rows.row_count(), 1U);
  EXPECT_EQ(changes.new_rows.column(0).Value<int64_t>(0), 7);
  EXPECT_EQ(changes.new_rows.column(1).Text(0), "x");
  EXPECT_EQ(changes.new_rows.column(2).Value<int32_t>(0), 5);
  EXPECT_TRUE(changes.new_rows.column(3).IsNull(0));
  EXPECT_EQ(changes.old_rows.column(0).Value<int64_t>(0), 6);
  // What an old image holds of other columns is not known.
  EXPECT_TRUE(changes.old_rows.column(2).IsNull(0));
  EXPECT_EQ(changes.unchanged_toast.size(), 1U);
}

TEST(AppendEarlierColumn, IsNullWhereTheTypeDoesNotWiden) {
  RowBatch rows(std::make_shared<const Schema>(Schema{{"a", TypeKind::kText, true}}));
  rows.column(0).AppendText("x");
  Column to(TypeKind::kInt32);
  AppendEarlierColumn(rows, 0, 1, 0, nullptr, to);
  EXPECT_TRUE(to.IsNull(0));
}

}  // namespace
}  // namespace millrace
