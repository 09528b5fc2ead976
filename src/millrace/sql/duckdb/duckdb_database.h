// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/sql/duckdb/handles.h"
#include "millrace/sql/duckdb/scan.h"

namespace millrace::sql {

// One in-memory DuckDB with one connection, whose settings are locked: UTC, bounded memory, no
// files, no network, no extensions.
//
// Not thread-safe.
class DuckDbDatabase {
 public:
  static Result<std::shared_ptr<DuckDbDatabase>> Open(uint64_t memory_limit_bytes, int threads);

  duckdb_connection connection() const { return connection_.get(); }
  uint64_t memory_limit_bytes() const { return memory_limit_bytes_; }

  // The syntax tree of `sql` as JSON text, or of the error in it (see CheckQuery).
  Result<std::string> TreeOf(std::string_view sql);

  // The SQL of an expression out of such a tree.
  Result<std::string> ExpressionOf(std::string_view tree);

  // A scan that nobody else uses until it is given back.
  Result<Scan*> TakeScan();
  void GiveBack(Scan* scan) { free_scans_.push_back(scan); }

 private:
  explicit DuckDbDatabase(uint64_t memory_limit_bytes) : memory_limit_bytes_(memory_limit_bytes) {}

  Status Execute(const char* sql);
  Result<std::string> Call(duckdb_prepared_statement statement, std::string_view argument);

  const uint64_t memory_limit_bytes_;
  // DuckDB keeps pointers to scans: they go after it. Registered functions cannot be taken back,
  // hence those of queries that are gone are used again.
  std::vector<std::unique_ptr<Scan>> scans_;
  std::vector<Scan*> free_scans_;
  DuckDatabase database_;
  DuckConnection connection_;
  DuckStatement serialize_;
  DuckStatement deserialize_;
};

}  // namespace millrace::sql
