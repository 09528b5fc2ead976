// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/backoff.h"
#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"
#include "millrace/sources/postgres/chunk_reader.h"
#include "millrace/sources/postgres/keyed_snapshot.h"
#include "millrace/sources/postgres/snapshot_progress.h"
#include "millrace/sources/postgres/staged_snapshot.h"
#include "millrace/sources/source.h"
#include "millrace/telemetry/log.h"

namespace millrace::sources::postgres {

// SnapshotCoordinator reads tables beside the stream: it has readers read pieces, decides about
// each change of the stream whether it is already shown by a piece or will be, and joins what was
// read to the stream's batches. Tables with a key order go as KeyedSnapshot, others as
// StagedSnapshot. The rows of a table are read once those that its streams join are complete.
//
// Lifecycle: Start() at each connection, with what is durable; then Poll() often, and for each
// batch of the stream Finish() before it is handed over. Memory: kWaitingBytesMax of rows that wait
// to join, and a reader's queue each.
//
// Threads: the capture thread; the readers have theirs.
//
// Errors: those of values and privileges. Broken connections of readers are tried again here, as
// are tables that were altered: the source starts again once the stream has come to that.
class SnapshotCoordinator {
 public:
  using OpenFn = std::function<Result<std::unique_ptr<pg::Connection>>()>;

  // `config.url` and `open` reach the server whose tables are read. `beat` has a logical message
  // written soon, so that the stream passes the end of the WAL.
  SnapshotCoordinator(PostgresSourceConfig config, telemetry::Logger log, OpenFn open,
                      std::function<void()> beat);

  // Takes up `tables`, which `notes` all know, where they are.
  Status Start(const std::vector<SourceTable>& tables, const TableRoles& roles,
               const std::map<std::string, std::string, std::less<>>& notes);

  // Has a table read again that is complete, or was paused: then the stream `has_gap`, and its
  // changes of a row count only from the row's reading. Whatever runs now must have ended before,
  // because its changes may be in the stream without being visible.
  Status ReadAgain(const SourceTable& source, bool has_gap);

  // A large transaction of the stream is being handed over: no table may come in.
  bool is_within_transaction() const { return part_pass_.has_value(); }
  // Some table is not complete.
  bool is_active() const { return !tables_.empty(); }
  // Has readers go on, without waiting for them.
  Status Poll();

  // Something joins at stream position `at`, where no transaction is half handed over.
  bool HasRowsFor(Lsn at) const;
  // Completes a batch that the stream gives: takes out what pieces show, adds rows that join at its
  // end, and the notes. To be called for each batch, in order.
  // Without `joins` rows wait for a later batch.
  Status Finish(ChangeBatch& batch, bool joins);
  // The table is not complete.
  bool IsReading(const std::string& full_name) const;

  // A table without a key order is being handed over: NextPart() before the next batch.
  bool has_part() const { return emission_.has_value(); }
  Result<std::unique_ptr<ChangeBatch>> NextPart();

  // Of all tables, also those that were complete at the start.
  std::vector<TableReading> GetReadings() const;
  uint64_t rows_joined() const { return rows_joined_; }

 private:
  struct TableEntry {
    SourceTable source;
    TableProgress progress;  // its ledger is only used for the note
    std::unique_ptr<KeyedSnapshot> keyed;
    std::unique_ptr<StagedSnapshot> staged;
    std::vector<std::string> waits_for;  // tables that its streams join
    bool is_lookup = false;
    bool is_new = false;      // since the last note
    bool is_claimed = false;  // a reader prepares a piece of it
    uint64_t chunk_rows = 0;
    int chunks = 0;  // that are being read
    // Of a staged table: what no reader has begun yet, in the snapshot of this name.
    std::vector<PageRange> pages;
    std::string exported;
    int attempt = 0;
    uint64_t pieces_left = 0;  // that were not read whole

    bool is_complete() const {
      return keyed != nullptr ? keyed->is_complete()
                              : staged->state() == StagedSnapshot::State::kJoined;
    }
    bool IsBeingStaged(int in_attempt) const {
      return staged->state() == StagedSnapshot::State::kReading && staged->attempt() == in_attempt;
    }
    // kReadAgainBegin is to go into the stream before a chunk is read.
    bool NeedsBegin() const { return keyed != nullptr && progress.is_again && !progress.has_begun; }
    const std::set<FullXid>& must_see() const {
      return keyed != nullptr ? keyed->ledger().must_see() : staged->must_see();
    }
  };
  struct ReaderEntry {
    std::unique_ptr<ChunkReader> reader;
    uint32_t oid = 0;  // of the table that it reads; 0: none
    ChunkId chunk = 0;
    int attempt = 0;  // of a staged table
    std::chrono::steady_clock::time_point begun;
    bool was_stopped = false;
    Backoff backoff{{}};
    std::chrono::steady_clock::time_point not_before;
  };
  // A table that joins as one large transaction.
  struct Emission {
    uint32_t oid = 0;
    Transaction transaction;
    SourcePosition position;
    TransactionPart::Pass pass = TransactionPart::Pass::kChanges;
    bool is_first = true;
    uint64_t first_ordinal = 0;
  };

  TableEntry* Find(uint32_t oid);
  bool MayBeRead(const TableEntry& table) const;
  size_t WaitingBytes() const;
  Status Connect();
  Status AddTable(const SourceTable& source, TableProgress progress);
  TableReading& ReadingOf(const TableEntry& table);
  Status LoadEstimate(const TableEntry& table);
  void StartReaders();
  // Asks for a snapshot if the last is old, so that what must be seen is forgotten.
  Status RefreshNewest();
  void SetNewest(XidSnapshot snapshot);
  Status PollReader(ReaderEntry& entry);
  Status GiveWork(ReaderEntry& entry);
  bool HasWork(TableEntry& table, ReadTask& task) const;
  Status BeginPiece(ReaderEntry& entry);
  Status BeginStaged(TableEntry& table, ReaderEntry& entry, TakenSnapshot taken);
  void BeginReading(TableEntry& table, ReaderEntry& entry);
  static bool IsWanted(const TableEntry* table, const ReaderEntry& entry);
  Status TakeRows(ReaderEntry& entry);
  Status EndPiece(ReaderEntry& entry);
  Status Filter(ChangeBatch& batch);
  void Join(ChangeBatch& batch);
  Status JoinStaged(ChangeBatch& batch);
  void AddMark(ChangeOp op, uint32_t transaction, uint64_t& ordinal, TableChanges& to);
  void AddNotes(ChangeBatch& batch);
  void DropCompleteTables();

  // Constant after construction.
  const PostgresSourceConfig config_;
  const telemetry::Logger log_;
  const OpenFn open_;
  const std::function<void()> beat_;

  std::unique_ptr<pg::Connection> connection_;  // for questions, while a table is read
  std::vector<TableEntry> tables_;  // that are not complete, in the order in which they are read
  std::vector<ReaderEntry> readers_;
  std::vector<TableReading> readings_;  // of all tables
  TableRoles roles_;
  XidSnapshot newest_;
  std::chrono::steady_clock::time_point newest_at_;
  TimestampMicros newest_taken_at_ = 0;  // by the server's clock
  ChunkId last_chunk_ = 0;
  SnapshotOrdinals ordinals_;
  bool ordinals_changed_ = false;
  uint64_t rows_joined_ = 0;
  // A large transaction of the stream is being handed over in parts, in this pass.
  std::optional<TransactionPart::Pass> part_pass_;
  std::optional<Emission> emission_;
};

}  // namespace millrace::sources::postgres
