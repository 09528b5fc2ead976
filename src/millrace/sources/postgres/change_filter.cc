// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/change_filter.h"

#include <algorithm>
#include <utility>

#include "millrace/common/check.h"

namespace millrace::sources::postgres {
namespace {

// Appends a new row with what is known of the values that were left out.
uint32_t AppendNewRow(const TableChanges& from, uint32_t row, const KnownRow* known,
                      TableChanges& to) {
  const auto to_row = static_cast<uint32_t>(to.new_rows.row_count());
  auto gap = std::lower_bound(
      from.unchanged_toast.begin(), from.unchanged_toast.end(), row,
      [](const UnchangedToast& toast, uint32_t new_row) { return toast.new_row < new_row; });
  for (uint32_t i = 0; i < from.new_rows.column_count(); ++i) {
    const bool is_gap =
        gap != from.unchanged_toast.end() && gap->new_row == row && gap->column == i;
    if (is_gap && known != nullptr) {
      to.new_rows.column(i).AppendFrom(known->rows->column(i), known->row);
    } else {
      to.new_rows.column(i).AppendFrom(from.new_rows.column(i), row);
    }
    if (is_gap) {
      if (known == nullptr) {
        to.unchanged_toast.push_back({to_row, i});
      }
      ++gap;
    }
  }
  return to_row;
}

}  // namespace

TableChanges SelectChanges(const TableChanges& from, const std::vector<Kept>& kept,
                           const std::vector<KnownRow>& known) {
  MR_CHECK(kept.size() == from.changes.size());
  TableChanges result(from.table);
  for (size_t i = 0; i < kept.size(); ++i) {
    if (kept[i] == Kept::kNothing) {
      continue;
    }
    Change change = from.changes[i];
    if (kept[i] == Kept::kOldKey) {
      change.op = ChangeOp::kDelete;
      change.new_row = kNoRow;
    } else if (kept[i] == Kept::kNewKey) {
      change.op = ChangeOp::kInsert;
      change.old_row = kNoRow;
    }
    if (change.old_row != kNoRow) {
      const auto row = static_cast<uint32_t>(result.old_rows.row_count());
      result.old_rows.AppendRow(from.old_rows, change.old_row);
      change.old_row = row;
    }
    if (change.new_row != kNoRow) {
      const auto found =
          std::lower_bound(known.begin(), known.end(), change.new_row,
                           [](const KnownRow& entry, uint32_t row) { return entry.new_row < row; });
      const bool is_known = found != known.end() && found->new_row == change.new_row;
      change.new_row = AppendNewRow(from, change.new_row, is_known ? &*found : nullptr, result);
    }
    result.changes.push_back(change);
  }
  return result;
}

}  // namespace millrace::sources::postgres
