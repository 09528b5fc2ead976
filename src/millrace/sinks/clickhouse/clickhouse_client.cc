// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_client.h"

#include <nlohmann/json.hpp>

#include "millrace/sinks/clickhouse/clickhouse_errors.h"

namespace millrace::sinks::clickhouse {

namespace {

std::string CellText(const nlohmann::json& cell) {
  return cell.is_string() ? cell.get<std::string>() : std::string();
}

}  // namespace

Result<std::unique_ptr<ClickHouseClient>> ClickHouseClient::Make(http::HttpOptions options) {
  MR_ASSIGN_OR_RETURN(auto http, http::HttpClient::Make(std::move(options)));
  return std::unique_ptr<ClickHouseClient>(new ClickHouseClient(std::move(http)));
}

Result<ClickHouseClient::Rows> ClickHouseClient::Select(const std::string& sql,
                                                        std::stop_token stop,
                                                        std::chrono::milliseconds timeout) {
  http::HttpRequest request;
  request.timeout = timeout;
  request.query = {{"wait_end_of_query", "1"}, {"default_format", "JSONCompactStrings"}};
  request.body = {sql};
  MR_ASSIGN_OR_RETURN(const http::HttpResponse response, http_->Post(request, std::move(stop)));
  MR_RETURN_IF_ERROR(StatusOfResponse(response));
  const auto json = nlohmann::json::parse(response.body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("data") || !json["data"].is_array()) {
    return Unavailable("ClickHouse's answer to a query is not JSON");
  }
  Rows rows;
  for (const auto& row : json["data"]) {
    std::vector<std::string> cells;
    for (const auto& cell : row) {
      cells.push_back(CellText(cell));
    }
    rows.push_back(std::move(cells));
  }
  return rows;
}

Status ClickHouseClient::Execute(const std::string& sql, std::stop_token stop) {
  http::HttpRequest request;
  request.query = {{"wait_end_of_query", "1"}};
  request.body = {sql};
  MR_ASSIGN_OR_RETURN(const http::HttpResponse response, http_->Post(request, std::move(stop)));
  return StatusOfResponse(response);
}

Status ClickHouseClient::Insert(const std::string& sql, const Settings& settings,
                                std::vector<std::string_view> body, std::stop_token stop) {
  http::HttpRequest request;
  request.query = {{"query", sql}, {"wait_end_of_query", "1"}};
  request.query.insert(request.query.end(), settings.begin(), settings.end());
  request.body = std::move(body);
  MR_ASSIGN_OR_RETURN(const http::HttpResponse response, http_->Post(request, std::move(stop)));
  return StatusOfResponse(response);
}

}  // namespace millrace::sinks::clickhouse
