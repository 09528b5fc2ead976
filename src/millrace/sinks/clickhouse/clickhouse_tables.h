// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/sinks/clickhouse/clickhouse_client.h"
#include "millrace/sinks/clickhouse/clickhouse_schema.h"
#include "millrace/telemetry/log.h"

// What a sink asks of the server before its first row: which settings it knows, which tables there
// are, what hangs on them.
namespace millrace::sinks::clickhouse {

struct ServerFacts {
  std::string version;
  std::string naive_zone;  // see ColumnType()
  // What every INSERT pins, of the settings that this server knows.
  Settings insert_settings;
  MergeTreeSettings merge_tree;
};

// A table that is there and fits.
struct PreparedTable {
  std::string uuid;
  bool is_replicated = false;
  // How long a token is remembered at least; 0: counted in blocks only.
  std::chrono::seconds token_lifetime{0};
  // Views that an insert writes to as well.
  bool has_views = false;
};

// Connects. kUnsupported if the server is too old to keep a row once.
Result<ServerFacts> ReadServerFacts(ClickHouseClient& client, std::stop_token stop);

struct PrepareOptions {
  bool accept_inexact_views = false;
  // Tables of an open delivery: one that is gone has lost rows and is not created again.
  std::set<std::string> planned_tables;
  // The sink has delivered before: a table that is created now lacks those rows.
  bool has_position = false;
};

// Creates the database and the tables that are missing, alters those that are as an earlier version
// of their stream needed them, and checks each table and the materialized
// views behind it. One entry for each of `needs`. kFailedPrecondition with the statement to run
// where a table does not fit or a view would count a retried insert twice.
Result<std::vector<PreparedTable>> PrepareTables(ClickHouseClient& client, const ServerFacts& facts,
                                                 const std::vector<TableNeed>& needs,
                                                 const PrepareOptions& options,
                                                 const telemetry::Logger& log,
                                                 std::stop_token stop);

// The UUIDs of tables by name; those that are gone are left out.
Result<std::map<std::string, std::string>> ReadTableUuids(ClickHouseClient& client,
                                                          const std::string& database,
                                                          const std::vector<std::string>& tables,
                                                          std::stop_token stop,
                                                          std::chrono::milliseconds timeout);

// The table that a materialized view writes to, out of its CREATE statement; both empty if it has a
// table of its own.
struct ViewTarget {
  std::string database;
  std::string table;
};
ViewTarget ParseViewTarget(const std::string& create_sql);

}  // namespace millrace::sinks::clickhouse
