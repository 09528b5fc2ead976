// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "millrace/common/status.h"
#include "millrace/model/stream.h"
#include "millrace/storage/store.h"

namespace millrace::pipeline {

// BatchWriter gathers what a change batch comes to, outputs and state, and commits it as one write.
// What would outgrow memory it commits in parts that count together; see storage::StoreBatch.
//
// Outputs become records of the output log, which sinks deliver whole: a record ends where a
// transaction ends, over all streams. A transaction larger than a record is cut, and so are those
// of a change batch whose outputs had to be committed in parts.
//
// Lifecycle: for one change batch, outputs and changes of state in any order, then Commit().
//
// Threads: the engine thread.
class BatchWriter {
 public:
  struct Limits {
    // What a record holds, unless a single row is larger: a sink has one in memory at a time.
    size_t record_rows = 32768;
    size_t record_bytes = size_t{8} << 20;
    // What is gathered before it is committed as a part.
    size_t gathered_bytes = size_t{32} << 20;
  };

  enum class Outputs : uint8_t {
    kHeld,     // gathered until all are there, so that transactions stay whole
    kBounded,  // committed in parts: they may be more than memory takes
  };

  // Outputs are of `position`. `is_part`: the change batch itself is a part of a transaction.
  BatchWriter(storage::Store& store, const Limits& limits, SourcePosition position, bool is_part,
              Outputs outputs);

  // Where changes of state go. Valid until the next call of another function.
  storage::StoreBatch& state() { return *batch_; }
  // Takes outputs of one stream; those of a stream come in order.
  Status AddOutput(OutputBatch output);
  // For makers of very many outputs: commits what is gathered if it is large, unless it is held.
  Status CutOutputsIfLarge();
  // For makers of very many changes of state, when all outputs are there: commits what is gathered
  // if it is large.
  Status CutIfLarge();
  // Commits the rest. With `is_last`, which is always so unless the change batch is a part, all of
  // it counts from here on.
  Status Commit(bool is_last);

 private:
  struct Size;

  Status Cut();
  void AppendRecords();
  void AppendGroups();
  // Appends rows [begin, end) of each gathered output as one record.
  struct RowRange {
    size_t begin = 0;
    size_t end = 0;
  };
  void AppendRecord(const std::vector<RowRange>& ranges);
  bool Fits(const Size& size) const;

  // Constant after construction.
  storage::Store& store_;
  const Limits limits_;
  const SourcePosition position_;

  const Outputs mode_;
  bool is_part_;
  std::unique_ptr<storage::StoreBatch> batch_;
  std::vector<OutputBatch> outputs_;
  size_t output_bytes_ = 0;
  Offset next_;  // of the next output
};

}  // namespace millrace::pipeline
