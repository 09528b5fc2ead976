// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/mutex.h"
#include "millrace/sources/postgres/chunk_sql.h"
#include "millrace/sources/postgres/copy_rows.h"
#include "millrace/sources/postgres/keyed_snapshot.h"
#include "millrace/sources/postgres/postgres_config.h"

namespace millrace::sources::postgres {

// A piece of a table that is to be read.
struct ReadTask {
  SourceTable table;
  // Set: a chunk of at most `rows` rows at the beginning of `range`, in key order.
  std::optional<KeyOrder> order;
  KeyRange range;
  uint64_t rows = 0;
  // Otherwise: pages of the table, in a snapshot of its own or in one that another reader exported.
  PageRange pages;
  std::string imported;
};

// The snapshot in which a piece is read.
struct TakenSnapshot {
  XidSnapshot xids;
  Lsn wal_insert_lsn;  // read behind it: every commit that it sees is before
  TimestampMicros taken_at = 0;
  std::string exported;  // its name, if it was to be exported
  uint64_t pages = 0;    // the table's size, or of its largest partition
};

// ChunkReader reads one piece of a table after the other over a connection of its own. A piece is
// read in a REPEATABLE READ transaction that holds a lock against DDL, both short: the snapshot is
// taken by the caller, between two decisions about the stream, so that it decides about the next.
//
//   kIdle --Prepare()--> kPreparing -> kPrepared --Read()--> kReading -> kEnded --End()--> kIdle
//                                          `------Abandon()----------------^
//
// kPreparing finds where the chunk ends and gets the lock; kReading hands rows over and waits while
// kQueueBytesMax of them are not taken. A failure leads to kEnded from any state; so does a row of
// 16 MiB or more of a chunk, behind which the next chunk goes on.
//
// Threads: one of its own, mr-chunk-N, from the constructor to the destructor; it blocks on its
// connection and on rows being taken. The methods: the capture thread.
class ChunkReader {
 public:
  struct Options {
    PostgresSourceConfig config;
    int number = 1;
  };
  enum class State { kIdle, kPreparing, kPrepared, kReading, kEnded };

  explicit ChunkReader(Options options);
  ~ChunkReader();

  State state() const;
  // REQUIRES: kIdle.
  void Prepare(ReadTask task);
  // With the end of the chunk that was found. REQUIRES: kPrepared or later.
  const KeyRange& range() const { return task_.range; }
  bool has_imported() const { return !task_.imported.empty(); }
  // One round trip. A failure ends the piece. REQUIRES: kPrepared.
  Result<TakenSnapshot> TakeSnapshot(bool exports);
  // What others still have to read of the table, in the snapshot that was exported: this reader's
  // transaction stays until ReleaseSnapshot(). REQUIRES: kPrepared.
  void ReadPages(PageRange pages, bool keeps_snapshot);
  // REQUIRES: kPrepared.
  void Read();
  void Abandon();
  void ReleaseSnapshot();

  // The next rows, if there are some. They count as waiting until the next call: a large row is not
  // read beside another that is worked on.
  std::optional<ChunkRows> TakeRows();
  bool has_rows() const;
  // Reads no further; the rows that are there can be taken.
  void Stop();
  // How the piece ended: OK if all was read, kCancelled after Stop() or a large row, kNotFound if
  // the table is not what it was. REQUIRES: kEnded.
  Status End();

 private:
  enum class Work { kNone, kPrepare, kRead, kAbandon };

  void Run(std::stop_token stop);
  Status DoPrepare(const std::stop_token& stop);
  Status FindChunkEnd();
  Status DoRead(const std::stop_token& stop);
  Status CheckShape();
  Status CopyRows(const std::stop_token& stop);
  // False once it is to stop.
  bool Post(ChunkRows& rows, const std::stop_token& stop);
  Status EndCopyEarly();
  bool is_stopping() const;

  // Constant after construction.
  const Options options_;

  // Of the thread in kPreparing and kReading, else of the caller.
  ReadTask task_;
  std::unique_ptr<pg::Connection> connection_;

  mutable Mutex mu_;
  CondVar changed_;
  // Guarded by mu_.
  State state_ MR_GUARDED_BY(mu_) = State::kIdle;
  Work work_ MR_GUARDED_BY(mu_) = Work::kNone;
  Status status_ MR_GUARDED_BY(mu_);
  bool is_stopping_ MR_GUARDED_BY(mu_) = false;
  bool keeps_snapshot_ MR_GUARDED_BY(mu_) = false;
  std::deque<ChunkRows> rows_ MR_GUARDED_BY(mu_);
  size_t rows_bytes_ MR_GUARDED_BY(mu_) = 0;   // in rows_, and taken_bytes_
  size_t taken_bytes_ MR_GUARDED_BY(mu_) = 0;  // of the rows that TakeRows() gave last

  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace millrace::sources::postgres
