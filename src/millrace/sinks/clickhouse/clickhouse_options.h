// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "millrace/clients/http/http_client.h"

namespace millrace::sinks::clickhouse {

// How one stream lands in one table.
struct TableOptions {
  std::string stream;
  std::string table;
  std::optional<std::vector<std::string>> order_by;  // nothing: the stream's key
  std::string partition_by;                          // an expression; empty: none
  std::string engine;                                // empty: by the stream
  std::set<std::string> as_string;                   // columns that are kept as exact text
  bool snapshot = true;                              // false: rows of snapshots are left out
};

// What a ClickHouse sink is built from, checked by clickhouse_config.h.
struct ClickHouseOptions {
  http::HttpOptions http;
  std::string database = "default";
  bool accept_inexact_views = false;
  std::vector<TableOptions> tables;
};

}  // namespace millrace::sinks::clickhouse
