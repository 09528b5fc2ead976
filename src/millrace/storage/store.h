// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/common/strong_id.h"
#include "millrace/model/position.h"
#include "millrace/model/source_state.h"
#include "millrace/model/stream.h"
#include "millrace/storage/dead_letter.h"

namespace millrace::storage {

// A keyed collection of state rows in data_dir: the rows of a reference table, or the addresses of
// a stream's outputs. Given once for each name and kept.
using StateTableId = StrongId<uint32_t, struct StateTableIdTag>;

// The rows of `table` as they were before the transaction in parts that is open, for a second pass
// over its changes: what is put there is read there alone, and is gone with the last part.
inline StateTableId ReplayOf(StateTableId table) {
  return StateTableId(table.value() | (uint32_t{1} << 31));
}

// What one micro-batch changes, committed as one: state, outputs and source position cannot
// disagree. Later changes of a key win. Not thread-safe.
//
// What would outgrow memory is committed in parts, each a StoreBatch, that count together: nothing
// of them is readable by sinks, and nothing survives a restart, before the last is committed.
class StoreBatch {
 public:
  virtual ~StoreBatch() = default;
  // Makes the batch a part of the open transaction, or the first part of one. May be called at any
  // time before the commit; the last call says whether this is the last part.
  virtual void SetPart(bool is_last) = 0;
  virtual void PutState(StateTableId table, std::string_view key, std::string_view row) = 0;
  virtual void DeleteState(StateTableId table, std::string_view key) = 0;
  // Drops every row of `table` that was there before this batch.
  virtual void ClearState(StateTableId table) = 0;
  // REQUIRES: record.first is the end of the log plus what this batch has appended. Rows become
  // readable by sinks at the commit, for parts at the last one's.
  virtual void AppendOutput(OutputRecord record) = 0;
  // Changes a letter: with it in the log again, in the same write.
  virtual void PutDeadLetter(const DeadLetter& letter) = 0;
  // REQUIRES for both: not a part, or the last.
  virtual void SetPosition(SourcePosition position) = 0;
  virtual void SetNote(const SourceNote& note) = 0;
  // Bytes that it holds in memory.
  virtual size_t byte_size() const = 0;
};

// How far one sink is.
struct DeliveryState {
  Offset delivered;      // everything before it is durable in the target
  std::string plan;      // the sink's own plan of a delivery whose outcome may be unknown; or empty
  bool started = false;  // the sink has been given rows before
};

// The rows of a state table in key order, as they were when it was made. Views are valid until the
// next call. It must not outlive the store.
class StateCursor {
 public:
  virtual ~StateCursor() = default;
  // False at the end, and after a failure.
  virtual bool Valid() const = 0;
  virtual void Next() = 0;
  virtual std::string_view key() const = 0;
  virtual std::string_view row() const = 0;
  virtual Status status() const = 0;
};

// Store keeps everything that survives a restart: state rows, the output log, dead letters, source
// position and delivery states. One Store a data_dir, held by a lock file for the life of the
// process.
//
// Threads: any thread may call any method, but state is read, and Commit() and DropParts() are
// called, by the engine thread only.
//
// Formats: docs/formats/. A newer format is refused with kUnsupported and the versions.
//
// Errors: kResourceExhausted when the disk is full, kCorruption when bytes are not what was
// written, kFailedPrecondition when another process holds data_dir.
class Store {
 public:
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  virtual ~Store() = default;

  // A random name, made with data_dir: what tokens and positions in targets begin with, so that
  // offsets of another data_dir are never taken for ours.
  virtual std::string_view instance_id() const = 0;

  // What earlier runs left. `epoch` included in position.
  virtual Result<SourceState> LoadSourceState() = 0;
  // Durably records that a slot is about to be made on this server: one of our name that is found
  // later, without BeginStreaming() in between, is ours to drop.
  virtual Status BeginSlot(uint64_t system_identifier, uint32_t timeline) = 0;
  // Durably records that the slot is made, and that streaming begins at `position` with `notes`.
  virtual Status BeginStreaming(SourcePosition position, std::span<const SourceNote> notes) = 0;
  // Durably records, as one write, that the source goes on on another server or timeline: at
  // `position`, or at the stored one, with `notes`. kFailedPrecondition if there is none, or
  // `position` is before it. With a `position`, no batch may be committed meanwhile.
  virtual Status FollowServer(uint64_t system_identifier, uint32_t timeline,
                              std::optional<SourcePosition> position,
                              std::span<const SourceNote> notes) = 0;

