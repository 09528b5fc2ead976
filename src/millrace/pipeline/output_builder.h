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
#include "millrace/model/stream.h"
#include "millrace/pipeline/batch_writer.h"
#include "millrace/pipeline/seen_keys.h"
#include "millrace/pipeline/string_map.h"
#include "millrace/storage/store.h"

namespace millrace::pipeline {

// The rows that a stream's SQL, or its mirror, made of the driving table's new rows.
struct StreamRows {
  RowBatch rows;
  // The new_row that each came from, strictly ascending. Rows that were filtered out are missing.
  std::vector<uint32_t> driving_row;
};

// OutputBuilder turns the changes of a stream's driving table into outputs: upserts, deletes that
// carry the key and the columns that address the row where it was, and the old place of rows that
// moved. It remembers, for each key of a mutable stream, the address of the newest output.
//
// Threads: the engine thread.
class OutputBuilder {
 public:
  struct Options {
    StreamPtr stream;
    // For each key column of the stream, the column of the driving table that it is.
    std::vector<uint32_t> driving_key;
    // The key columns of the stream, and the others by which some target addresses a row.
    std::vector<uint32_t> address;
  };

  static Result<std::unique_ptr<OutputBuilder>> Make(Options options, storage::Store& store);

  const StreamPtr& stream() const { return options_.stream; }
  storage::StateTableId state() const { return state_; }

  // Gives `writer` the outputs of the driving table's `changes` and the state changes that belong
  // to them, and returns their number. `batch` is that of the changes. A TRUNCATE, and the end of
  // reading the table again, makes an output for every row that is gone, in key order, a bounded
  // number at a time. kInvalidArgument for an update or delete in an append_only stream.
  Result<size_t> Build(const ChangeBatch& batch, const TableChanges& changes, StreamRows rows,
                       BatchWriter& writer);
  // What is stored is not what it was, because a large transaction was dropped.
  void ForgetStored() { seen_.ForgetStored(); }

 private:
  struct Run;

  OutputBuilder(Options options, storage::Store& store, storage::StateTableId state,
                StreamPtr address, SeenKeys seen);

  Result<size_t> BuildAppended(const TableChanges& changes, Run& run);
  Status FindOldAddresses(const TableChanges& changes, Run& run);
  Status AddChange(const Change& change, const TableChanges& changes, Run& run);
  Status AddUpsert(const Change& change, const TableChanges& changes, uint32_t stream_row,
                   Run& run);
  Status AddDelete(const std::string& key, const Change& change, Run& run);
  Status AddTruncate(const Change& change, Run& run);
  Status AddSweep(const Change& change, Run& run);
  static std::vector<std::string> KnownKeys(const Run& run);
  enum class Stored;
  Status DeleteInOrder(const Change& change, std::vector<std::string> known, Stored left, Run& run);
  Status FlushIfLarge(Run& run);
  // A stored address, also one of an earlier version of the columns.
  Result<RowBatch> DecodeAddress(std::string_view address) const;
  // Makes a stored address one of this version.
  Status RenewAddress(std::string& address) const;
  Status AddAddressRow(OutputOp op, const Change& change, std::string_view address, Run& run);
  std::string KeyOf(const RowBatch& driving_rows, uint32_t row) const;

  // Constant after construction.
  const Options options_;
  storage::Store& store_;
  const storage::StateTableId state_;
  const StreamPtr address_;  // the registered version of the address columns

  SeenKeys seen_;
};

}  // namespace millrace::pipeline
