// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/duckdb/duckdb_engine.h"

#include <utility>

#include "millrace/sql/duckdb/duckdb_database.h"
#include "millrace/sql/duckdb/duckdb_query.h"
#include "millrace/sql/query_check.h"

namespace millrace::sql {
namespace {

class DuckDbEngine : public SqlEngine {
 public:
  explicit DuckDbEngine(std::shared_ptr<DuckDbDatabase> database)
      : database_(std::move(database)) {}

  Result<std::unique_ptr<PreparedQuery>> Prepare(const QuerySpec& spec) override {
    return DuckDbQuery::Make(database_, spec);
  }

 private:
  const std::shared_ptr<DuckDbDatabase> database_;
};

}  // namespace

Result<std::unique_ptr<SqlEngine>> MakeDuckDbEngine(const DuckDbOptions& options) {
  MR_ASSIGN_OR_RETURN(std::shared_ptr<DuckDbDatabase> database,
                      DuckDbDatabase::Open(options.memory_limit_bytes, options.threads));
  return std::unique_ptr<SqlEngine>(std::make_unique<DuckDbEngine>(std::move(database)));
}

Status CheckShape(std::string_view sql, const std::string& driving,
                  const std::vector<std::string>& lookups) {
  MR_ASSIGN_OR_RETURN(const std::shared_ptr<DuckDbDatabase> database,
                      DuckDbDatabase::Open(uint64_t{64} << 20, 1));
  MR_ASSIGN_OR_RETURN(const std::string tree, database->TreeOf(sql));
  return CheckQueryShape(sql, tree, driving, lookups);
}

}  // namespace millrace::sql
