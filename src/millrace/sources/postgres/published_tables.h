// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/sources/postgres/postgres_config.h"

namespace millrace::sources::postgres {

// What the publications of a pipeline let through of one table.
struct PublishedTable {
  // Names of the published columns, as the server counts them (a column list, generated columns);
  // nothing where the server says no more than that the table is published (before 15).
  std::optional<std::vector<std::string>> columns;
  // An SQL condition on the table's columns; empty: every row.
  std::string row_filter;
};

// By oid, the tables that `config.publication` and `<...>_inserts` publish; of a partitioned one
// the root or the leaves, as the publication has it. Where both publish a table a row passes that
// either lets through. kFailedPrecondition if they publish other columns of one table.
Result<std::map<uint32_t, PublishedTable>> LoadPublishedTables(pg::Connection& connection,
                                                               const PostgresSourceConfig& config);

}  // namespace millrace::sources::postgres
