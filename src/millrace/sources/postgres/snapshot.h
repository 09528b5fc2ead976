// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"
#include "millrace/sources/postgres/source_table.h"
#include "millrace/sources/postgres/value_parser.h"

namespace millrace::sources::postgres {

// SnapshotReader reads whole tables as of an exported snapshot, one after the other, as batches of
// kRead changes. All its rows are one transaction that ends at the slot's consistent point.
//
// Lifecycle: Begin(), then Poll() and Take() until is_done(). After an error it starts over with a
// new snapshot.
//
// Threads: one.
//
// Errors: kUnavailable when the connection breaks or a table was altered meanwhile; those of values
// as in the decoder.
class SnapshotReader {
 public:
  struct Options {
    std::vector<SourceTable> tables;  // in the order in which they are read
    SourcePosition position;          // the slot's consistent point
    size_t batch_rows_max = 0;
    size_t batch_bytes_max = 0;
  };

  explicit SnapshotReader(Options options);

  // Imports `snapshot` and locks the tables against being altered or dropped until all is read.
  // With no tables it needs no connection: there is one batch, which is empty.
  Status Begin(std::unique_ptr<pg::Connection> connection, const std::string& snapshot);

  // Reads rows into the open batch until it is full, no more are there within `wait`, or some MiB
  // were read.
  Status Poll(std::chrono::milliseconds wait);

  const ChangeBatch& batch() const { return *batch_; }
  bool can_take() const { return batch_->row_count != 0 || batch_->snapshot_complete; }
  std::chrono::steady_clock::time_point pending_since() const { return pending_since_; }
  // REQUIRES: can_take().
  std::unique_ptr<ChangeBatch> Take();
  // The last batch was taken.
  bool is_done() const { return is_done_; }

  uint64_t rows_read() const { return rows_read_; }
  // The table that is being read; empty behind the last.
  std::string table_name() const;

 private:
  bool IsFull() const;
  std::unique_ptr<ChangeBatch> NewBatch() const;
  Status LockTables();
  Status StartNextTable();
  Status AppendLine(std::string_view line);
  const SourceTable& table() const { return options_.tables[next_table_ - 1]; }

  const Options options_;
  std::unique_ptr<pg::Connection> connection_;
  TimestampMicros commit_ts_ = 0;
  std::unique_ptr<ChangeBatch> batch_;
  size_t next_table_ = 0;  // index behind the one that is being read
  bool in_copy_ = false;
  std::vector<AppendValueFn> parsers_;  // of the table that is being read
  uint64_t rows_read_ = 0;
  bool is_done_ = false;
  std::chrono::steady_clock::time_point pending_since_;
};

}  // namespace millrace::sources::postgres
