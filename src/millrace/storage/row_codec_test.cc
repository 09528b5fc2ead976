// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/row_codec.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/common/coding.h"
#include "millrace/storage/testing/sample_output.h"

namespace millrace::storage {
namespace {

RowBatch OneColumn(DataType type) {
  return RowBatch(std::make_shared<const Schema>(Schema{{"c", std::move(type)}}));
}

std::vector<uint32_t> All(const RowBatch& batch) {
  std::vector<uint32_t> columns(batch.column_count());
  for (uint32_t i = 0; i < columns.size(); ++i) {
    columns[i] = i;
  }
  return columns;
}

std::string KeyOf(const RowBatch& batch, size_t row) {
  std::string key;
  EncodeKey(batch, row, All(batch), key);
  return key;
}

// REQUIRES: the rows of `batch` ascend.
void ExpectKeysAscend(const RowBatch& batch) {
  for (size_t row = 1; row < batch.row_count(); ++row) {
    EXPECT_LT(KeyOf(batch, row - 1), KeyOf(batch, row)) << row;
  }
}

TEST(EncodeKeyTest, IntegersSortAsTheyCount) {
  RowBatch batch = OneColumn(TypeKind::kInt64);
  batch.column(0).AppendNull();
  for (const int64_t v :
       {INT64_MIN, int64_t{-256}, int64_t{-1}, int64_t{0}, int64_t{255}, int64_t{256}, INT64_MAX}) {
    batch.column(0).Append(v);
  }
  ExpectKeysAscend(batch);
}

TEST(EncodeKeyTest, WideIntegersSortAsTheyCount) {
  RowBatch batch = OneColumn(TypeKind::kInt128);
  const Int128 least = static_cast<Int128>(UInt128{1} << 127);
  for (const Int128 v : {least, Int128{-1}, Int128{0}, Int128{1} << 64, ~least}) {
    batch.column(0).Append(v);
  }
  ExpectKeysAscend(batch);
}

TEST(EncodeKeyTest, DoublesSortAsInPostgres) {
  RowBatch batch = OneColumn(TypeKind::kFloat64);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double v : {-infinity, -1.5, -1e-300, 0.0, 5e-324, 2.0, infinity, std::nan("")}) {
    batch.column(0).Append(v);
  }
  ExpectKeysAscend(batch);
}

TEST(EncodeKeyTest, ZeroesAndNansAreOne) {
  RowBatch batch = OneColumn(TypeKind::kFloat64);
  for (const double v : {0.0, -0.0, std::nan("1"), -std::nan("2")}) {
    batch.column(0).Append(v);
  }
  EXPECT_EQ(KeyOf(batch, 0), KeyOf(batch, 1));
  EXPECT_EQ(KeyOf(batch, 2), KeyOf(batch, 3));
}

TEST(EncodeKeyTest, TextSortsByBytesWithZeroBytesInside) {
  RowBatch batch = OneColumn(TypeKind::kBytes);
  using std::string_view_literals::operator""sv;
  for (const std::string_view v : {""sv, "\0"sv, "\0\0"sv, "\0\1"sv, "\1"sv, "a"sv, "a\0"sv,
                                   "a\0b"sv, "a\1"sv, "ab"sv, "\xff"sv, "\xff\xff"sv}) {
    batch.column(0).AppendText(v);
  }
  ExpectKeysAscend(batch);
}

TEST(EncodeKeyTest, AWidenedColumnKeepsItsKeys) {
  RowBatch narrow = OneColumn(TypeKind::kInt16);
  RowBatch wide = OneColumn(TypeKind::kInt64);
  narrow.column(0).Append<int16_t>(-5);
  wide.column(0).Append<int64_t>(-5);
  EXPECT_EQ(KeyOf(narrow, 0), KeyOf(wide, 0));

  RowBatch small = OneColumn(DataType::Decimal(4, 2));
  RowBatch large = OneColumn(DataType::Decimal(30, 2));
  small.column(0).Append<int16_t>(-1234);
  large.column(0).Append<Int128>(-1234);
  EXPECT_EQ(KeyOf(small, 0), KeyOf(large, 0));

  // NaN is behind every number, as in PostgreSQL.
  small.column(0).Append(kDecimalNaN<int16_t>);
  large.column(0).Append(kDecimalNaN<Int128>);
  large.column(0).Append(kDecimalNaN<Int128> - 1);
  EXPECT_EQ(KeyOf(small, 1), KeyOf(large, 1));
  EXPECT_GT(KeyOf(large, 1), KeyOf(large, 2));
}

TEST(EncodeKeyTest, IntervalsOfOneLengthAreOne) {
  RowBatch batch = OneColumn(TypeKind::kInterval);
  batch.column(0).Append(Interval{1, 0, 0});
  batch.column(0).Append(Interval{0, 30, 0});
  batch.column(0).Append(Interval{0, 29, 86'400'000'000});
  batch.column(0).Append(Interval{0, 30, 1});
  EXPECT_EQ(KeyOf(batch, 0), KeyOf(batch, 1));
  EXPECT_EQ(KeyOf(batch, 0), KeyOf(batch, 2));
  EXPECT_LT(KeyOf(batch, 0), KeyOf(batch, 3));
}

TEST(EncodeKeyTest, ListsSortElementByElement) {
  RowBatch batch = OneColumn(DataType::List(TypeKind::kText));
  Column& column = batch.column(0);
  const auto append = [&column](const std::vector<const char*>& elements) {
    for (const char* element : elements) {
      element == nullptr ? column.child().AppendNull() : column.child().AppendText(element);
    }
    column.AppendListEnd();
  };
  column.AppendNull();
  append({});
  append({nullptr});
  append({nullptr, "a"});
  append({"a"});
  append({"a", "b"});
  append({"ab"});
  ExpectKeysAscend(batch);
}

TEST(EncodeKeyTest, LeadingColumnsAreAPrefixAndValuesCannotRunTogether) {
  RowBatch batch(
      std::make_shared<const Schema>(Schema{{"a", TypeKind::kText}, {"b", TypeKind::kText}}));
  const std::pair<const char*, const char*> rows[] = {{"a", "bc"}, {"ab", "c"}, {"abc", ""}};
  for (const auto& [a, b] : rows) {
    batch.column(0).AppendText(a);
    batch.column(1).AppendText(b);
  }
  ExpectKeysAscend(batch);
  std::string prefix;
  const uint32_t first[] = {0};
  EncodeKey(batch, 1, first, prefix);
  EXPECT_TRUE(KeyOf(batch, 1).starts_with(prefix));
  EXPECT_FALSE(KeyOf(batch, 0).starts_with(prefix));
  EXPECT_FALSE(KeyOf(batch, 2).starts_with(prefix));
}

TEST(EncodeKeyTest, EqualBytesMeanEqualRows) {
  const OutputRecord record =
      testing::MakeRecord(testing::MakeEveryTypeStream(), Offset(0), 200, 3);
  const RowBatch& batch = record.batches[0]->rows;
  RowBatch copy(batch.schema());
  copy.AppendRange(batch, 0, 200);
  EncodedRows keys;
  EncodeKeys(copy, 0, 200, All(copy), keys);
  ASSERT_EQ(keys.size(), 200U);
  for (size_t a = 0; a < 200; ++a) {
    EXPECT_EQ(keys[a], KeyOf(batch, a));
    for (size_t b = 0; b < a; ++b) {
      EXPECT_NE(keys[a], keys[b]);
    }
  }
}

TEST(RowCodecTest, EveryTypeRoundTrips) {
  const StreamPtr stream = testing::MakeEveryTypeStream();
  const OutputRecord record = testing::MakeRecord(stream, Offset(0), 300, 5);
  const RowBatch& batch = record.batches[0]->rows;
  EncodedRows rows;
  EncodeRows(batch, 0, 300, SchemaVersion(9), All(batch), rows);
  RowBatch decoded(stream->columns);
  for (size_t row = 0; row < rows.size(); ++row) {
    const Result<SchemaVersion> version = DecodeRowVersion(rows[row]);
    ASSERT_TRUE(version.ok());
    EXPECT_EQ(*version, SchemaVersion(9));
    const Status status = DecodeRow(rows[row], decoded);
    ASSERT_TRUE(status.ok()) << status.ToString();
    std::string one;
    EncodeRow(batch, row, SchemaVersion(9), one);
    EXPECT_EQ(rows[row], one);
  }
  EXPECT_TRUE(testing::SameRows(decoded, batch));
}

TEST(RowCodecTest, ChosenColumnsRoundTripInTheirOrder) {
  const StreamPtr stream = testing::MakeEngagementStream();
  const OutputRecord record = testing::MakeRecord(stream, Offset(0), 5, 5);
  const RowBatch& batch = record.batches[0]->rows;
  const uint32_t columns[] = {7, 0};
  RowBatch decoded(
      std::make_shared<const Schema>(Schema{(*stream->columns)[7], (*stream->columns)[0]}));
  std::string bytes;
  EncodeRow(batch, 4, SchemaVersion(1), columns, bytes);
  ASSERT_TRUE(DecodeRow(bytes, decoded).ok());
  EXPECT_EQ(decoded.column(0).Text(0), batch.column(7).Text(4));
  EXPECT_EQ(decoded.column(1).Value<int64_t>(0), batch.column(0).Value<int64_t>(4));
}

TEST(RowCodecTest, CutRowsAreCorruptionAndLeaveTheBatchAsItWas) {
  const StreamPtr stream = testing::MakeEveryTypeStream();
  const OutputRecord record = testing::MakeRecord(stream, Offset(0), 8, 6);
  const RowBatch& batch = record.batches[0]->rows;
  for (size_t row = 0; row < 8; ++row) {
    std::string bytes;
    EncodeRow(batch, row, SchemaVersion(1), bytes);
    RowBatch decoded(stream->columns);
    decoded.AppendRow(batch, 0);
    for (size_t n = 0; n < bytes.size(); ++n) {
      EXPECT_EQ(DecodeRow(bytes.substr(0, n), decoded).code(), Code::kCorruption) << n;
    }
    EXPECT_EQ(DecodeRow(bytes + "x", decoded).code(), Code::kCorruption);
    ASSERT_TRUE(DecodeRow(bytes, decoded).ok());
    RowBatch expected(stream->columns);
    expected.AppendRow(batch, 0);
    expected.AppendRow(batch, row);
    EXPECT_TRUE(testing::SameRows(decoded, expected));
  }
}

TEST(RowCodecTest, MutatedRowsNeverCrash) {
  const StreamPtr stream = testing::MakeEveryTypeStream();
  const OutputRecord record = testing::MakeRecord(stream, Offset(0), 4, 7);
  const RowBatch& batch = record.batches[0]->rows;
  std::mt19937_64 random(1);
  RowBatch decoded(stream->columns);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes;
    EncodeRow(batch, random() % 4, SchemaVersion(1), bytes);
    for (uint64_t n = 1 + random() % 3; n > 0; --n) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const size_t rows = decoded.row_count();
    const Status status = DecodeRow(bytes, decoded);
    EXPECT_EQ(decoded.row_count(), rows + (status.ok() ? 1 : 0));
    decoded.Truncate(0);
  }
}

TEST(RowCodecTest, RefusesWhatItDoesNotKnow) {
  RowBatch batch = OneColumn(TypeKind::kBool);
  batch.column(0).Append<uint8_t>(1);
  std::string bytes;
  EncodeRow(batch, 0, SchemaVersion(1), bytes);
  RowBatch decoded(batch.schema());
  std::string newer = bytes;
  newer[0] = 2;
  EXPECT_EQ(DecodeRow(newer, decoded).code(), Code::kUnsupported);
  EXPECT_EQ(DecodeRowVersion(newer).status().code(), Code::kUnsupported);
  std::string neither = bytes;
  neither.back() = 2;
  EXPECT_EQ(DecodeRow(neither, decoded).code(), Code::kCorruption);
  RowBatch wider(
      std::make_shared<const Schema>(Schema{{"a", TypeKind::kBool}, {"b", TypeKind::kBool}}));
  EXPECT_EQ(DecodeRow(bytes, wider).code(), Code::kCorruption);
}

}  // namespace
}  // namespace millrace::storage