  virtual Result<StateTableId> OpenStateTable(std::string_view name) = 0;
  // The stream with its id and the version of its columns: the stored one, or a new one if the
  // columns differ from the newest stored. Ids in `stream` are ignored.
  virtual Result<StreamPtr> OpenStream(const Stream& stream) = 0;
  // A version of a stream, or null if there is none.
  virtual StreamPtr FindStream(StreamId id, SchemaVersion version) const = 0;

  // The rows of `keys`, in their order; nothing where there is none. State is as the newest commit
  // left it, a part included.
  virtual Result<std::vector<std::optional<std::string>>> GetState(
      StateTableId table, std::span<const std::string> keys) = 0;
  // At the first row of `table`. Later commits do not show in it.
  virtual std::unique_ptr<StateCursor> ScanState(StateTableId table) = 0;
  // About how much the rows of `table` take on disk and in memory, for status.
  virtual uint64_t ApproximateStateBytes(StateTableId table) = 0;

  // For work on rows that are so large that copies of them count: while it is held, ReadOutput()
  // brings no record from disk into memory.
  virtual std::unique_lock<std::mutex> TakeTurn() = 0;

  virtual std::unique_ptr<StoreBatch> NewBatch() = 0;
  // Applies `batch` atomically and, when it returns, durably (one fdatasync). A part is durable
  // with the last one, after which the call merges the state of all parts: a time that grows with
  // it. kFailedPrecondition for a batch that is not a part while a transaction is open.
  virtual Status Commit(std::unique_ptr<StoreBatch> batch) = 0;
  // A transaction in parts was begun and not ended.
  virtual bool HasOpenParts() const = 0;
  // Drops the open transaction's outputs and state, if there is one: its source sends it again.
  virtual Status DropParts() = 0;

  // The output log's readable end: the offset that the next row gets.
  virtual Offset ReadableEnd() const = 0;
  // The end of everything appended, outputs included that are not readable yet.
  virtual Offset AppendEnd() const = 0;
  // The oldest offset that is kept.
  virtual Offset LogBegin() const = 0;
  // The record that holds `offset`. kNotFound below LogBegin(). REQUIRES: offset < ReadableEnd().
  virtual Result<OutputRecord> ReadOutput(Offset offset) = 0;
  // Blocks until ReadableEnd() > `offset`, `deadline`, or `stop`.
  virtual void WaitForOutput(Offset offset, std::chrono::steady_clock::time_point deadline,
                             std::stop_token stop) = 0;
  // Drops records that end at or before `offset`; LogBegin() rises.
  virtual Status TruncateOutput(Offset offset) = 0;
  // Of all records but those of the open transaction in parts.
  virtual uint64_t OutputLogBytes() const = 0;

  virtual Result<DeliveryState> LoadDelivery(std::string_view sink) = 0;
  // Replaces it. With `sync` it is durable when the call returns.
  virtual Status SaveDelivery(std::string_view sink, const DeliveryState& state, bool sync) = 0;

  // Gives the ids of new letters; none is given twice, also not after a crash.
  virtual DeadLetterId NextDeadLetter() = 0;
  // Durable when it returns.
  virtual Status ChangeDeadLetters(const DeadLetterChanges& changes) = 0;
  // Letters behind `after` by id, at most `limit`.
  virtual Result<std::vector<DeadLetter>> ReadDeadLetters(DeadLetterId after, size_t limit) = 0;
  // The row of a letter, at the offset where it was refused. kNotFound if there is no such letter.
  virtual Result<OutputRecord> ReadDeadLetterRow(DeadLetterId id) = 0;
  virtual Result<std::vector<LeftOutRow>> ReadLeftOutRows() = 0;
};

}  // namespace millrace::storage
