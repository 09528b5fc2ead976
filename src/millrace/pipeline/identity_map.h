// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"
#include "millrace/pipeline/table_state.h"
#include "millrace/storage/store.h"

namespace millrace::pipeline {

// IdentityMap finds the primary key of rows that PostgreSQL names by a replica identity index which
// does not hold it: a DELETE then carries the index columns only, and an UPDATE that leaves them
// alone carries no old image even where it changes the primary key. The map keeps, for such a table
// and no other, the primary key under the index columns of each row, and completes the old images,
// so that whoever reads the changes finds there what the default identity gives.
//
// Lifecycle, for each micro-batch: BeginBatch() before anything else reads the changes, Save() into
// the StoreBatch, then EndBatch().
//
// A large transaction comes in two passes over the same changes (see TransactionPart). For a table
// that streams join, which is in both, the second goes through them on storage::ReplayOf() the map.
//
// Threads: the engine thread.
class IdentityMap {
 public:
  // REQUIRES: table->OldImagesLackKey().
  static Result<std::unique_ptr<IdentityMap>> Make(const TablePtr& table, bool is_lookup,
                                                   storage::Store& store);

  const Table& table() const { return *table_; }

  // Completes the old images of `changes`, null if there are none: each delete and each update that
  // changes the primary key gets one that holds it. Values of the primary key that did not change
  // and were not sent are filled too. kFailedPrecondition if a row was never seen.
  Status BeginBatch(TableChanges* changes, std::optional<TransactionPart::Pass> pass);

  void Save(storage::StoreBatch& batch) const;
  void EndBatch();

 private:
  struct Run;

  IdentityMap(TablePtr table, bool is_lookup, storage::Store& store, storage::StateTableId id,
              SchemaVersion version);

  Status FetchStored(const TableChanges& changes);
  Status Follow(const Change& change, const TableChanges& changes, Run& run);
  Status FindKey(const std::string& identity, Run& run);
  std::string IdentityOf(const RowBatch& rows, uint32_t row) const;
  void Complete(TableChanges& changes, Run& run) const;

  // Constant after construction.
  const TablePtr table_;
  const bool is_lookup_;
  storage::Store& store_;
  const storage::StateTableId id_;
  const SchemaVersion version_;  // of the index columns and the primary key
  const SchemaPtr key_columns_;

  storage::StateTableId map_;  // what this micro-batch reads and changes
  // Primary keys, as encoded rows, under the index columns of the rows that this batch meets or
  // changes; nothing: no row.
  StringMap<std::optional<std::string>> newest_;
  bool is_cleared_ = false;  // none of the stored rows is left
};

}  // namespace millrace::pipeline
