// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "millrace/sources/postgres/chunk_ledger.h"
#include "millrace/sources/postgres/source_table.h"

// The statements that read a table in pieces.
namespace millrace::sources::postgres {

// Keeps the table from being altered, rewritten or truncated until the transaction ends. To be run
// before the transaction's snapshot is taken: an older snapshot sees a rewritten table as empty.
std::string LockTableStatement(const SourceTable& table);

// One row: the key that ends a chunk of `rows` rows in `range`; none if the range has fewer.
std::string ChunkEndStatement(const SourceTable& table, const KeyRange& range, uint64_t rows);

// The rows of `range` in key order.
std::string CopyChunkStatement(const SourceTable& table, const KeyRange& range);

// Pages [begin, end) of a table, or of each of its partitions; without an end all from `begin` on.
struct PageRange {
  uint64_t begin = 0;
  std::optional<uint64_t> end;
};

// The rows of `pages`, in no order.
std::string CopyPagesStatement(const SourceTable& table, const PageRange& pages);

}  // namespace millrace::sources::postgres
