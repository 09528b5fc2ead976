// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/postgres_config.h"

namespace millrace::sources::postgres {

// What stands between the server's publications and the configuration.
struct PublicationPlan {
  // To be run in order; each is complete. Empty: all is as it must be.
  std::vector<std::string> statements;
  // The publications to name in START_REPLICATION once the statements ran.
  std::vector<std::string> names;
  // What `millrace check` has to say of a DBA's publication; one sentence each.
  std::vector<std::string> warnings;
};

// Compares the publications `config.publication` and `<...>_inserts` with `tables`. A table goes
// into the first only if its updates and deletes stay possible once published; others go into the
// second, which publishes inserts and truncates. Tables that are in neither list leave.
// Publications that Millrace makes send the changes of partitions as those of the partitioned table
// that is named; row filters and column lists that stand in a publication are left and obeyed.
// kFailedPrecondition if a publication of that name is of a kind that Millrace does not make (FOR
// ALL TABLES, TABLES IN SCHEMA), or sends a named partition's changes as its root's.
Result<PublicationPlan> PlanPublications(pg::Connection& connection,
                                         const PostgresSourceConfig& config,
                                         const std::vector<SourceTable>& tables);

// Makes or alters the publications, or with manage_publication false checks them, and returns the
// names for START_REPLICATION. kPermissionDenied with the statements for a DBA.
Result<std::vector<std::string>> EnsurePublications(pg::Connection& connection,
                                                    const PostgresSourceConfig& config,
                                                    const std::vector<SourceTable>& tables);

}  // namespace millrace::sources::postgres
