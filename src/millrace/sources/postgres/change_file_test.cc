// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/change_file.h"

#include <filesystem>

#include <gtest/gtest.h>

namespace millrace::sources::postgres {
namespace {

TEST(ChangeFileTest, ChangesComeBackAndTheFileHasNoName) {
  auto table = std::make_shared<Table>();
  table->columns =
      std::make_shared<const Schema>(Schema{{"id", TypeKind::kInt32, false},
                                            {"text", TypeKind::kText, true},
                                            {"list", DataType::List(TypeKind::kInt64), true}});
  const std::string directory = ::testing::TempDir() + "change_file_test";
  Result<std::unique_ptr<ChangeFile>> made = ChangeFile::Make(directory, table);
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  ChangeFile& file = **made;
  EXPECT_TRUE(std::filesystem::is_empty(directory));
  EXPECT_TRUE(file.AtEnd());
  for (int block = 0; block < 3; ++block) {
    TableChanges changes(table);
    for (uint32_t i = 0; i < 70; ++i) {
      changes.new_rows.column(0).Append(static_cast<int32_t>(i));
      if (i % 7 == 0) {
        changes.new_rows.column(1).AppendNull();
        changes.new_rows.column(2).AppendNull();
      } else {
        changes.new_rows.column(1).AppendText(std::string(i, 'x'));
        changes.new_rows.column(2).child().Append<int64_t>(i);
        changes.new_rows.column(2).AppendListEnd();
      }
      changes.changes.push_back({.new_row = i, .op = ChangeOp::kInsert});
    }
    changes.old_rows.AppendNullRow();
    changes.changes.push_back({.old_row = 0, .op = ChangeOp::kDelete});
    changes.unchanged_toast.push_back({7, 1});
    ASSERT_TRUE(file.Append(changes).ok());
  }
  EXPECT_EQ(file.change_count(), 3 * 71U);
  for (int round = 0; round < 2; ++round) {
    file.Rewind();
    for (int block = 0; block < 3; ++block) {
      ASSERT_FALSE(file.AtEnd());
      Result<TableChanges> changes = file.Next();
      ASSERT_TRUE(changes.ok()) << changes.status().ToString();
      ASSERT_EQ(changes->changes.size(), 71U);
      EXPECT_EQ(changes->changes[70].op, ChangeOp::kDelete);
      EXPECT_EQ(changes->changes[70].old_row, 0U);
      EXPECT_EQ(changes->new_rows.column(0).Value<int32_t>(69), 69);
      EXPECT_TRUE(changes->new_rows.column(1).IsNull(63));
      EXPECT_EQ(changes->new_rows.column(1).Text(69), std::string(69, 'x'));
      EXPECT_EQ(changes->new_rows.column(2).child().Value<int64_t>(
                    changes->new_rows.column(2).ListRange(69).first),
                69);
      ASSERT_EQ(changes->unchanged_toast.size(), 1U);
    }
    EXPECT_TRUE(file.AtEnd());
  }
}

}  // namespace
}  // namespace millrace::sources::postgres
