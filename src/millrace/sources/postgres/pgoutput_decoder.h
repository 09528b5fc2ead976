// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"
#include "millrace/sources/postgres/message_cursor.h"
#include "millrace/sources/postgres/relation_message.h"
#include "millrace/sources/postgres/relation_resolver.h"
#include "millrace/sources/postgres/value_parser.h"

namespace millrace::sources::postgres {

// The prefix of the logical messages that heartbeats write; their content is the slot's name.
inline constexpr std::string_view kHeartbeatPrefix = "millrace";

// A logical message; the views are of the pgoutput message.
struct LogicalMessage {
  bool is_transactional = false;
  std::string_view prefix;
  std::string_view content;
};

// Reads what stands behind the type byte. False if it is cut.
bool ReadLogicalMessage(MessageCursor& in, LogicalMessage& message);

// PgOutputDecoder turns the pgoutput messages of committed transactions into the typed columns of
// an open ChangeBatch: a value is parsed where it stands in the message and appended to its column,
// with no row in between. It does no I/O. Values come as text, which is exact for every type,
// extensions' included; binary forms are not documented, and differ between versions.
//
// Lifecycle: StartStream() at each connection. For each transaction Begin(), then Decode() for each
// message that is left of it, then Commit(). EndPart() before Commit() gives a transaction in
// parts; TakeBatch() between them, and between transactions.
//
// Threads: one at a time.
//
// Errors, after which RollBack() takes the transaction's rows out again and only StartStream() goes
// on: kCorruption for bytes that pgoutput does not write; kInvalidArgument for a value that its
// column cannot hold and for a row above kRowBytesMax; what the resolver says. Sentences name table
// and column, never a value.
//
// A table whose columns change becomes a newer version at the first row that says so; what the
// batch holds of it by then becomes rows of that version.
//
// Format: "Logical Replication Message Formats" in PostgreSQL's manual.
class PgOutputDecoder {
 public:
  // What is kept of a transaction. Every row change counts, kept or not.
  enum class Filter { kAll, kLookups, kNothing };

  // `lookups` are full names of tables: those of Filter::kLookups.
  // `resolver` knows the tables, and outlives the decoder.
  PgOutputDecoder(RelationResolver& resolver, std::string slot,
                  const std::vector<std::string>& lookups);

  // A connection begins. Relation messages are forgotten: the server sends them again. The open
  // batch is dropped.
  void StartStream();

  // The messages of `transaction` follow, from the first.
  void Begin(const Transaction& transaction, Filter filter);

  // Decodes a message without its xid. `serial` grows from message to message of the connection, as
  // they came.
  Status Decode(std::string_view message, uint64_t serial);

  // Whether Decode() is to have the message that begins with `head`, its first
  // StagedMessage::kHeadSize bytes; asked before large ones are read from a file. If not, it is
  // counted, and that is all.
  Result<bool> Admit(std::string_view head);

  // Whether the batch gets rows by this message: the head of a row message, all of another.
  Result<bool> Keeps(std::string_view message);

  // Of the transaction, since Begin() or EndPart().
  size_t open_rows() const { return open_rows_; }
  size_t open_bytes() const { return open_bytes_; }

  // The batch is a part of the transaction with the rows so far; Decode() goes on in the next.
  void EndPart(TransactionPart part);
  // The transaction is complete: its rows, if any, count in the batch. With `part` they are its
  // last.
  void Commit(std::optional<TransactionPart> part = std::nullopt);
  // Takes the open transaction's rows out of the batch.
  void RollBack();

  // Of the transactions and parts that are complete.
  const ChangeBatch& batch() const { return *batch_; }
  // Hands it over and begins the next. REQUIRES: no rows are open.
  std::unique_ptr<ChangeBatch> TakeBatch();

  // Tables may be of newer versions, or paused no more: the relations are looked at anew.
  void ForgetResolutions();
  // Row changes that were left out because their table is paused.
  uint64_t paused_changes() const { return paused_changes_; }

  // Heartbeats of our slot whose transaction is complete.
  uint64_t heartbeats() const { return heartbeats_; }
  // A message that no transaction holds back.
  void NoteMessage(const LogicalMessage& message) { heartbeats_ += IsHeartbeat(message); }

