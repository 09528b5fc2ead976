// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"
#include "millrace/sources/postgres/source_table.h"
#include "millrace/sources/postgres/value_parser.h"

namespace millrace::sources::postgres {

// The prefix of the logical messages that heartbeats write; their content is the slot's name.
inline constexpr std::string_view kHeartbeatPrefix = "millrace";

// PgOutputDecoder turns pgoutput messages (protocol version 1, values as text) into the typed
// columns of an open ChangeBatch: a value is parsed where it stands in the message and appended to
// its column, with no row in between. It does no I/O.
//
// Lifecycle: StartStream() at each connection, then Decode() for each message; Take() whenever
// can_take(). StartStream() drops the open batch: the server sends again what was not confirmed.
//
// Threads: one at a time.
//
// Errors, after which only StartStream() goes on: kCorruption for bytes that pgoutput does not
// write; kInvalidArgument for a value that its column cannot hold; kFailedPrecondition for a table
// that is not as it was when the source connected. Sentences name table and column, never a value.
// The open transaction has then left the batch.
//
// Format: "Logical Replication Message Formats" in PostgreSQL's manual.
class PgOutputDecoder {
 public:
  PgOutputDecoder(std::vector<SourceTable> tables, std::string slot);

  // A connection begins that goes on at `start`. Relation messages are forgotten: the server sends
  // them again. Transactions that committed before `start` are left out.
  void StartStream(SourcePosition start);

  // Decodes one message, the payload of an XLogData.
  Status Decode(std::string_view message);

  // True from Begin to Commit.
  bool in_transaction() const { return in_transaction_; }
  // Nothing is half read, and there are rows.
  bool can_take() const { return !in_transaction_ && batch_->row_count != 0; }
  // Of the transactions that are complete.
  const ChangeBatch& batch() const { return *batch_; }
  // Of the transaction that is half read too.
  size_t pending_rows() const { return batch_->row_count + open_rows_; }
  size_t pending_bytes() const { return batch_->byte_size + open_bytes_; }
  // The end of the newest complete transaction, also of those without changes for us; the start
  // before the first.
  Lsn end_lsn() const { return end_lsn_; }
  TimestampMicros last_commit_ts() const { return last_commit_ts_; }
  // Heartbeats of our slot whose transaction is complete.
  uint64_t heartbeats() const { return heartbeats_; }

  // Hands the complete transactions over and begins the next batch. REQUIRES: !in_transaction().
  std::unique_ptr<ChangeBatch> Take();

  // Takes the half-read transaction's rows out of the batch again. What is complete stays.
  void RollBackOpenTransaction();

 private:
  // A table as this connection's Relation message described it.
  struct Relation {
    const SourceTable* table = nullptr;  // null: published, but not of this pipeline
    size_t table_index = 0;
    std::vector<AppendValueFn> parsers;
    std::vector<bool> is_key;
    std::vector<bool> names_row;  // an old image without it would not say which row it is
  };
  enum class TupleKind { kNew, kOldKey, kOldFull };
  class Cursor;

  Status DecodeMessage(std::string_view message);
  Status DecodeBegin(Cursor& in);
  Status DecodeCommit(Cursor& in);
  Status DecodeRelation(std::string_view body);
  Status DecodeInsert(Cursor& in, size_t size);
  Status DecodeUpdate(Cursor& in, size_t size);
  Status DecodeDelete(Cursor& in, size_t size);
  Status DecodeTruncate(Cursor& in);
  Status DecodeLogicalMessage(Cursor& in);

  // The relation that a row message names, or null with the Status in `error`.
  const Relation* FindRelation(Cursor& in, Status& error);
  TableChanges& ChangesOf(const Relation& relation);
  // Appends a tuple to `rows`. `old_row` is the old image of a new tuple, or kNoRow.
  Status ReadTuple(Cursor& in, const Relation& relation, TupleKind kind, TupleKind old_kind,
                   uint32_t old_row, TableChanges& changes);
  Status ReadValue(Cursor& in, const Relation& relation, TupleKind kind, size_t column, Column& to);
  bool ReadUnchanged(const Relation& relation, TupleKind old_kind, uint32_t old_row, size_t column,
                     TableChanges& changes);
  void AddChange(TableChanges& changes, ChangeOp op, uint32_t new_row, uint32_t old_row,
                 size_t bytes);
  // A row change of the transaction that is not kept: it still counts.
  void SkipChange() { ++ordinal_; }

  // Constant after construction.
  const std::vector<SourceTable> tables_;
  const std::string slot_;

  // Of this connection.
  SourcePosition start_;
  std::unordered_map<uint32_t, Relation> relations_;
  uint32_t last_oid_ = 0;
  const Relation* last_relation_ = nullptr;

  // Of the open batch.
  std::unique_ptr<ChangeBatch> batch_;
  std::vector<int> batch_table_;  // index into batch_->tables of each table, -1: none yet
  Lsn end_lsn_;
  TimestampMicros last_commit_ts_ = 0;
  uint64_t heartbeats_ = 0;

  // Of the transaction between Begin and Commit.
  bool in_transaction_ = false;
  bool skips_transaction_ = false;
  bool has_heartbeat_ = false;
  Lsn commit_lsn_;
  Transaction open_;
  uint64_t ordinal_ = 0;  // of the last change
  size_t open_rows_ = 0;
  size_t open_bytes_ = 0;
};

}  // namespace millrace::sources::postgres
