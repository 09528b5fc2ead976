// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/key_index.h"

#include <memory>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace::sql {
namespace {

using ::testing::ElementsAre;

SchemaPtr TwoColumns() {
  return std::make_shared<Schema>(Schema{{"a", TypeKind::kText}, {"b", TypeKind::kInt32}});
}

void Add(RowBatch& rows, const char* a, int b) {
  if (a == nullptr) {
    rows.column(0).AppendNull();
  } else {
    rows.column(0).AppendText(a);
  }
  rows.column(1).Append(static_cast<int32_t>(b));
}

TEST(KeyIndexTest, FindsRowsByAllColumnsOfTheKey) {
  RowBatch lookup(TwoColumns());
  Add(lookup, "x", 1);
  Add(lookup, "x", 2);
  Add(lookup, "", 1);
  Add(lookup, nullptr, 1);
  Add(lookup, nullptr, 1);  // NULL equals nothing, so that this is no second one
  RowBatch driving(TwoColumns());
  Add(driving, "x", 2);
  Add(driving, nullptr, 1);
  Add(driving, "", 1);
  Add(driving, "x", 3);
  Add(driving, "xx", 1);
  Add(driving, "x", 2);
  const auto index = KeyIndex::Build(lookup, {0, 1});
  ASSERT_TRUE(index.ok());
  const uint32_t columns[] = {0, 1};
  EXPECT_THAT(index->Find(driving, columns), ElementsAre(1, kNoMatch, 2, kNoMatch, kNoMatch, 1));
}

TEST(KeyIndexTest, IntegersOfDifferentWidthsAreEqualByValue) {
  RowBatch lookup(std::make_shared<Schema>(Schema{{"id", TypeKind::kInt64}}));
  for (const int64_t id : {int64_t{-1}, int64_t{7}, int64_t{1} << 32, (int64_t{1} << 32) + 8}) {
    lookup.column(0).Append(id);
  }
  for (const TypeKind kind : {TypeKind::kInt8, TypeKind::kInt16, TypeKind::kInt32}) {
    RowBatch driving(std::make_shared<Schema>(Schema{{"id", kind}}));
    for (const int id : {7, -1, 0, 8}) {
      if (kind == TypeKind::kInt8) {
        driving.column(0).Append(static_cast<int8_t>(id));
      } else if (kind == TypeKind::kInt16) {
        driving.column(0).Append(static_cast<int16_t>(id));
      } else {
        driving.column(0).Append(id);
      }
    }
    const uint32_t columns[] = {0};
    EXPECT_THAT(KeyIndex::Build(lookup, {0})->Find(driving, columns),
                ElementsAre(1, 0, kNoMatch, kNoMatch));
  }
}

TEST(KeyIndexTest, AnEmptyLookupHasNothing) {
  const RowBatch lookup(TwoColumns());
  RowBatch driving(TwoColumns());
  Add(driving, "x", 2);
  const uint32_t columns[] = {1};
  EXPECT_THAT(KeyIndex::Build(lookup, {1})->Find(driving, columns), ElementsAre(kNoMatch));
}

TEST(KeyIndexTest, AKeyThatIsThereTwiceIsAnError) {
  RowBatch lookup(TwoColumns());
  Add(lookup, "x", 1);
  Add(lookup, "y", 1);
  EXPECT_TRUE(KeyIndex::Build(lookup, {0}).ok());
  EXPECT_EQ(KeyIndex::Build(lookup, {1}).status().code(), Code::kInternal);
}

TEST(KeyIndexTest, ManyKeysOfEachWidth) {
  for (const TypeKind kind :
       {TypeKind::kInt16, TypeKind::kInt32, TypeKind::kInt64, TypeKind::kInt128, TypeKind::kText}) {
    RowBatch rows(std::make_shared<Schema>(Schema{{"k", kind}}));
    for (int16_t i = 0; i < 5000; ++i) {
      const int64_t value[2] = {i, 0};
      if (kind == TypeKind::kText) {
        rows.column(0).AppendText(std::to_string(i));
      } else {
        rows.column(0).AppendFixed(value);
      }
    }
    const auto index = KeyIndex::Build(rows, {0});
    ASSERT_TRUE(index.ok());
    const uint32_t columns[] = {0};
    const std::vector<uint32_t> found = index->Find(rows, columns);
    for (uint32_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i], i);
    }
  }
}

}  // namespace
}  // namespace millrace::sql
