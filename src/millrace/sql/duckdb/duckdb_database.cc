// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/duckdb/duckdb_database.h"

#include <utility>

#include <fmt/format.h>

namespace millrace::sql {
namespace {

// An expression as the one column of a SELECT without FROM.
constexpr std::string_view kBeforeExpression =
    R"({"error":false,"statements":[{"node":{"type":"SELECT_NODE","modifiers":[],)"
    R"("cte_map":{"map":[]},"select_list":[)";
constexpr std::string_view kBehindExpression =
    R"(],"from_table":{"type":"EMPTY","alias":"","sample":null,)"
    R"("query_location":18446744073709551615},"where_clause":null,"group_expressions":[],)"
    R"("group_sets":[],"aggregate_handling":"STANDARD_HANDLING","having":null,"sample":null,)"
    R"("qualify":null},"named_param_map":[]}]})";

Status Failed(std::string_view what, const char* why) {
  return Internal(fmt::format("{}: DuckDB: {}", what, why == nullptr ? "no reason given" : why));
}

}  // namespace

Result<std::shared_ptr<DuckDbDatabase>> DuckDbDatabase::Open(uint64_t memory_limit_bytes,
                                                             int threads) {
  DuckConfig config;
  if (duckdb_create_config(config.out()) != DuckDBSuccess) {
    return Internal("open the SQL engine: DuckDB gives no configuration");
  }
  // In this order: without external access the temporary directory cannot be changed.
  const std::pair<const char*, std::string> settings[] = {
      {"temp_directory", ""},
      {"memory_limit", fmt::format("{}B", memory_limit_bytes)},
      {"threads", std::to_string(threads)},
      {"preserve_insertion_order", "true"},
      {"enable_external_access", "false"},
      {"autoinstall_known_extensions", "false"},
      {"autoload_known_extensions", "false"},
      {"allow_community_extensions", "false"},
      {"allow_unsigned_extensions", "false"},
  };
  for (const auto& [name, value] : settings) {
    if (duckdb_set_config(config.get(), name, value.c_str()) != DuckDBSuccess) {
      return Internal(fmt::format("open the SQL engine: DuckDB does not take {}={}", name, value));
    }
  }
  std::shared_ptr<DuckDbDatabase> database(new DuckDbDatabase(memory_limit_bytes));
  char* error = nullptr;
  if (duckdb_open_ext(nullptr, database->database_.out(), config.get(), &error) != DuckDBSuccess) {
    const Status status = Failed("open the SQL engine", error);
    duckdb_free(error);
    return status;
  }
  if (duckdb_connect(database->database_.get(), database->connection_.out()) != DuckDBSuccess) {
    return Internal("open the SQL engine: DuckDB gives no connection");
  }
  MR_RETURN_IF_ERROR(database->Execute("SET TimeZone='UTC'"));
  MR_RETURN_IF_ERROR(database->Execute("SET lock_configuration=true"));
  const std::pair<const char*, DuckStatement*> statements[] = {
      {"SELECT CAST(json_serialize_sql(CAST($1 AS VARCHAR)) AS VARCHAR)", &database->serialize_},
      {"SELECT json_deserialize_sql(CAST($1 AS JSON))", &database->deserialize_},
  };
  for (const auto& [sql, statement] : statements) {
    if (duckdb_prepare(database->connection(), sql, statement->out()) != DuckDBSuccess) {
      return Failed("open the SQL engine", duckdb_prepare_error(statement->get()));
    }
  }
  return database;
}

Status DuckDbDatabase::Execute(const char* sql) {
  DuckResult result;
  if (duckdb_query(connection(), sql, result.get()) != DuckDBSuccess) {
    return Failed(fmt::format("run {} in the SQL engine", sql), duckdb_result_error(result.get()));
  }
  return Status::Ok();
}

Result<std::string> DuckDbDatabase::Call(duckdb_prepared_statement statement,
                                         std::string_view argument) {
  DuckResult result;
  if (duckdb_bind_varchar_length(statement, 1, argument.data(), argument.size()) != DuckDBSuccess ||
      duckdb_execute_prepared(statement, result.get()) != DuckDBSuccess) {
    return Failed("take a query to pieces", duckdb_result_error(result.get()));
  }
  const DuckChunk chunk(duckdb_fetch_chunk(*result.get()));
  if (!chunk || duckdb_data_chunk_get_size(chunk.get()) != 1) {
    return Internal("take a query to pieces: DuckDB gives no result");
  }
  const duckdb_vector vector = duckdb_data_chunk_get_vector(chunk.get(), 0);
  auto* text = static_cast<duckdb_string_t*>(duckdb_vector_get_data(vector));
  return std::string(duckdb_string_t_data(text), duckdb_string_t_length(*text));
}

Result<std::string> DuckDbDatabase::TreeOf(std::string_view sql) {
  if (sql.find('\0') != std::string_view::npos) {
    return InvalidArgument("the sql holds a zero byte: remove it");
  }
  return Call(serialize_.get(), sql);
}

Result<std::string> DuckDbDatabase::ExpressionOf(std::string_view tree) {
  std::string whole;
  whole.reserve(kBeforeExpression.size() + tree.size() + kBehindExpression.size());
  whole.append(kBeforeExpression).append(tree).append(kBehindExpression);
  MR_ASSIGN_OR_RETURN(std::string sql, Call(deserialize_.get(), whole));
  constexpr std::string_view kSelect = "SELECT ";
  if (!sql.starts_with(kSelect)) {
    return Internal("take a query to pieces: DuckDB writes an expression in an unknown form");
  }
  return sql.substr(kSelect.size());
}

Result<Scan*> DuckDbDatabase::TakeScan() {
  if (free_scans_.empty()) {
    auto scan = std::make_unique<Scan>(fmt::format("millrace_scan_{}", scans_.size()));
    if (!scan->Register(connection())) {
      return Internal("prepare a query: DuckDB does not take a table function");
    }
    scans_.push_back(std::move(scan));
    return scans_.back().get();
  }
  Scan* scan = free_scans_.back();
  free_scans_.pop_back();
  return scan;
}

}  // namespace millrace::sql
