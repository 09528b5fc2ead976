// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
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
};

// Reads the catalog for `patterns` (as config::TablePattern reads them): columns, types, keys and
// identities.
Result<Catalog> LoadCatalog(pg::Connection& connection, const std::vector<std::string>& patterns);

// Whether both describe the same table: names, columns, types, keys, identity.
bool IsSameTable(const SourceTable& a, const SourceTable& b);

}  // namespace millrace::sources::postgres
