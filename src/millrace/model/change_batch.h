// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "millrace/model/position.h"
#include "millrace/model/row_batch.h"
#include "millrace/model/source_state.h"
#include "millrace/model/table.h"

namespace millrace {

// What happened to a row. `kRead` is a row of a snapshot. The last two carry no row: between them a
// table that was read before is read again, and rows that neither a read nor another change showed
// by the end are gone.
enum class ChangeOp : uint8_t {
  kInsert = 1,
  kUpdate = 2,
  kDelete = 3,
  kTruncate = 4,
  kRead = 5,
  kReadAgainBegin = 6,
  kReadAgainEnd = 7,
};

inline constexpr uint32_t kNoRow = UINT32_MAX;

// A committed transaction, or a run of rows that were read and join at `end_lsn`.
struct Transaction {
  Lsn end_lsn;
  TimestampMicros commit_ts = 0;
  Xid xid;
};

// One change event; its images are rows of its TableChanges.
struct Change {
  uint64_t ordinal = 0;       // in its transaction, over all tables, from 1; see RowVersion
  uint32_t transaction = 0;   // index into ChangeBatch::transactions
  uint32_t new_row = kNoRow;  // row of new_rows: insert, update, read
  // Row of old_rows: delete, and an update whose key changed or whose identity is full. With the
  // default identity only the key columns hold values; the others are NULL.
  uint32_t old_row = kNoRow;
  ChangeOp op = ChangeOp::kInsert;
};

// A value of a new row that PostgreSQL did not send because it did not change and is stored out of
// line. The column holds NULL in its place until the engine fills it from state.
struct UnchangedToast {
  uint32_t new_row = 0;
  uint32_t column = 0;
};

// The changes of one table, in commit order.
struct TableChanges {
  explicit TableChanges(TablePtr t)
      : table(std::move(t)), new_rows(table->columns), old_rows(table->columns) {}

  TablePtr table;
  RowBatch new_rows;
  RowBatch old_rows;
  std::vector<Change> changes;
  std::vector<UnchangedToast> unchanged_toast;  // ascending by new_row
};

// A piece of a transaction that is too large for one batch. All its pieces count together: none of
// their outputs is delivered, and none of their state outlives a restart, before the last is there.
//
// The transaction comes twice. The first pass has the changes of the tables that streams join, so
// that these are complete before the first row joins them; the second has all changes.
struct TransactionPart {
  enum class Pass : uint8_t { kLookups = 1, kChanges = 2 };
  Pass pass = Pass::kChanges;
  bool is_first = false;  // of both passes
  bool is_last = false;   // of both passes
};

// Whole transactions in commit order, or one part of a large one, decoded into columns table by
// table: the unit that capture hands to the engine. Owned by one thread at a time.
struct ChangeBatch {
  std::vector<Transaction> transactions;
  std::vector<TableChanges> tables;  // each table at most once
  // Where the source goes on once this batch is durable; the end_lsn of the last transaction, or
  // further where the WAL behind it holds nothing for us.
  SourcePosition end;
  size_t row_count = 0;
  size_t byte_size = 0;
  // Set: the batch is a part of its only transaction.
  std::optional<TransactionPart> part;
  // Durable with the batch, or for parts with the last one.
  std::vector<SourceNote> notes;
};

// Whether rows lack values, which may be large, until the engine fills them from state.
inline bool HasUnchangedToast(const ChangeBatch& batch) {
  return std::any_of(batch.tables.begin(), batch.tables.end(),
                     [](const TableChanges& changes) { return !changes.unchanged_toast.empty(); });
}

}  // namespace millrace
