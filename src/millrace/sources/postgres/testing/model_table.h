// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/relation_message.h"

namespace millrace::sources::postgres::testing {

// A table as PostgreSQL keeps it: numbers are never given again, and every ALTER leaves its
// transaction in the catalog.
class ModelTable {
 public:
  struct ModelColumn {
    int attnum = 0;
    std::string name;
    uint32_t type = kInt4Oid;
    int32_t typmod = -1;
    bool not_null = false;
    bool is_dropped = false;
    std::optional<std::string> missing;
    uint32_t xid = 1;
  };

  explicit ModelTable(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      Add(name);
    }
    columns_.front().not_null = true;
  }

  ModelColumn& At(const std::string& name) {
    return *std::find_if(columns_.begin(), columns_.end(),
                         [&](const auto& c) { return c.name == name && !c.is_dropped; });
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const ModelColumn& column : columns_) {
      if (!column.is_dropped) {
        names.push_back(column.name);
      }
    }
    return names;
  }

  void Add(const std::string& name, uint32_t type = kInt4Oid,
           std::optional<std::string> missing = std::nullopt) {
    columns_.push_back({.attnum = static_cast<int>(columns_.size()) + 1,
                        .name = name,
                        .type = type,
                        .missing = std::move(missing),
                        .xid = ++xid_});
  }
  void Drop(const std::string& name) {
    ModelColumn& column = At(name);
    column.is_dropped = true;
    column.missing.reset();
    column.xid = ++xid_;
  }
  void Rename(const std::string& from, const std::string& to) {
    ModelColumn& column = At(from);
    column.name = to;
    column.xid = ++xid_;
  }
  void Retype(const std::string& name, uint32_t type, int32_t typmod = -1) {
    ModelColumn& column = At(name);
    column.type = type;
    column.typmod = typmod;
    column.xid = ++xid_;
    Rewrite();
  }
  // Also what VACUUM FULL does.
  void Rewrite() {
    ++file_node_;
    for (ModelColumn& column : columns_) {
      if (column.missing) {
        column.missing.reset();
        column.xid = xid_ + 1;
      }
    }
    ++xid_;
  }
  void MakeAnew() { oid_ += 1; }
  void RenameTable(std::string name) { name_ = std::move(name); }
  void SetIdentity(char identity) { identity_ = identity; }
  void SetRowFilter(std::string filter) { row_filter_ = std::move(filter); }

  CatalogTable Catalog() const {
    CatalogTable catalog;
    auto table = std::make_shared<Table>();
    Schema schema;
    for (const ModelColumn& column : columns_) {
      catalog.all_columns.push_back(
          {.attnum = column.attnum, .name = column.name, .is_dropped = column.is_dropped});
      if (column.is_dropped) {
        continue;
      }
      const ColumnTypeFacts type = TypeOf(column);
      schema.push_back({column.name, MapColumnType(type), !column.not_null});
      catalog.source.types.push_back(type);
      catalog.source.columns.push_back(
          {.attnum = column.attnum, .missing = column.missing, .catalog_xid = column.xid});
      table->toastable.push_back(column.type == kTextOid);
    }
    table->oid = oid_;
    table->schema = "public";
    table->name = name_;
    table->primary_key = {0};
    table->replica_identity = identity_ == 'f' ? ReplicaIdentity::kFull : ReplicaIdentity::kDefault;
    table->columns = std::make_shared<const Schema>(std::move(schema));
    catalog.source.attnum_max = static_cast<int>(columns_.size());
    catalog.source.file_node = file_node_;
    catalog.source.row_filter = row_filter_;
    catalog.source.table = std::move(table);
    return catalog;
  }
  SourceTablePtr Known() const { return std::make_shared<const SourceTable>(Catalog().source); }

  RelationMessage Relation() const {
    RelationMessage relation{
        .oid = oid_, .schema = "public", .name = name_, .replica_identity = identity_};
    for (const ModelColumn& column : columns_) {
      if (!column.is_dropped) {
        relation.columns.push_back({.is_key = identity_ == 'f' || column.attnum == 1,
                                    .name = column.name,
                                    .type_oid = column.type,
                                    .typmod = column.typmod});
      }
    }
    return relation;
  }

  const std::vector<ModelColumn>& columns() const { return columns_; }

 private:
  static ColumnTypeFacts TypeOf(const ModelColumn& column) {
    return {.declared_oid = column.type,
            .declared_typmod = column.typmod,
            .type = {.oid = column.type, .typmod = column.typmod}};
  }

  std::vector<ModelColumn> columns_;
  uint32_t oid_ = 100;
  std::string name_ = "t";
  char identity_ = 'd';
  std::string row_filter_;
  uint32_t file_node_ = 100;
  uint32_t xid_ = 1;
};

// The columns of a version; of those that are dropped, that too.
inline std::vector<std::string> NamesOf(const SourceTable& table) {
  std::vector<std::string> names;
  for (size_t place = 0; place < table.columns.size(); ++place) {
    names.push_back((*table.table->columns)[place].name +
                    (table.columns[place].is_dropped ? " dropped" : ""));
  }
  return names;
}

}  // namespace millrace::sources::postgres::testing
