// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace millrace {

// What a column's values are. The numbers stand in the output log: append only.
enum class TypeKind : uint8_t {
  kBool = 1,
  kInt8 = 2,
  kInt16 = 3,
  kInt32 = 4,
  kInt64 = 5,
  kInt128 = 6,
  kUInt8 = 7,
  kUInt16 = 8,
  kUInt32 = 9,
  kUInt64 = 10,
  kUInt128 = 11,
  kFloat32 = 12,
  kFloat64 = 13,
  kDecimal = 14,      // precision, scale; an integer of 2, 4, 8 or 16 bytes, scaled by 10^scale
  kDate = 15,         // int32: days since 1970-01-01
  kTime = 16,         // int64: microseconds since midnight, 24:00:00 included
  kTimestamp = 17,    // int64: microseconds since 1970-01-01, without a zone
  kTimestampTz = 18,  // int64: microseconds since 1970-01-01 UTC
  kInterval = 19,     // Interval
  kUuid = 20,         // 16 bytes in printed order
  kText = 21,
  kEnum = 22,   // text out of a small set
  kJson = 23,   // text that is valid JSON
  kBytes = 24,  // raw bytes
  kList = 25,   // one dimension of `element`
};

// A value of kInterval: the three parts are kept apart, as PostgreSQL and DuckDB do.
struct Interval {
  int32_t months = 0;
  int32_t days = 0;
  int64_t micros = 0;

  bool operator==(const Interval&) const = default;
};

// The type of a column. Values of one type have one layout in memory: that of DuckDB's vectors but
// for kUuid and the variable-size kinds (see column.h). Infinite dates and timestamps are the least
// and the greatest value of their integer, plus one at the low end, as in DuckDB (kDateInfinity
// ...). What DuckDB does not have, a decimal that is NaN and infinite intervals, stands at the ends
// of the range in the same way: such values go from PostgreSQL to sinks, never into a query.
struct DataType {
  TypeKind kind = TypeKind::kText;
  uint8_t precision = 0;                    // kDecimal: 1 to 38
  uint8_t scale = 0;                        // kDecimal: 0 to precision
  std::shared_ptr<const DataType> element;  // kList

  // NOLINTNEXTLINE(google-explicit-constructor)
  DataType(TypeKind k = TypeKind::kText) : kind(k) {}
  static DataType Decimal(uint8_t precision, uint8_t scale);
  static DataType List(DataType element);

  bool operator==(const DataType& other) const;

  // Bytes of one value in a column's fixed part; 0 for text, enum, JSON, bytes and lists.
  size_t width() const;
  // Text, enum, JSON or bytes.
  bool is_varlen() const { return kind >= TypeKind::kText && kind <= TypeKind::kBytes; }
  bool is_list() const { return kind == TypeKind::kList; }

  // For people and for the log of schema versions: "decimal(10,2)", "list(text)".
  std::string ToString() const;
};

// Bytes of a decimal's integer: 2 up to precision 4, 4 up to 9, 8 up to 18, else 16.
size_t DecimalWidth(uint8_t precision);

inline constexpr int32_t kDateInfinity = INT32_MAX;
inline constexpr int32_t kDateMinusInfinity = -INT32_MAX;
inline constexpr int64_t kTimestampInfinity = INT64_MAX;
inline constexpr int64_t kTimestampMinusInfinity = -INT64_MAX;
inline constexpr Interval kIntervalInfinity{INT32_MAX, INT32_MAX, INT64_MAX};
inline constexpr Interval kIntervalMinusInfinity{INT32_MIN, INT32_MIN, INT64_MIN};
// The greatest of the decimal's integers, above every number of its precision. `T`: int16_t,
// int32_t, int64_t, __int128.
template <typename T>
inline constexpr T kDecimalNaN =
    static_cast<T>((((static_cast<T>(1) << (sizeof(T) * 8 - 2)) - 1) << 1) + 1);

struct Field {
  std::string name;
  DataType type;
  bool nullable = true;

  bool operator==(const Field&) const = default;
};

// The columns of a batch, in order.
using Schema = std::vector<Field>;
using SchemaPtr = std::shared_ptr<const Schema>;

}  // namespace millrace
