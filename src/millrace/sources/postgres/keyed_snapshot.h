// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"
#include "millrace/sources/postgres/change_filter.h"
#include "millrace/sources/postgres/chunk_ledger.h"
#include "millrace/sources/postgres/key_order.h"

namespace millrace::sources::postgres {

// A run of rows of a chunk, in key order.
struct ChunkRows {
  explicit ChunkRows(SchemaPtr schema) : rows(std::move(schema)) {}

  RowBatch rows;
  std::vector<std::string> keys;  // encoded, one for each row
  KeyBound last;                  // the last row's
  size_t bytes = 0;
};

// KeyedSnapshot is a table that is read in chunks of its primary key while the stream goes on: it
// decides about the stream's changes of the table, and holds the rows of chunks until they join.
//
// A chunk: Begin() with its snapshot, AddRows() as they arrive, Finish() or Cut(). Its rows join
// with JoinRows() once the stream is at the WAL position that was read behind the snapshot; those
// of a chunk that is not finished join too.
//
// It does no I/O. One thread.
class KeyedSnapshot {
 public:
  enum class Mode {
    kFirst,  // downstream knows nothing of the table: changes of unread keys are dropped
    kAgain,  // downstream has the table: all changes apply
  };

  KeyedSnapshot(TablePtr table, KeyOrder order, Mode mode)
      : table_(std::move(table)), order_(std::move(order)), mode_(mode) {}
  // Goes on where an earlier run was.
  KeyedSnapshot(TablePtr table, KeyOrder order, Mode mode, ChunkLedger ledger)
      : KeyedSnapshot(std::move(table), std::move(order), mode) {
    state_.ledger = std::move(ledger);
  }

  // Takes out of `changes`, the table's in a batch, what chunks show or will show. `xids` has the
  // id of each transaction of the batch. `newest` is a snapshot that was taken before.
  void Filter(std::span<const FullXid> xids, const XidSnapshot& newest, TableChanges& changes);
  // Two passes over one transaction must decide alike: Remember() before the first, Recall() before
  // the second, and no call about chunks in between.
  void Remember() { remembered_ = state_; }
  void Recall() { state_ = *remembered_; }

  std::optional<KeyRange> FirstUnread() const { return state_.ledger.FirstUnread(); }
  // See ChunkLedger::Begin(). The rows join from stream position `join_from` on.
  bool Begin(ChunkId chunk, const KeyRange& range, std::shared_ptr<const XidSnapshot> snapshot,
             Lsn join_from, TimestampMicros taken_at);
  // False: the chunk was given up meanwhile, and whoever reads it is to stop. kCorruption if the
  // rows are not in key order.
  Result<bool> AddRows(ChunkId chunk, ChunkRows rows);
  // All its rows were added.
  void Finish(ChunkId chunk);
  // It is not read any further; what was added stays.
  void Cut(ChunkId chunk);
  bool IsBeingRead(ChunkId chunk) const;

  // Whether JoinRows() has something to do at stream position `at`.
  bool HasRowsFor(Lsn at) const;
  // The next rows that join at `at`: appended to `to` as kRead, with `transaction` and ordinals
  // from `ordinal` on, which is moved on. Returns how many; their commit time goes to `taken_at`.
  size_t JoinRows(Lsn at, uint32_t transaction, uint64_t& ordinal, TimestampMicros& taken_at,
                  TableChanges& to);

  bool is_complete() const { return state_.ledger.is_complete(); }
  size_t waiting_bytes() const { return state_.waiting_bytes; }
  ChunkLedger& ledger() { return state_.ledger; }
  const KeyOrder& order() const { return order_; }

  // The ledger differs from what was saved last.
  bool has_changed() const { return has_changed_; }
  void set_saved() { has_changed_ = false; }

 private:
  struct Chunk {
    Lsn join_from;
    TimestampMicros taken_at = 0;
    std::deque<std::shared_ptr<ChunkRows>> rows;  // that have not joined
    std::optional<KeyBound> read_to;              // the newest row's key
    bool is_finished = false;                     // all its rows were added
    bool is_cut = false;                          // no more rows are added
  };
  // What changes decide, and Recall() sets back.
  struct State {
    ChunkLedger ledger;
    std::map<ChunkId, Chunk> chunks;
    size_t waiting_bytes = 0;
  };
  struct Decision {
    bool applies = false;
    // It takes the place of what a chunk would show: downstream has no row of the key.
    bool is_first = false;
    std::optional<KnownRow> known;
  };

  Kept FilterChange(const Change& change, FullXid xid, const XidSnapshot& newest,
                    TableChanges& changes, std::vector<KnownRow>& known);
  // `gap_row`: the change leaves values of this row out, which are to be found; or kNoRow.
  Decision Decide(const std::string& key, FullXid xid, const XidSnapshot& newest, uint32_t gap_row);
  void DropUnread(FullXid xid, const XidSnapshot& newest);
  std::optional<KnownRow> FindRow(const Chunk& chunk, const std::string& key) const;
  void Close(ChunkId id, bool keeps_rows);
  void Restart();

  const TablePtr table_;
  const KeyOrder order_;
  const Mode mode_;
  State state_;
  std::optional<State> remembered_;
  bool has_changed_ = false;
  std::string key_;  // reused
  std::string old_key_;
};

}  // namespace millrace::sources::postgres
