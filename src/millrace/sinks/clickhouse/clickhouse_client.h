// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/clients/http/http_client.h"
#include "millrace/common/result.h"

namespace millrace::sinks::clickhouse {

using Settings = std::map<std::string, std::string>;

// ClickHouseClient runs statements over ClickHouse's HTTP interface, each with wait_end_of_query,
// so that an error never comes after a success was told.
//
// Threads: one at a time. Errors: those of http::HttpClient, and the server's by
// clickhouse_errors.h.
class ClickHouseClient {
 public:
  using Rows = std::vector<std::vector<std::string>>;

  static Result<std::unique_ptr<ClickHouseClient>> Make(http::HttpOptions options);

  // The rows of a query, as text; NULL is empty. `sql` has no FORMAT.
  // `timeout` of 0 is that of the options.
  Result<Rows> Select(const std::string& sql, std::stop_token stop,
                      std::chrono::milliseconds timeout = std::chrono::milliseconds(0));
  // A statement without a result.
  Status Execute(const std::string& sql, std::stop_token stop);
  // `sql` is INSERT ... FORMAT ...; `body` is the data, in pieces.
  Status Insert(const std::string& sql, const Settings& settings,
                std::vector<std::string_view> body, std::stop_token stop);

 private:
  explicit ClickHouseClient(std::unique_ptr<http::HttpClient> http) : http_(std::move(http)) {}

  std::unique_ptr<http::HttpClient> http_;
};

}  // namespace millrace::sinks::clickhouse
