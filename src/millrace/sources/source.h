// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"
#include "millrace/model/position.h"
#include "millrace/model/source_state.h"
#include "millrace/model/table.h"

namespace millrace::sources {

// Keeps SourceState in data_dir. Implemented by the pipeline; each call is durable when it returns.
class SourceStateStore {
 public:
  virtual ~SourceStateStore() = default;
  // See storage::Store.
  virtual Status BeginSlot(uint64_t system_identifier, uint32_t timeline) = 0;
  virtual Status BeginStreaming(SourcePosition position, std::span<const SourceNote> notes) = 0;
  virtual Status FollowServer(uint64_t system_identifier, uint32_t timeline,
                              std::optional<SourcePosition> position,
                              std::span<const SourceNote> notes) = 0;
};

// How far a table has been read beside the stream.
struct TableReading {
  enum class State { kWaiting, kReading, kDone };
  std::string table;
  State state = State::kWaiting;
  bool is_again = false;        // its rows were downstream before
  uint64_t rows = 0;            // that have joined the stream
  uint64_t rows_estimated = 0;  // that it has in all, as the server guesses; 0: it does not know
};

// A table whose changes are left out, and one sentence that says why and what to do.
struct PausedTable {
  std::string table;
  std::string reason;
};

// For status and readiness; a snapshot of counters, read from any thread.
struct SourceStatus {
  std::string slot;
  Lsn received_lsn;   // newest WAL position that the server has sent
  Lsn confirmed_lsn;  // what the server was told that it may forget
  Lsn server_lsn;     // newest WAL position that the server has
  uint64_t retained_wal_bytes = 0;
  std::string wal_status;  // of the slot, the server's word
  // Commit time of the oldest transaction that was read and is not confirmed, to about 100 ms; 0:
  // there is none.
  TimestampMicros unconfirmed_commit_ts = 0;
  // Steady-clock time at which a heartbeat came back through the slot; nothing before the first.
  std::optional<std::chrono::steady_clock::time_point> heartbeat_seen;
  std::optional<std::chrono::steady_clock::time_point> keepalive_seen;
  bool connected = false;
  // Tables that are not known downstream are being read, or wait for it; or the source has not
  // found out yet.
  bool snapshot_running = true;
  uint64_t snapshot_rows = 0;  // that have joined since the source was opened
  std::vector<TableReading> readings;
  std::string last_error;
  std::vector<PausedTable> paused_tables;
  // That match a pattern and are not taken in: the reason.
  std::vector<PausedTable> left_out_tables;
  uint64_t paused_changes = 0;  // row changes that were left out for them, by this process
};

// What the streams use the tables for.
struct TableRoles {
  // Full names of all tables, those that streams join before those that drive streams: the order in
  // which a snapshot reads them.
  std::vector<std::string> snapshot_order;
  // Those that streams join; see TransactionPart.
  std::vector<std::string> lookups;
  // Those whose rows streams only add, so that they must not be read twice.
  std::vector<std::string> append_only;
  // The tables that the streams of a table join: those are complete before its rows are read.
  std::map<std::string, std::vector<std::string>> joined_by;
  // Candidates whose streams cannot be made, with the reason: they are not taken in.
  std::map<std::string, std::string> left_out;
};

// Why a table that a pattern matches is not taken in. `until`: what it waits for, " until ...".
std::string LeftOutSentence(const std::string& table, const Status& why,
                            std::string_view until = "");

// A Source reads committed transactions, in commit order, out of one database.
//
// Lifecycle: Open(), then Poll() and Take() any number of times, then Close(). After kUnavailable
// or kTimedOut the caller calls Close(), waits, and starts again from Open() with the state that is
// durable by then; everything that was read but is not durable is read again. Connect() may then
// find other tables than before: the caller plans anew before it calls Start(). Other errors end
// the run.
//
// Threads: one thread (mr-capture) makes every call but Confirm(), ReadAgain(), GetStatus(),
// Tables() and Candidates(), which any thread may make.
class Source {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  // Connects, and looks at the tables of the configuration, with their columns and keys as of
  // `state`: where the stream goes on, a table may not be what it is now. kFailedPrecondition,
  // kPermissionDenied or kNotFound with the remedy if the server cannot serve this pipeline.
  virtual Status Connect(const SourceState& state) = 0;

  // In the versions that the stream has come to; a batch that brings a newer one names it.
  // REQUIRES: Connect() succeeded once.
  virtual std::vector<TablePtr> Tables() const = 0;

  // Full names of those of Tables() that were found while earlier runs went on without them:
  // Start() does not take in those of TableRoles::left_out. The others must be planned for.
  // REQUIRES: Connect() succeeded once.
  virtual std::vector<std::string> Candidates() const = 0;

  // Makes or checks publication and slot and goes on at `state.position`, or at the slot's
  // beginning if there is none. Tables that `state` does not know are read beside the stream, and
  // their rows come in its batches. `store` is used until Close(). Never starts wrong: a slot
  // without our state, a position that the slot cannot serve, another server or timeline fail with
  // kFailedPrecondition and the choices.
  virtual Status Start(const SourceState& state, SourceStateStore& store,
                       const TableRoles& roles) = 0;

  // Reads what the server has sent, waiting up to `wait` if there is nothing, and answers
  // keep-alives. What is read gathers in an open batch, see Pending().
  virtual Status Poll(std::chrono::milliseconds wait) = 0;
  // While held, Poll() reads nothing and does not wait; the server is told that we live.
  virtual void Hold(bool is_held) = 0;

  // What Take() would give: whole transactions, or one part of a large one.
  struct PendingBatch {
    size_t rows = 0;
    size_t bytes = 0;
    size_t transactions = 0;
    bool can_take = false;
    // It grows no more: Poll() reads nothing before it is taken.
    bool is_full = false;
    // Nothing but a newer position: an idle or busy-elsewhere database.
    bool position_only = false;
    // steady-clock time at which the oldest of it was read.
    std::chrono::steady_clock::time_point since;
  };
  virtual PendingBatch Pending() const = 0;

  // Hands over the open batch. A failure is one of Poll(). REQUIRES: Pending().can_take.
  virtual Result<std::unique_ptr<ChangeBatch>> Take() = 0;

  // Everything before `durable` may be forgotten by the server. Told to it by the next Poll();
  // never goes back. Called by the engine once a batch is durable.
  virtual void Confirm(Lsn durable) = 0;

  // Has a table read again beside the stream: see ChangeOp::kReadAgainBegin. It is remembered over
  // restarts once the first batch behind this call is durable. kNotFound if it is no table of the
  // source, kFailedPrecondition while it is being read or the stream is not there yet.
  virtual Status ReadAgain(const std::string& table) = 0;

  virtual SourceStatus GetStatus() const = 0;

  // Tells the server the last confirmed position, so that it need not send it again, and
  // disconnects. May be called more than once.
  virtual void Close() = 0;
};

// A finding of `millrace check`.
struct CheckFinding {
  enum class Level { kOk, kWarning, kError } level = Level::kOk;
  std::string subject;  // "source", "sink 'live'"
  std::string text;     // one sentence; for problems with the remedy
};

}  // namespace millrace::sources
