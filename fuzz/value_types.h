// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "millrace/model/data_type.h"

namespace millrace::fuzz {

// Every type that a column of PostgreSQL maps to, lists apart. The first byte of an input picks
// one: append only.
inline const std::array<DataType, 20>& ScalarTypes() {
  static const std::array<DataType, 20> kTypes = {
      TypeKind::kBool,           TypeKind::kInt16,        TypeKind::kInt32,
      TypeKind::kInt64,          TypeKind::kFloat32,      TypeKind::kFloat64,
      DataType::Decimal(4, 2),   DataType::Decimal(9, 9), DataType::Decimal(18, 0),
      DataType::Decimal(38, 10), TypeKind::kDate,         TypeKind::kTime,
      TypeKind::kTimestamp,      TypeKind::kTimestampTz,  TypeKind::kInterval,
      TypeKind::kUuid,           TypeKind::kText,         TypeKind::kEnum,
      TypeKind::kJson,           TypeKind::kBytes};
  return kTypes;
}

}  // namespace millrace::fuzz
