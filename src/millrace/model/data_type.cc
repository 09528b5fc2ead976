// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/data_type.h"

#include <fmt/format.h>

#include "millrace/common/check.h"

namespace millrace {

DataType DataType::Decimal(uint8_t precision, uint8_t scale) {
  MR_CHECK(precision >= 1 && precision <= 38 && scale <= precision);
  DataType type(TypeKind::kDecimal);
  type.precision = precision;
  type.scale = scale;
  return type;
}

DataType DataType::List(DataType element) {
  DataType type(TypeKind::kList);
  type.element = std::make_shared<const DataType>(std::move(element));
  return type;
}

bool DataType::operator==(const DataType& other) const {
  if (kind != other.kind || precision != other.precision || scale != other.scale) {
    return false;
  }
  return kind != TypeKind::kList || *element == *other.element;
}

size_t DecimalWidth(uint8_t precision) {
  return precision <= 4 ? 2 : precision <= 9 ? 4 : precision <= 18 ? 8 : 16;
}

size_t DataType::width() const {
  switch (kind) {
    case TypeKind::kBool:
    case TypeKind::kInt8:
    case TypeKind::kUInt8:
      return 1;
    case TypeKind::kInt16:
    case TypeKind::kUInt16:
      return 2;
    case TypeKind::kInt32:
    case TypeKind::kUInt32:
    case TypeKind::kFloat32:
    case TypeKind::kDate:
      return 4;
    case TypeKind::kInt64:
    case TypeKind::kUInt64:
    case TypeKind::kFloat64:
    case TypeKind::kTime:
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
      return 8;
    case TypeKind::kInt128:
    case TypeKind::kUInt128:
    case TypeKind::kInterval:
    case TypeKind::kUuid:
      return 16;
    case TypeKind::kDecimal:
      return DecimalWidth(precision);
    case TypeKind::kText:
    case TypeKind::kEnum:
    case TypeKind::kJson:
    case TypeKind::kBytes:
    case TypeKind::kList:
      return 0;
  }
  return 0;
}

std::string DataType::ToString() const {
  switch (kind) {
    case TypeKind::kBool:
      return "bool";
    case TypeKind::kInt8:
      return "int8";
    case TypeKind::kInt16:
      return "int16";
    case TypeKind::kInt32:
      return "int32";
    case TypeKind::kInt64:
      return "int64";
    case TypeKind::kInt128:
      return "int128";
    case TypeKind::kUInt8:
      return "uint8";
    case TypeKind::kUInt16:
      return "uint16";
    case TypeKind::kUInt32:
      return "uint32";
    case TypeKind::kUInt64:
      return "uint64";
    case TypeKind::kUInt128:
      return "uint128";
    case TypeKind::kFloat32:
      return "float32";
    case TypeKind::kFloat64:
      return "float64";
    case TypeKind::kDecimal:
      return fmt::format("decimal({},{})", precision, scale);
    case TypeKind::kDate:
      return "date";
    case TypeKind::kTime:
      return "time";
    case TypeKind::kTimestamp:
      return "timestamp";
    case TypeKind::kTimestampTz:
      return "timestamptz";
    case TypeKind::kInterval:
      return "interval";
    case TypeKind::kUuid:
      return "uuid";
    case TypeKind::kText:
      return "text";
    case TypeKind::kEnum:
      return "enum";
    case TypeKind::kJson:
      return "json";
    case TypeKind::kBytes:
      return "bytes";
    case TypeKind::kList:
      return fmt::format("list({})", element->ToString());
  }
  return "unknown";
}

}  // namespace millrace
