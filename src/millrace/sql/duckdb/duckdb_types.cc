// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/duckdb/duckdb_types.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "millrace/common/check.h"

namespace millrace::sql {
namespace {

constexpr std::string_view kJsonAlias = "JSON";

struct Simple {
  TypeKind kind;
  duckdb_type type;
};
// Types without parameters. kEnum goes in as text and does not come out.
constexpr Simple kSimple[] = {
    {TypeKind::kBool, DUCKDB_TYPE_BOOLEAN},
    {TypeKind::kInt8, DUCKDB_TYPE_TINYINT},
    {TypeKind::kInt16, DUCKDB_TYPE_SMALLINT},
    {TypeKind::kInt32, DUCKDB_TYPE_INTEGER},
    {TypeKind::kInt64, DUCKDB_TYPE_BIGINT},
    {TypeKind::kInt128, DUCKDB_TYPE_HUGEINT},
    {TypeKind::kUInt8, DUCKDB_TYPE_UTINYINT},
    {TypeKind::kUInt16, DUCKDB_TYPE_USMALLINT},
    {TypeKind::kUInt32, DUCKDB_TYPE_UINTEGER},
    {TypeKind::kUInt64, DUCKDB_TYPE_UBIGINT},
    {TypeKind::kUInt128, DUCKDB_TYPE_UHUGEINT},
    {TypeKind::kFloat32, DUCKDB_TYPE_FLOAT},
    {TypeKind::kFloat64, DUCKDB_TYPE_DOUBLE},
    {TypeKind::kDate, DUCKDB_TYPE_DATE},
    {TypeKind::kTime, DUCKDB_TYPE_TIME},
    {TypeKind::kTimestamp, DUCKDB_TYPE_TIMESTAMP},
    {TypeKind::kTimestampTz, DUCKDB_TYPE_TIMESTAMP_TZ},
    {TypeKind::kInterval, DUCKDB_TYPE_INTERVAL},
    {TypeKind::kUuid, DUCKDB_TYPE_UUID},
    {TypeKind::kText, DUCKDB_TYPE_VARCHAR},
    {TypeKind::kBytes, DUCKDB_TYPE_BLOB},
};

bool HasJsonAlias(duckdb_logical_type type) {
  char* alias = duckdb_logical_type_get_alias(type);
  const bool is_json = alias != nullptr && alias == kJsonAlias;
  duckdb_free(alias);
  return is_json;
}

}  // namespace

DuckType ToDuckType(const DataType& type) {
  switch (type.kind) {
    case TypeKind::kDecimal:
      return DuckType(duckdb_create_decimal_type(type.precision, type.scale));
    case TypeKind::kEnum:
      return DuckType(duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR));
    case TypeKind::kJson: {
      DuckType json(duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR));
      duckdb_logical_type_set_alias(json.get(), kJsonAlias.data());
      return json;
    }
    case TypeKind::kList: {
      const DuckType element = ToDuckType(*type.element);
      return DuckType(duckdb_create_list_type(element.get()));
    }
    default:
      break;
  }
  const auto* simple = std::ranges::find(kSimple, type.kind, &Simple::kind);
  MR_CHECK(simple != std::end(kSimple));
  return DuckType(duckdb_create_logical_type(simple->type));
}

std::optional<DataType> FromDuckType(duckdb_logical_type type) {
  const duckdb_type id = duckdb_get_type_id(type);
  switch (id) {
    case DUCKDB_TYPE_VARCHAR:
      return DataType(HasJsonAlias(type) ? TypeKind::kJson : TypeKind::kText);
    case DUCKDB_TYPE_DECIMAL:
      return DataType::Decimal(duckdb_decimal_width(type), duckdb_decimal_scale(type));
    case DUCKDB_TYPE_LIST: {
      const DuckType child(duckdb_list_type_child_type(type));
      std::optional<DataType> element = FromDuckType(child.get());
      if (!element || element->is_list()) {
        return std::nullopt;
      }
      return DataType::List(*std::move(element));
    }
    default:
      break;
  }
  const auto* simple = std::ranges::find(kSimple, id, &Simple::type);
  if (simple == std::end(kSimple)) {
    return std::nullopt;
  }
  return DataType(simple->kind);
}

bool IsNested(duckdb_logical_type type) {
  switch (duckdb_get_type_id(type)) {
    case DUCKDB_TYPE_STRUCT:
    case DUCKDB_TYPE_MAP:
      return true;
    case DUCKDB_TYPE_LIST: {
      const DuckType child(duckdb_list_type_child_type(type));
      return duckdb_get_type_id(child.get()) == DUCKDB_TYPE_LIST || IsNested(child.get());
    }
    default:
      return false;
  }
}

std::string DuckTypeName(duckdb_logical_type type) {
  switch (duckdb_get_type_id(type)) {
    case DUCKDB_TYPE_SQLNULL:
      return "NULL";
    case DUCKDB_TYPE_TIMESTAMP_S:
      return "TIMESTAMP_S";
    case DUCKDB_TYPE_TIMESTAMP_MS:
      return "TIMESTAMP_MS";
    case DUCKDB_TYPE_TIMESTAMP_NS:
      return "TIMESTAMP_NS";
    case DUCKDB_TYPE_TIME_TZ:
      return "TIME WITH TIME ZONE";
    case DUCKDB_TYPE_TIME_NS:
      return "TIME_NS";
    case DUCKDB_TYPE_ENUM:
      return "ENUM";
    case DUCKDB_TYPE_UNION:
      return "UNION";
    case DUCKDB_TYPE_BIT:
      return "BIT";
    case DUCKDB_TYPE_ARRAY:
      return "ARRAY";
    case DUCKDB_TYPE_BIGNUM:
      return "BIGNUM";
    case DUCKDB_TYPE_LIST:
      return "LIST";
    default:
      return "an internal type";
  }
}

// DuckDB keeps the two halves as integers, the lower one first and the top bit flipped so that
// integers sort like UUIDs.
void UuidToDuck(const char* uuid, char* duck) {
  uint64_t high = 0;
  uint64_t low = 0;
  std::memcpy(&high, uuid, 8);
  std::memcpy(&low, uuid + 8, 8);
  high = __builtin_bswap64(high) ^ (uint64_t{1} << 63);
  low = __builtin_bswap64(low);
  std::memcpy(duck, &low, 8);
  std::memcpy(duck + 8, &high, 8);
}

void UuidFromDuck(const char* duck, char* uuid) {
  uint64_t high = 0;
  uint64_t low = 0;
  std::memcpy(&low, duck, 8);
  std::memcpy(&high, duck + 8, 8);
  high = __builtin_bswap64(high ^ (uint64_t{1} << 63));
  low = __builtin_bswap64(low);
  std::memcpy(uuid, &high, 8);
  std::memcpy(uuid + 8, &low, 8);
}

}  // namespace millrace::sql