 private:
  // A table as a Relation message described it.
  struct Relation {
    uint64_t serial = 0;  // of the message
    RelationMessage message;
    // At the first row that uses it: a rolled back ALTER TABLE shows itself in a message too. The
    // rest is empty before.
    bool is_resolved = false;
    ResolvedRelation rows;
    bool is_lookup = false;
    std::vector<AppendValueFn> parsers;  // of each column of the message
    std::vector<bool> is_key;            // of each column of the table
    std::vector<bool> names_row;         // an old image without it would not say which row it is
  };
  enum class TupleKind { kNew, kOldKey, kOldFull };

  Status DecodeRelation(std::string_view body, uint64_t serial);
  Status DecodeRow(char type, MessageCursor& in, size_t size);
  Status DecodeInsert(MessageCursor& in, const Relation& relation, size_t size);
  Status DecodeUpdate(MessageCursor& in, const Relation& relation, size_t size);
  Status DecodeDelete(MessageCursor& in, const Relation& relation, size_t size);
  Status DecodeTruncate(MessageCursor& in);
  Status DecodeLogicalMessage(MessageCursor& in);

  // The relation that a row message names, or null with the Status in `error`.
  const Relation* FindRelation(MessageCursor& in, Status& error);
  bool Keeps(const Relation& relation) const {
    return relation.rows.table != nullptr &&
           (filter_ == Filter::kAll || (filter_ == Filter::kLookups && relation.is_lookup));
  }
  bool IsHeartbeat(const LogicalMessage& message) const {
    return message.prefix == kHeartbeatPrefix && message.content == slot_;
  }
  Status ResolveRelation(Relation& relation);
  void ForgetOpenRelations();
  void AddOpenRows();
  TableChanges& ChangesOf(const Relation& relation);
  // Appends a tuple to `rows`. `old_row` is the old image of a new tuple, or kNoRow.
  Status ReadTuple(MessageCursor& in, const Relation& relation, TupleKind kind, TupleKind old_kind,
                   uint32_t old_row, TableChanges& changes);
  Status ReadNull(const Relation& relation, TupleKind kind, uint32_t place, TableChanges& changes);
  Status ReadValue(MessageCursor& in, const Relation& relation, TupleKind kind, size_t column,
                   Column& to);
  static Status BadValue(const Relation& relation, TupleKind kind, size_t column,
                         const ValueError& error);
  bool ReadUnchanged(const Relation& relation, TupleKind old_kind, uint32_t old_row, size_t column,
                     TableChanges& changes);
  void AddChange(TableChanges& changes, ChangeOp op, uint32_t new_row, uint32_t old_row,
                 size_t bytes);
  // A row change of the transaction that is not kept: it still counts.
  void SkipChange(const Relation& relation) {
    ++ordinal_;
    paused_changes_ += relation.rows.is_paused && filter_ == Filter::kAll ? 1 : 0;
  }

  // Constant after construction.
  RelationResolver& resolver_;
  const std::string slot_;
  const std::set<std::string, std::less<>> lookups_;

  // Of this connection: the relations of committed transactions, each as the newest message
  // described it. Transactions that the server streamed commit in another order than they were
  // sent in; it takes what it sent last to be what we know.
  std::unordered_map<uint32_t, Relation> relations_;
  uint64_t heartbeats_ = 0;
  uint64_t paused_changes_ = 0;

  // Of the open batch.
  std::unique_ptr<ChangeBatch> batch_;
  std::vector<int> batch_table_;  // index into batch_->tables of each table, -1: none yet

  // Of the open transaction.
  Transaction open_;
  Filter filter_ = Filter::kAll;
  std::unordered_map<uint32_t, Relation> open_relations_;  // those that it described
  uint32_t described_ = 0;                                 // by the last Relation message
  uint32_t last_oid_ = 0;
  const Relation* last_relation_ = nullptr;
  bool has_transient_ = false;  // a resolution that ends with the transaction
  bool has_heartbeat_ = false;
  uint64_t ordinal_ = 0;  // of the last change
  size_t open_rows_ = 0;
  size_t open_bytes_ = 0;
};

}  // namespace millrace::sources::postgres
