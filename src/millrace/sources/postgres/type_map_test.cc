// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/type_map.h"

#include <gtest/gtest.h>

namespace millrace::sources::postgres {
namespace {

constexpr int32_t NumericTypmod(int32_t precision, int32_t scale) {
  return ((precision << 16) | (scale & 0x7ff)) + 4;
}

std::string Map(uint32_t oid, int32_t typmod = -1) {
  return MapColumnType({.type = {.oid = oid, .typmod = typmod}}).ToString();
}

TEST(TypeMap, FollowsTheDocumentedTable) {
  const struct {
    uint32_t oid;
    const char* type;
  } cases[] = {
      {kBoolOid, "bool"},
      {kInt2Oid, "int16"},
      {kInt4Oid, "int32"},
      {kInt8Oid, "int64"},
      {kFloat4Oid, "float32"},
      {kFloat8Oid, "float64"},
      {kTextOid, "text"},
      {kVarcharOid, "text"},
      {kBpcharOid, "text"},
      {kNameOid, "text"},
      {kXmlOid, "text"},
      {kUuidOid, "uuid"},
      {kDateOid, "date"},
      {kTimestampOid, "timestamp"},
      {kTimestampTzOid, "timestamptz"},
      {kTimeOid, "time"},
      {kTimeTzOid, "text"},
      {kIntervalOid, "interval"},
      {kJsonOid, "json"},
      {kJsonbOid, "json"},
      {kByteaOid, "bytes"},
      {18, "text"} /* "char" */,
      {26, "text"} /* oid */,
      {790, "text"} /* money */,
      {869, "text"} /* inet */,
      {3904, "text"} /* int4range */,
      {600, "text"} /* point */,
      {1560, "text"} /* bit */,
      {3614, "text"} /* tsvector */,
      {70000, "text"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(Map(c.oid), c.type) << c.oid;
  }
}

TEST(TypeMap, NumericIsADecimalOnlyWhereItFits) {
  EXPECT_EQ(Map(kNumericOid, NumericTypmod(10, 2)), "decimal(10,2)");
  EXPECT_EQ(Map(kNumericOid, NumericTypmod(38, 38)), "decimal(38,38)");
  EXPECT_EQ(Map(kNumericOid, NumericTypmod(1, 0)), "decimal(1,0)");
  EXPECT_EQ(Map(kNumericOid, NumericTypmod(39, 0)), "text");
  EXPECT_EQ(Map(kNumericOid, NumericTypmod(5, -2)), "text");
  EXPECT_EQ(Map(kNumericOid, NumericTypmod(3, 5)), "text");
  EXPECT_EQ(Map(kNumericOid), "text");
}

TEST(TypeMap, EnumsAndTextExtensionsAreKnownByTheCatalog) {
  EXPECT_EQ(MapColumnType({.type = {.oid = 70000, .is_enum = true}}).ToString(), "enum");
  EXPECT_EQ(MapColumnType({.type = {.oid = 70000, .is_text_extension = true}}).ToString(), "text");
}

TEST(TypeMap, ArraysOfListedTypesAreLists) {
  const auto map = [](TypeFacts element, int32_t dimensions) {
    return MapColumnType({.type = element, .is_array = true, .dimensions = dimensions}).ToString();
  };
  EXPECT_EQ(map({.oid = kTextOid}, 1), "list(text)");
  EXPECT_EQ(map({.oid = kUuidOid}, 0), "list(uuid)");
  EXPECT_EQ(map({.oid = kNumericOid, .typmod = NumericTypmod(10, 2)}, 1), "list(decimal(10,2))");
  EXPECT_EQ(map({.oid = 70000, .is_enum = true}, 1), "list(enum)");
  EXPECT_EQ(map({.oid = 70000, .is_text_extension = true}, 1), "list(text)");
  EXPECT_EQ(map({.oid = kInt4Oid}, 2), "text");
  EXPECT_EQ(map({.oid = 869}, 1), "text");  // inet[]
}

}  // namespace
}  // namespace millrace::sources::postgres
