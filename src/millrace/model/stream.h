// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "millrace/common/strong_id.h"
#include "millrace/model/change_batch.h"
#include "millrace/model/data_type.h"
#include "millrace/model/position.h"
#include "millrace/model/row_batch.h"

namespace millrace {

// A stream's number in data_dir, given once for each name and kept.
using StreamId = StrongId<uint32_t, struct StreamIdTag>;

// Counts the versions of a stream's columns, from 1.
using SchemaVersion = StrongId<uint32_t, struct SchemaVersionTag>;

// What becomes of a value that a target's type, or SQL's, cannot hold: its row is a bad row, the
// nearest value takes its place, or NULL does.
enum class OutOfRange : uint8_t { kError, kClamp, kNull };

// A named, keyed sequence of output rows: a mirror of a table, or the result of SQL over
// micro-batches. Immutable and shared.
struct Stream {
  StreamId id;
  SchemaVersion schema_version;
  std::string name;
  SchemaPtr columns;
  std::vector<uint32_t> key;  // indexes into columns; empty only with append_only
  bool append_only = false;
  // As this run's configuration has it; data_dir does not keep it.
  OutOfRange out_of_range = OutOfRange::kError;
  // The table whose columns these are, one for one; empty if SQL made them. In later versions of
  // the same table's columns each keeps its place, see Table; others are known by their names.
  std::string table;
  // One row: what each column holds in rows that were made before the column was there. Null: NULL.
  std::shared_ptr<const RowBatch> fill;
  // The names of earlier versions of the table's columns, newest first.
  std::vector<std::vector<std::string>> former_names;

  // The index of a column, by its name or else by the newest of its former names, or -1.
  int FindColumn(const std::string& column) const;
  // The index in `earlier`, a version of this stream, of the column that stands here at `column`,
  // or -1 if there was none.
  int FindInEarlier(const Stream& earlier, size_t column) const;
};
using StreamPtr = std::shared_ptr<const Stream>;

// What an output row says. The numbers stand in the output log.
enum class OutputOp : uint8_t {
  kUpsert = 1,  // the row is as it stands here
  kDelete = 2,  // the row is gone; the key and the columns that address it hold values
  // The row moved: this is its old place, under the version of the row that replaces it and which
  // follows. For targets that address a row by more than its key (ClickHouse's sorting key); others
  // leave it out.
  kMovedAway = 3,
  kRead = 4,  // an upsert out of a snapshot
};

// Output rows of one stream from one micro-batch, in commit order, at dense offsets.
struct OutputBatch {
  StreamPtr stream;
  Offset first_offset;
  Epoch epoch;
  std::vector<Transaction> transactions;  // those of the micro-batch that the rows below name
  RowBatch rows;
  // One entry for each row.
  std::vector<OutputOp> ops;
  std::vector<uint32_t> transaction;  // index into transactions
  std::vector<uint64_t> ordinals;

  explicit OutputBatch(StreamPtr s) : stream(std::move(s)), rows(stream->columns) {}

  size_t row_count() const { return ops.size(); }
  RowVersion VersionOf(size_t row) const {
    return {epoch, transactions[transaction[row]].end_lsn, ordinals[row]};
  }
  TimestampMicros CommitTimeOf(size_t row) const {
    return transactions[transaction[row]].commit_ts;
  }
};
using OutputBatchPtr = std::shared_ptr<const OutputBatch>;

// The outputs of one micro-batch over all streams, at offsets [first, end): one record of the
// output log. Batches follow each other in `batches` without gap.
struct OutputRecord {
  Offset first;
  Offset end;
  SourcePosition position;  // of the source, once this micro-batch is durable
  std::vector<OutputBatchPtr> batches;
  std::string sink = {};  // the only one that it is for; empty: each that takes its streams
};

}  // namespace millrace
