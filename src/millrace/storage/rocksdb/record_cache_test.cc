// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/record_cache.h"

#include <gtest/gtest.h>

#include "millrace/storage/testing/sample_output.h"

namespace millrace::storage {
namespace {

OutputRecord RecordAt(uint64_t first, size_t rows) {
  return testing::MakeRecord(testing::MakeEngagementStream(), Offset(first), rows, first);
}

TEST(RecordCacheTest, FindsTheRecordThatHoldsAnOffset) {
  RecordCache cache(1 << 20);
  cache.Insert(RecordAt(10, 5));
  EXPECT_FALSE(cache.Find(Offset(9)).has_value());
  EXPECT_TRUE(cache.Find(Offset(10)).has_value());
  EXPECT_TRUE(cache.Find(Offset(14)).has_value());
  EXPECT_FALSE(cache.Find(Offset(15)).has_value());
}

TEST(RecordCacheTest, StaysWithinItsBytesAndKeepsWhatIsUsed) {
  RecordCache cache(size_t{64} * 1024);
  cache.Insert(RecordAt(0, 10));
  const uint64_t one = cache.byte_size();
  for (uint64_t first = 10; first < 5000; first += 10) {
    EXPECT_TRUE(cache.Find(Offset(0)).has_value());
    cache.Insert(RecordAt(first, 10));
    EXPECT_LE(cache.byte_size(), size_t{64} << 10);
  }
  EXPECT_GT(cache.byte_size(), (size_t{64} << 10) - 2 * one);
  EXPECT_FALSE(cache.Find(Offset(10)).has_value());
  EXPECT_TRUE(cache.Find(Offset(4995)).has_value());
}

TEST(RecordCacheTest, LeavesOutWhatIsLargerThanItself) {
  RecordCache cache(4096);
  cache.Insert(RecordAt(0, 1000));
  EXPECT_EQ(cache.byte_size(), 0U);
}

TEST(RecordCacheTest, DropsFromTheBeginning) {
  RecordCache cache(1 << 20);
  for (uint64_t first = 0; first < 50; first += 10) {
    cache.Insert(RecordAt(first, 10));
  }
  cache.DropBefore(Offset(19));
  EXPECT_FALSE(cache.Find(Offset(0)).has_value());
  EXPECT_TRUE(cache.Find(Offset(10)).has_value());
  cache.DropBefore(Offset(50));
  EXPECT_EQ(cache.byte_size(), 0U);
}

}  // namespace
}  // namespace millrace::storage
