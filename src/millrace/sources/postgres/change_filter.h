// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "millrace/model/change_batch.h"

namespace millrace::sources::postgres {

// What of a change stays in its batch.
enum class Kept : uint8_t {
  kAll,
  kNothing,
  kOldKey,  // of an update that changed the key: the old row is deleted, and that is all
  kNewKey,  // of an update: the new row is inserted, and that is all
};

// A row that has the values which a change left out because they did not change.
struct KnownRow {
  uint32_t new_row = 0;  // of the change
  std::shared_ptr<const RowBatch> rows;
  uint32_t row = 0;
};

// The changes of `from` that are kept: `kept` has an entry for each of them, and `known` is
// ascending by new_row. Rows of changes that go, go with them; what stays keeps its order and its
// ordinals.
TableChanges SelectChanges(const TableChanges& from, const std::vector<Kept>& kept,
                           const std::vector<KnownRow>& known);

}  // namespace millrace::sources::postgres
