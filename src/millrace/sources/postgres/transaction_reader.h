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
#include "millrace/sources/postgres/message_cursor.h"
#include "millrace/sources/postgres/pgoutput_decoder.h"
#include "millrace/sources/postgres/transaction_stage.h"

namespace millrace::sources::postgres {

// TransactionReader puts the transactions together that pgoutput sends, in one piece from Begin to
// Commit or, while they still run, in stream blocks that stand between others' (protocol versions 1
// to 4). Every message of a transaction is staged as it comes, and decoded into the open batch once
// the transaction has committed: in the order of commits, without the changes of aborted
// subtransactions, and with the same ordinals however the server sent it.
//
// A transaction of more than `whole_max` bytes does not go into a batch with others: it comes in
// parts (see TransactionPart), each made by DecodePart() and taken before the next.
//
// Lifecycle: StartStream() at each connection, then Decode() for each message; Take() whenever
// can_take(). With is_full() no Decode(): first Take(), or DecodePart() while !can_take().
//
// Threads: one at a time.
//
// Errors, after which only StartStream() goes on: the decoder's and the stage's; kCorruption for
// messages out of their order; kFailedPrecondition for the messages of a slot with two_phase on.
class TransactionReader {
 public:
  struct Options {
    RelationResolver* resolver = nullptr;  // knows the tables, and outlives the reader
    std::string slot;
    std::vector<std::string> lookups;  // TableRoles::lookups
    // The messages of event triggers are kept, see RelationResolver::TakeCommand(); but for those
    // in stream blocks, which do not say the subtransaction that they are of.
    bool takes_commands = false;
    std::string staging_directory;
    size_t batch_rows_max = 0;
    size_t batch_bytes_max = 0;
    size_t staged_memory_max = kStagedMemoryMax;
    // Of a transaction that comes whole, with kMessageOverhead for each message: what it takes as a
    // batch, in memory at once, is of that order.
    size_t whole_max = kStagedMemoryMax;
  };
  // What a row costs beside its text as it goes through the engine.
  static constexpr size_t kMessageOverhead = 64;

  explicit TransactionReader(Options options);

  // A connection begins that goes on at `start`. What is open and what was not taken is dropped:
  // the server sends it again. Transactions that committed before `start` are left out.
  Status StartStream(SourcePosition start);

  // Takes one message, the payload of an XLogData.
  Status Decode(std::string_view message);

  // Makes the next part of a large transaction, or begins to: it returns after a few MiB.
  // REQUIRES: has_large() and !can_take().
  Status DecodePart();

  // A transaction is being handed over in parts.
  bool has_large() const { return large_ != nullptr; }
  // The batch takes no more.
  bool is_full() const;
  bool can_take() const { return decoder_.batch().row_count != 0; }
  // Complete transactions, or one part.
  const ChangeBatch& batch() const { return decoder_.batch(); }
  // Hands the batch over and begins the next.
  std::unique_ptr<ChangeBatch> Take();

  // The server has begun to send something and not ended it: a transaction, or a stream block.
  bool is_within() const { return place_ != Place::kOutside; }
  // The end of the newest complete transaction, also of those without changes for us; the start
  // before the first.
  Lsn end_lsn() const { return end_lsn_; }
  TimestampMicros last_commit_ts() const { return last_commit_ts_; }
  uint64_t heartbeats() const { return decoder_.heartbeats(); }
  // See PgOutputDecoder.
  void ForgetResolutions() { decoder_.ForgetResolutions(); }
  uint64_t paused_changes() const { return decoder_.paused_changes(); }
  // Of the open transactions.
  size_t staged_memory() const { return stage_.memory_size(); }

 private:
  enum class Place { kOutside, kTransaction, kStreamBlock };

  // A committed transaction that is too large for one batch.
  struct Large {
    Large(std::unique_ptr<StagedTransaction> s, const Transaction& t, TransactionPart::Pass p)
        : staged(std::move(s)), transaction(t), pass(p), reader(*staged) {}

    std::unique_ptr<StagedTransaction> staged;
    Transaction transaction;
    TransactionPart::Pass pass;
    StagedReader reader;
    bool is_pass_begun = false;
    bool has_parts = false;
  };

  Status DecodeMessage(std::string_view message);
  Status DecodeBegin(MessageCursor in);
  Status DecodeCommit(MessageCursor in);
  Status DecodeStreamStart(MessageCursor in);
  Status DecodeStreamStop(MessageCursor in);
  Status DecodeStreamCommit(MessageCursor in);
  Status DecodeStreamAbort(MessageCursor in);
  Status DecodeLogicalMessage(std::string_view message);
  Status StageMessage(std::string_view message);
  // The open transaction has committed.
  Status Complete(Xid xid, Lsn commit_lsn, Lsn end_lsn, TimestampMicros commit_ts);
  Status DecodeWhole(const StagedTransaction& staged);
  Status DecodeStaged(StagedReader& reader, const StagedMessage& message);
  // The reader stands at the end of a pass.
  void EndPass();
  TransactionPart MakePart(bool is_last);
  void MoveTo(const Transaction& transaction);

  // Constant after construction.
  const Options options_;

  TransactionStage stage_;
  PgOutputDecoder decoder_;

  // Of this connection.
  SourcePosition start_;
  uint64_t serial_ = 0;  // of the last message
  Lsn end_lsn_;
  TimestampMicros last_commit_ts_ = 0;
  std::unique_ptr<Large> large_;

  // Of what the server is sending.
  Place place_ = Place::kOutside;
  Xid xid_;  // of the top-level transaction
  StagedTransaction* staged_ = nullptr;
  Lsn begin_commit_lsn_;  // what Begin says of the commit
  TimestampMicros begin_commit_ts_ = 0;
};

}  // namespace millrace::sources::postgres
