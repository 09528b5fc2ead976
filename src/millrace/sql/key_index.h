// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/row_batch.h"

namespace millrace::sql {

// No row: a driving row without a partner.
inline constexpr uint32_t kNoMatch = UINT32_MAX;

// Finds rows of a lookup by key: a hash table over the key columns of one batch, built for that
// batch and gone with it. Integers of any width are equal by value, others when their bytes are; a
// NULL equals nothing.
class KeyIndex {
 public:
  // kInternal if a key occurs twice. REQUIRES: `rows` outlives the index.
  static Result<KeyIndex> Build(const RowBatch& rows, std::vector<uint32_t> columns);

  // For each row of `driving` the row of the lookup whose key is in `columns`, or kNoMatch.
  std::vector<uint32_t> Find(const RowBatch& driving, std::span<const uint32_t> columns) const;

 private:
  KeyIndex(const RowBatch& rows, std::vector<uint32_t> columns);

  const RowBatch* rows_;
  std::vector<uint32_t> columns_;
  std::vector<uint64_t> hashes_;  // of each row
  std::vector<uint32_t> slots_;   // rows, open addressing; a power of two, at most half full
};

}  // namespace millrace::sql
