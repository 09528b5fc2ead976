// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "millrace/model/data_type.h"

namespace millrace::sources::postgres {

// Object ids of PostgreSQL's built-in types; fixed for ever (pg_type.dat).
enum TypeOid : uint32_t {
  kBoolOid = 16,
  kByteaOid = 17,
  kNameOid = 19,
  kInt8Oid = 20,
  kInt2Oid = 21,
  kInt4Oid = 23,
  kTextOid = 25,
  kJsonOid = 114,
  kXmlOid = 142,
  kFloat4Oid = 700,
  kFloat8Oid = 701,
  kBpcharOid = 1042,
  kVarcharOid = 1043,
  kDateOid = 1082,
  kTimeOid = 1083,
  kTimestampOid = 1114,
  kTimestampTzOid = 1184,
  kIntervalOid = 1186,
  kTimeTzOid = 1266,
  kNumericOid = 1700,
  kUuidOid = 2950,
  kJsonbOid = 3802,
};

// What the catalog says of a type, domains already followed to their base type.
struct TypeFacts {
  uint32_t oid = 0;
  int32_t typmod = -1;
  bool is_enum = false;
  // citext: text with another comparison.
  bool is_text_extension = false;

  bool operator==(const TypeFacts&) const = default;
};

// A column's type as the catalog has it.
struct ColumnTypeFacts {
  // As pg_attribute and pgoutput's Relation message have them.
  uint32_t declared_oid = 0;
  int32_t declared_typmod = -1;
  // The type itself, or of an array its element.
  TypeFacts type;
  bool is_array = false;
  // pg_attribute.attndims: 2 and more for int[][]. PostgreSQL does not enforce it.
  int32_t dimensions = 0;

  bool operator==(const ColumnTypeFacts&) const = default;
};

// The type of a column's values, by the table in docs/TYPES.md. Types that
// it does not name are text: PostgreSQL's own text form.
DataType MapColumnType(const ColumnTypeFacts& facts);

}  // namespace millrace::sources::postgres
