// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/model/lsn.h"
#include "millrace/sources/postgres/postgres_config.h"
#include "millrace/sources/postgres/published_tables.h"
#include "millrace/sources/postgres/source_table.h"
#include "millrace/sources/postgres/xid_snapshot.h"

namespace millrace::sources::postgres {

// A row of pg_attribute: a column that is there, or was.
struct CatalogColumn {
  int attnum = 0;
  std::string name;
  bool is_dropped = false;
  bool is_generated = false;
};

// A table with what our role may do with it.
struct CatalogTable {
  SourceTable source;  // of the columns that can be published
  std::vector<CatalogColumn> all_columns;
  bool can_select = false;
  bool is_owner = false;
  // A policy would hide rows from us.
  bool row_security_active = false;
  bool is_published = false;  // by a publication of the pipeline
  bool is_exact = false;      // the configuration names it, and not by a pattern
};

// Why a table of the configuration, or an entry of it, cannot be read: one sentence with the
// remedy.
struct TableProblem {
  std::string table;  // full name; empty: of an entry with a pattern
  bool is_exact = false;
  Status status;
};

// The tables of the configuration, in its order (within a pattern by name), each once.
struct Catalog {
  std::vector<CatalogTable> tables;
  // Entries that name nothing, and tables that no source can read.
  std::vector<TableProblem> problems;
  // Tables that a pattern matches and that are left out, with the reason: one sentence each.
  std::vector<std::string> left_out;
};

// Reads the catalog for `config.tables` (as config::TablePattern reads them): columns, types, keys,
// identities and partitions, and what the publications let through of them where these exist.
//
// A pattern matches partitioned tables and plain ones; a partition only where no root of it is
// matched.
//
// With config.discover a pattern may match nothing.
//
// All of it is as of one snapshot: that of the transaction that is open, which is REPEATABLE READ,
// or one of its own.
Result<Catalog> LoadCatalog(pg::Connection& connection, const PostgresSourceConfig& config);

// The full names of what LoadCatalog() would look at.
Result<std::set<std::string>> ListTables(pg::Connection& connection,
                                         const PostgresSourceConfig& config);

// What the catalog has under some object ids at one moment. What is not there was dropped, or is no
// table that a source can read.
struct CatalogMoment {
  std::vector<CatalogTable> tables;
  // The ids of tables by their full names, of those that were asked for by name.
  std::map<std::string, uint32_t> oid_of_name;
  XidSnapshot snapshot;
  // Everything that the moment shows was in the WAL before it.
  Lsn wal_end;

  const CatalogTable* Find(uint32_t oid) const;
};
Result<CatalogMoment> LoadMoment(pg::Connection& connection, const PostgresSourceConfig& config,
                                 const std::vector<SourceTablePtr>& tables);

// The statements that LoadMoment() asks, of the tables that `oids` names: SQL, such as `4711,
// 4712`.
struct CatalogStatements {
  std::string tables;
  std::string columns;
  std::string attributes;
  std::string keys;
};
CatalogStatements MakeCatalogStatements(std::string_view oids);
// How many columns the rows of each have.
inline constexpr size_t kTablesWidth = 11;
inline constexpr size_t kColumnsWidth = 14;
inline constexpr size_t kAttributesWidth = 7;
inline constexpr size_t kKeysWidth = 5;

// Rows of such a statement that came by another way than a connection.
class TextRows {
 public:
  using Row = std::vector<std::optional<std::string>>;

  explicit TextRows(std::vector<Row> rows = {}) : rows_(std::move(rows)) {}

  size_t row_count() const { return rows_.size(); }
  bool IsNull(size_t row, size_t column) const { return !rows_[row][column].has_value(); }
  // Empty for a NULL.
  std::string_view Text(size_t row, size_t column) const {
    return IsNull(row, column) ? std::string_view() : std::string_view(*rows_[row][column]);
  }

 private:
  std::vector<Row> rows_;
};
struct CatalogRows {
  TextRows tables;
  TextRows columns;
  TextRows attributes;
  TextRows keys;
};

// The one table that `rows` describe, without what is said of its partitions. `published`: what its
// publications let through of it. kUnsupported for what is no table that a source can read.
// REQUIRES: there is one row of `tables`, each row is of its width, and each is of the same table.
Result<CatalogTable> ReadCatalogRows(const CatalogRows& rows,
                                     std::optional<PublishedTable> published);

}  // namespace millrace::sources::postgres
