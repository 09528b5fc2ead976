// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/relation_message.h"

#include <utility>

#include "millrace/common/coding.h"

namespace millrace::sources::postgres {
Result<RelationMessage> ParseRelationMessage(std::string_view body) {
  ByteReader reader(body);
  RelationMessage relation;
  MR_ASSIGN_OR_RETURN(relation.oid, reader.ReadBigEndian<uint32_t>());
  MR_ASSIGN_OR_RETURN(relation.schema, reader.ReadCString());
  MR_ASSIGN_OR_RETURN(relation.name, reader.ReadCString());
  MR_ASSIGN_OR_RETURN(const uint8_t identity, reader.ReadBigEndian<uint8_t>());
  relation.replica_identity = static_cast<char>(identity);
  MR_ASSIGN_OR_RETURN(const uint16_t count, reader.ReadBigEndian<uint16_t>());
  for (uint16_t i = 0; i < count; ++i) {
    RelationMessage::Column column;
    MR_ASSIGN_OR_RETURN(const uint8_t flags, reader.ReadBigEndian<uint8_t>());
    column.is_key = (flags & 1) != 0;
    MR_ASSIGN_OR_RETURN(column.name, reader.ReadCString());
    MR_ASSIGN_OR_RETURN(column.type_oid, reader.ReadBigEndian<uint32_t>());
    MR_ASSIGN_OR_RETURN(const uint32_t typmod, reader.ReadBigEndian<uint32_t>());
    column.typmod = static_cast<int32_t>(typmod);
    relation.columns.push_back(std::move(column));
  }
  if (!reader.empty()) {
    return Corruption("a Relation message is longer than its columns");
  }
  return relation;
}

}  // namespace millrace::sources::postgres
