// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/source_state.h"
#include "millrace/sources/postgres/chunk_ledger.h"
#include "millrace/sources/postgres/postgres_config.h"
#include "millrace/sources/postgres/source_table.h"

namespace millrace::sources::postgres {

// How far a table has been read, as data_dir keeps it in a note of the source. It is durable with
// the changes that were decided by it.
struct TableProgress {
  uint32_t oid = 0;
  bool is_done = false;
  // Downstream had the table before: see ChangeOp::kReadAgainBegin.
  bool is_again = false;
  // Its changes apply while it is read again: the stream had no gap.
  bool keeps_changes = false;
  bool has_begun = false;  // kReadAgainBegin is in the stream
  uint64_t rows = 0;       // that have joined
  // Of a table without a key order it holds only what must be seen.
  ChunkLedger ledger;
};

std::string EncodeProgress(const TableProgress& progress);
// kCorruption or kUnsupported if it is not what this version writes.
Result<TableProgress> DecodeProgress(std::string_view text);

// The name of a table's note.
std::string ProgressNoteName(const Table& table);

// The numbers of snapshot rows that join at one position go on over restarts.
struct SnapshotOrdinals {
  Lsn position;
  uint64_t next = 0;

  // The next number at `at`.
  uint64_t& At(Lsn at);
};
inline constexpr std::string_view kOrdinalsNoteName = "snapshot";
std::string EncodeOrdinals(const SnapshotOrdinals& ordinals);
Result<SnapshotOrdinals> DecodeOrdinals(std::string_view text);

// What is to be noted before streaming begins or goes on with `tables`: those that `notes` does not
// know are to be read (or, with mode never, are not), as are those that were dropped and made
// again; tables that left are forgotten. `now` was taken once the publication had the tables:
// whatever ran then must have ended before one of them is read, because its changes may not be
// published.
Result<std::vector<SourceNote>> PlanProgress(
    const std::map<std::string, std::string, std::less<>>& notes,
    const std::vector<SourceTable>& tables, SnapshotMode mode, const XidSnapshot& now);

// Every table is to be read again because changes of the stream were lost: for a slot that was made
// anew.
std::vector<SourceNote> PlanReadingAgain(const std::vector<SourceTable>& tables,
                                         const XidSnapshot& now);

}  // namespace millrace::sources::postgres
