// SPDX-License-Identifier: Apache-2.0
//
// A table as the text of a note in data_dir: JSON, see table_history.h.
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "millrace/sources/postgres/table_draft.h"
#include "millrace/sources/postgres/table_history.h"

namespace millrace::sources::postgres {
namespace {

using Json = nlohmann::json;

constexpr int kNoteFormat = 1;

Json ColumnJson(const SourceTable& table, size_t place) {
  const Field& field = (*table.table->columns)[place];
  const ColumnTypeFacts& type = table.types[place];
  const SourceColumn& column = table.columns[place];
  Json json = {
      {"name", field.name},
      {"nullable", field.nullable},
      {"toastable", static_cast<bool>(table.table->toastable[place])},
      {"attnum", column.attnum},
      {"dropped", column.is_dropped},
      {"catalog_xid", column.catalog_xid},
      {"declared", {type.declared_oid, type.declared_typmod}},
      {"type", {type.type.oid, type.type.typmod}},
      {"enum", type.type.is_enum},
      {"text_extension", type.type.is_text_extension},
      {"array", type.is_array},
      {"dimensions", type.dimensions},
  };
  if (column.missing) {
    json["missing"] = *column.missing;
  }
  return json;
}

// Throws for what is not as ColumnJson() makes it.
void ReadColumn(const Json& json, Schema& columns, Table& table, SourceTable& source) {
  ColumnTypeFacts type;
  type.declared_oid = json.at("declared").at(0);
  type.declared_typmod = json.at("declared").at(1);
  type.type.oid = json.at("type").at(0);
  type.type.typmod = json.at("type").at(1);
  type.type.is_enum = json.at("enum");
  type.type.is_text_extension = json.at("text_extension");
  type.is_array = json.at("array");
  type.dimensions = json.at("dimensions");
  SourceColumn column;
  column.attnum = json.at("attnum");
  column.is_dropped = json.at("dropped");
  column.catalog_xid = json.at("catalog_xid");
  if (const auto missing = json.find("missing"); missing != json.end()) {
    column.missing = missing->get<std::string>();
  }
  columns.push_back({json.at("name"), MapColumnType(type), json.at("nullable")});
  table.toastable.push_back(json.at("toastable").get<bool>());
  source.types.push_back(type);
  source.columns.push_back(std::move(column));
}

CoveredTransactions ReadCovered(const Json& json) {
  Result<XidSnapshot> snapshot = XidSnapshot::Parse(json.at("snapshot").get<std::string>());
  if (!snapshot.ok()) {
    throw Json::other_error::create(501, snapshot.status().message(), &json);
  }
  return {.snapshot = *std::move(snapshot),
          .wal_end = Lsn(json.at("wal_end").get<uint64_t>()),
          .epoch = Epoch(json.at("epoch").get<uint8_t>())};
}

SourceTable ReadTable(const Json& json) {
  SourceTable source;
  Table table;
  table.oid = json.at("oid");
  table.schema = json.at("schema");
  table.name = json.at("name");
  table.version = json.at("version");
  table.replica_identity = json.at("replica_identity");
  json.at("primary_key").get_to(table.primary_key);
  json.at("unique_keys").get_to(table.unique_keys);
  json.at("identity_index").get_to(table.identity_index);
  json.at("former_names").get_to(table.former_names);
  source.has_usable_identity = json.at("has_usable_identity");
  source.attnum_max = json.at("attnum_max");
  source.file_node = json.at("file_node");
  source.paused = json.at("paused");
  source.mend = json.value("mend", Mend::kNone);
  if (const auto covered = json.find("covered"); covered != json.end()) {
    source.covered = ReadCovered(*covered);
  }
  if (const auto partitions = json.find("partitions"); partitions != json.end()) {
    source.partitions.emplace();
    for (const Json& partition : *partitions) {
      source.partitions->push_back({.oid = partition.at(0),
                                    .name = partition.at(1),
                                    .attached_by = partition.at(2),
                                    .file_node = partition.at(3)});
    }
  }
  Schema columns;
  for (const Json& column : json.at("columns")) {
    ReadColumn(column, columns, table, source);
  }
  table.columns = std::make_shared<const Schema>(std::move(columns));
  source.table = std::make_shared<const Table>(std::move(table));
  return source;
}

Status CheckNote(const SourceTable& source) {
  const Table& table = *source.table;
  std::vector<std::vector<uint32_t>> keys = table.unique_keys;
  keys.push_back(table.primary_key);
  keys.push_back(table.identity_index);
  for (const std::vector<uint32_t>& key : keys) {
    for (const uint32_t place : key) {
      if (place >= table.columns->size()) {
        return Corruption("it has a key column that it does not have");
      }
    }
  }
  if (table.columns->empty() || table.replica_identity > ReplicaIdentity::kNothing) {
    return Corruption("it has no columns, or an unknown replica identity");
  }
  return Status::Ok();
}

}  // namespace

std::string FormatTableNote(const SourceTable& source) {
  const Table& table = *source.table;
  Json json = {
      {"format", kNoteFormat},
      {"oid", table.oid},
      {"schema", table.schema},
      {"name", table.name},
      {"version", table.version},
      {"replica_identity", table.replica_identity},
      {"primary_key", table.primary_key},
      {"unique_keys", table.unique_keys},
      {"identity_index", table.identity_index},
      {"former_names", table.former_names},
      {"has_usable_identity", source.has_usable_identity},
      {"attnum_max", source.attnum_max},
      {"file_node", source.file_node},
      {"paused", source.paused},
      {"mend", source.mend},
      {"columns", Json::array()},
  };
  if (source.covered) {
    json["covered"] = {{"snapshot", source.covered->snapshot.Format()},
                       {"wal_end", source.covered->wal_end.value()},
                       {"epoch", source.covered->epoch.value()}};
  }
  if (source.partitions) {
    json["partitions"] = Json::array();
    for (const Partition& partition : *source.partitions) {
      json["partitions"].push_back(
          {partition.oid, partition.name, partition.attached_by, partition.file_node});
    }
  }
  for (size_t place = 0; place < source.columns.size(); ++place) {
    json["columns"].push_back(ColumnJson(source, place));
  }
  // Names are UTF-8: the session's encoding.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<SourceTable> ParseTableNote(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto format = json.is_object() ? json.find("format") : json.end();
  if (!json.is_object() || format == json.end() || !format->is_number_integer()) {
    return Corruption("what is stored of a table cannot be read");
  }
  if (*format != kNoteFormat) {
    return Unsupported(fmt::format(
        "what is stored of a table has format {}, this version reads {}: start with the version "
        "that wrote it",
        format->get<int64_t>(), kNoteFormat));
  }
  SourceTable source;
  try {
    source = ReadTable(json);
  } catch (const Json::exception& error) {
    return Corruption(fmt::format("what is stored of a table cannot be read: {}", error.what()));
  }
  MR_RETURN_IF_ERROR(CheckNote(source).WithContext("what is stored of a table"));
  std::optional<size_t> unreadable;
  Table table = *source.table;
  table.fill = ReadFill(table.columns, source.columns, unreadable);
  if (unreadable) {
    return Corruption("what is stored of a table holds a value that its column cannot hold");
  }
  source.table = std::make_shared<const Table>(std::move(table));
  return source;
}

}  // namespace millrace::sources::postgres
