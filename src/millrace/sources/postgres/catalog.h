// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/sources/postgres/postgres_config.h"
#include "millrace/sources/postgres/source_table.h"

namespace millrace::sources::postgres {

// A table that the configuration names, with what our role may do with it.
struct CatalogTable {
  SourceTable source;
  bool can_select = false;
  bool is_owner = false;
  // A policy would hide rows from us.
  bool row_security_active = false;
};

// The tables of the configuration, in its order (within a pattern by name), each once.
struct Catalog {
  std::vector<CatalogTable> tables;
  // Entries that name nothing, and tables that no source can read: one sentence with the remedy
  // each.
  std::vector<Status> problems;
  // Tables that a pattern matches and that are left out, with the reason: one sentence each.
  std::vector<std::string> left_out;
};

// Reads the catalog for `config.tables` (as config::TablePattern reads them): columns, types, keys,
// identities and partitions, and what the publications let through of them where these exist.
//
// A pattern matches partitioned tables and plain ones; a partition only where no root of it is
// matched.
Result<Catalog> LoadCatalog(pg::Connection& connection, const PostgresSourceConfig& config);

// Whether both describe the same table: names, columns, types, keys, identity, row filter.
bool IsSameTable(const SourceTable& a, const SourceTable& b);

}  // namespace millrace::sources::postgres
