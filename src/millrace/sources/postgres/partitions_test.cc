// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/partitions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace::sources::postgres {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// What is said of each partition, with a plus where rows came.
std::vector<std::string> Said(const std::vector<Partition>& known,
                              const std::vector<Partition>& now,
                              const std::vector<uint32_t>& truncations = {}) {
  std::vector<std::string> said;
  for (const PartitionChange& change : ComparePartitions(known, now, truncations)) {
    said.push_back(change.partition + (change.brings_rows ? "+" : ""));
  }
  return said;
}

const Partition kOld{.oid = 10, .name = "old", .attached_by = 1, .file_node = 10};

TEST(PartitionsTest, WhatIsCreatedOrAttachedEmptyIsNoChange) {
  const Partition born{
      .oid = 20, .name = "born", .attached_by = 2, .file_node = 20, .is_born = true};
  const Partition empty{
      .oid = 21, .name = "empty", .attached_by = 2, .file_node = 21, .is_empty = true};
  const Partition inner{.oid = 22, .name = "inner", .attached_by = 2, .is_born = true};
  EXPECT_THAT(Said({kOld}, {kOld, born, empty, inner}), IsEmpty());
}

TEST(PartitionsTest, WhatIsAttachedBringsRows) {
  const Partition full{.oid = 20, .name = "full", .attached_by = 2, .file_node = 20};
  const Partition inner{.oid = 21, .name = "inner", .attached_by = 2};
  // Created as a partition of `inner`, which brought it.
  const Partition below{
      .oid = 22, .name = "below", .attached_by = 1, .file_node = 22, .is_born = true};
  EXPECT_THAT(Said({kOld}, {kOld, full, inner, below}), ElementsAre("full+", "inner+"));
  // Attached again, with rows that changed meanwhile.
  Partition again = kOld;
  again.attached_by = 5;
  EXPECT_THAT(Said({kOld}, {again}), ElementsAre("old+"));
}

TEST(PartitionsTest, WhatGoesOrHasAnotherFileIsAChange) {
  Partition truncated = kOld;
  truncated.file_node = 99;
  truncated.written_by = 7;
  EXPECT_THAT(Said({kOld}, {truncated}), ElementsAre("old"));
  EXPECT_THAT(Said({kOld}, {truncated}, {6, 7}), IsEmpty());  // the root was truncated
  EXPECT_THAT(Said({kOld}, {}), ElementsAre("old"));
  // Created, filled and truncated since the last comparison.
  Partition born{.oid = 20, .name = "born", .attached_by = 2, .file_node = 88, .is_born = true};
  EXPECT_THAT(Said({}, {born}), ElementsAre("born"));
  // Attached empty, filled by row events and truncated.
  born.is_born = false;
  born.is_empty = true;
  EXPECT_THAT(Said({}, {born}), ElementsAre("born+"));
}

}  // namespace
}  // namespace millrace::sources::postgres
