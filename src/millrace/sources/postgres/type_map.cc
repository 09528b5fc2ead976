// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/type_map.h"

#include <optional>

namespace millrace::sources::postgres {
namespace {

constexpr int32_t kTypmodHeader = 4;
constexpr int32_t kDecimalPrecisionMax = 38;

// numeric's typmod is (precision << 16 | scale) + 4, the scale in 11 bits, signed from
// PostgreSQL 15.
DataType MapNumeric(int32_t typmod) {
  if (typmod < kTypmodHeader) {
    return TypeKind::kText;  // unconstrained
  }
  const int32_t packed = typmod - kTypmodHeader;
  const int32_t precision = (packed >> 16) & 0xffff;
  const int32_t scale = ((packed & 0x7ff) ^ 1024) - 1024;
  if (precision < 1 || precision > kDecimalPrecisionMax || scale < 0 || scale > precision) {
    return TypeKind::kText;
  }
  return DataType::Decimal(static_cast<uint8_t>(precision), static_cast<uint8_t>(scale));
}

// Nothing for types that the documented table does not name.
std::optional<DataType> MapType(const TypeFacts& facts) {
  if (facts.is_enum) {
    return TypeKind::kEnum;
  }
  switch (facts.oid) {
    case kBoolOid:
      return TypeKind::kBool;
    case kInt2Oid:
      return TypeKind::kInt16;
    case kInt4Oid:
      return TypeKind::kInt32;
    case kInt8Oid:
      return TypeKind::kInt64;
    case kFloat4Oid:
      return TypeKind::kFloat32;
    case kFloat8Oid:
      return TypeKind::kFloat64;
    case kNumericOid:
      return MapNumeric(facts.typmod);
    case kUuidOid:
      return TypeKind::kUuid;
    case kDateOid:
      return TypeKind::kDate;
    case kTimeOid:
      return TypeKind::kTime;
    case kTimestampOid:
      return TypeKind::kTimestamp;
    case kTimestampTzOid:
      return TypeKind::kTimestampTz;
    case kIntervalOid:
      return TypeKind::kInterval;
    case kJsonOid:
    case kJsonbOid:
      return TypeKind::kJson;
    case kByteaOid:
      return TypeKind::kBytes;
    case kTextOid:
    case kVarcharOid:
    case kBpcharOid:
    case kNameOid:
    case kXmlOid:
    case kTimeTzOid:
      return TypeKind::kText;
    default:
      return facts.is_text_extension ? std::optional<DataType>(TypeKind::kText) : std::nullopt;
  }
}

}  // namespace

DataType MapColumnType(const ColumnTypeFacts& facts) {
  std::optional<DataType> type = MapType(facts.type);
  if (!type.has_value() || (facts.is_array && facts.dimensions > 1)) {
    return TypeKind::kText;
  }
  return facts.is_array ? DataType::List(std::move(*type)) : std::move(*type);
}

}  // namespace millrace::sources::postgres
