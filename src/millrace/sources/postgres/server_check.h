// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/postgres_config.h"

namespace millrace::sources::postgres {

// What a server says of itself, measured against what a pipeline needs.
struct ServerReport {
  // Each stops the source; one sentence with the remedy.
  std::vector<Status> errors;
  std::vector<std::string> warnings;
  std::vector<std::string> facts;  // what is fine
  Catalog catalog;
  // Tables that are not taken in, by full name: one sentence with the remedy each.
  std::map<std::string, std::string> left_out;
  bool is_standby = false;
};

// Looks at version, settings, the role's privileges and the tables. Changes nothing. A failure
// means that the server could not be asked.
//
// With `taken`, the full names of the tables of earlier runs, others that a pattern matches and
// that cannot be taken in are left out instead of an error, and one of `taken` may be gone.
Result<ServerReport> InspectServer(pg::Connection& connection, const PostgresSourceConfig& config,
                                   const std::set<std::string>* taken = nullptr);

// Of InspectServer(), what it says of the tables.
Result<ServerReport> InspectTables(pg::Connection& connection, const PostgresSourceConfig& config,
                                   const std::set<std::string>& taken);

Result<uint64_t> ReadSystemIdentifier(pg::Connection& connection);

// kFailedPrecondition unless the server is no standby, and has that system identifier: it is then
// the primary of every standby that has it too.
Status CheckIsPrimaryOf(pg::Connection& primary, uint64_t system_identifier);

}  // namespace millrace::sources::postgres
