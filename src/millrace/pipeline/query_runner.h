// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/pipeline/output_builder.h"
#include "millrace/pipeline/table_state.h"
#include "millrace/sql/sql_engine.h"

namespace millrace::pipeline {

// QueryRunner runs one stream's SQL over the new rows of its driving table, each joined to the rows
// of the lookups as of its own commit: it sees every reference change committed before it and those
// of its own transaction, and none later.
//
// The rows of a micro-batch run together as long as no reference row changes between two of them
// that join it; there the batch is cut, and both parts see their own version.
//
// Threads: the engine thread.
class QueryRunner {
 public:
  struct Lookup {
    TableState* state = nullptr;
    SchemaPtr columns;
    // The driving columns that equal the lookup's primary key, in the order of that key.
    std::vector<uint32_t> driving_columns;
  };

  QueryRunner(std::unique_ptr<sql::PreparedQuery> query, std::vector<Lookup> lookups);

  const sql::PreparedQuery& query() const { return *query_; }

  // REQUIRES: every lookup's TableState has begun this batch.
  Result<StreamRows> Run(const ChangeBatch& batch, const TableChanges& changes);

 private:
  // The reference rows that a part of a batch joins, and the keys by which they were chosen.
  struct Chosen {
    StringMap<int> versions;
  };

  Status RunPart(const TableChanges& changes, const std::vector<int64_t>& commit_ts, size_t begin,
                 size_t end, const std::vector<Chosen>& chosen, StreamRows& into);

  // Constant after construction.
  const std::unique_ptr<sql::PreparedQuery> query_;
  const std::vector<Lookup> lookups_;
};

}  // namespace millrace::pipeline
