// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/relation_message.h"

#include <algorithm>

#include <fmt/format.h>

#include "millrace/common/coding.h"

namespace millrace::sources::postgres {
namespace {

using Column = RelationMessage::Column;

Status Altered(const SourceTable& table, std::string_view what) {
  return FailedPrecondition(fmt::format(
      "table {}: {}; this version cannot follow a change of a table's columns or key: set the "
      "pipeline up again (stop it, drop its slot with pg_drop_replication_slot, start with an "
      "empty "
      "data_dir)",
      table.table->FullName(), what));
}

bool HasColumn(const std::vector<Column>& columns, const std::string& name) {
  return std::any_of(columns.begin(), columns.end(),
                     [&](const Column& column) { return column.name == name; });
}

bool HasField(const Schema& schema, const std::string& name) {
  return std::any_of(schema.begin(), schema.end(),
                     [&](const Field& field) { return field.name == name; });
}

// varchar(n) made longer, or unlimited: no value changes.
bool IsWidenedVarchar(const ColumnTypeFacts& known, const Column& column) {
  return known.declared_oid == kVarcharOid && column.type_oid == kVarcharOid &&
         known.declared_typmod >= 0 && (column.typmod < 0 || column.typmod > known.declared_typmod);
}

Status CheckColumns(const SourceTable& table, const RelationMessage& relation) {
  const Schema& known = *table.table->columns;
  for (const Column& column : relation.columns) {
    if (!HasField(known, column.name)) {
      return Altered(table, fmt::format("column '{}' was added or renamed", column.name));
    }
  }
  for (const Field& field : known) {
    if (!HasColumn(relation.columns, field.name)) {
      return Altered(table, fmt::format("column '{}' was dropped or renamed", field.name));
    }
  }
  if (relation.columns.size() != known.size()) {
    return Corruption(
        fmt::format("table {}: the server names a column twice", table.table->FullName()));
  }
  for (size_t i = 0; i < known.size(); ++i) {
    const Column& column = relation.columns[i];
    const ColumnTypeFacts& type = table.types[i];
    if (column.name != known[i].name) {
      return Altered(table, "the order of its columns changed");
    }
    if ((column.type_oid != type.declared_oid || column.typmod != type.declared_typmod) &&
        !IsWidenedVarchar(type, column)) {
      return Altered(table, fmt::format("the type of column '{}' changed", column.name));
    }
  }
  return Status::Ok();
}

// The old images must go on holding what the engine was promised that they hold.
Status CheckIdentity(const SourceTable& table, const RelationMessage& relation) {
  if (table.table->replica_identity == ReplicaIdentity::kFull && relation.replica_identity != 'f') {
    return Altered(table, "its replica identity is no longer full");
  }
  if (relation.replica_identity == 'n' || !table.has_usable_identity) {
    return Status::Ok();  // there are no updates or deletes then
  }
  const auto holds = [&](const std::vector<uint32_t>& columns) {
    return std::all_of(columns.begin(), columns.end(),
                       [&](uint32_t column) { return relation.columns[column].is_key; });
  };
  const auto key_columns =
      static_cast<size_t>(std::count_if(relation.columns.begin(), relation.columns.end(),
                                        [](const Column& column) { return column.is_key; }));
  const std::vector<uint32_t>& key = table.table->primary_key;
  const std::vector<uint32_t>& index = table.table->identity_index;
  // The engine knows each row's key by the index that it was told of.
  const bool is_index = relation.replica_identity == 'i' && !index.empty() && holds(index) &&
                        key_columns == index.size();
  const bool is_key = holds(key) &&
                      (relation.replica_identity != 'd' || key_columns == key.size()) &&
                      (relation.replica_identity == 'f' || !table.table->OldImagesLackKey());
  if (!is_index && !is_key) {
    return Altered(table, "its primary key or replica identity changed");
  }
  return Status::Ok();
}

}  // namespace

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
    Column column;
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

Status CheckSameShape(const SourceTable& table, const RelationMessage& relation) {
  if (relation.schema != table.table->schema || relation.name != table.table->name) {
    return Altered(table, fmt::format("it was renamed to {}.{}", relation.schema, relation.name));
  }
  if (relation.oid != table.table->oid) {
    return Altered(table, "it was dropped and created again");
  }
  MR_RETURN_IF_ERROR(CheckColumns(table, relation));
  return CheckIdentity(table, relation);
}

}  // namespace millrace::sources::postgres
