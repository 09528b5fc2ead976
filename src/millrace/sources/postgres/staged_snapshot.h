// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"
#include "millrace/sources/postgres/change_file.h"
#include "millrace/sources/postgres/xid_snapshot.h"

namespace millrace::sources::postgres {

// StagedSnapshot is a table without a key order that is read whole, in one snapshot, while the
// stream goes on. Its rows wait in a file until all are there and the stream is at the WAL position
// that was read behind the snapshot; the stream's changes that the snapshot does not show wait in a
// file behind them. Then both join, as one transaction. Nothing of it survives the process: it is
// read anew. The rows may come from several readers at a time.
//
// One thread.
class StagedSnapshot {
 public:
  // Files are made in `directory`. `must_see`: what the snapshot must see.
  StagedSnapshot(TablePtr table, std::string directory, std::set<FullXid> must_see)
      : table_(std::move(table)),
        directory_(std::move(directory)),
        must_see_(std::move(must_see)) {}

  enum class State { kUnread, kReading, kRead, kJoined };
  State state() const { return state_; }
  // Counts the snapshots that were begun: what was read in an earlier one is of no use.
  int attempt() const { return attempt_; }

  // Takes out of `changes` what the snapshot shows, and stages what it does not show, unless
  // `is_only_look`: in the first of two passes. See KeyedSnapshot::Filter().
  Status Filter(std::span<const FullXid> xids, const XidSnapshot& newest, bool is_only_look,
                TableChanges& changes);

  // The table is about to be read in `snapshot`. False if that does not see all that it must.
  Result<bool> Begin(std::shared_ptr<const XidSnapshot> snapshot, Lsn join_from,
                     TimestampMicros taken_at);
  Status AddRows(RowBatch rows);
  // All rows were added.
  void Finish();
  // What was read is of no use: it is unread again.
  void GiveUp();

  bool HasRowsFor(Lsn at) const { return state_ == State::kRead && join_from_ <= at; }
  uint64_t change_count() const { return rows_->change_count() + changes_->change_count(); }
  uint64_t byte_size() const { return rows_->byte_size() + changes_->byte_size(); }
  TimestampMicros taken_at() const { return taken_at_; }

  // Hands the changes over from the first on. REQUIRES: kRead.
  void Rewind();
  bool AtEnd() const { return rows_->AtEnd() && changes_->AtEnd(); }
  Result<TableChanges> Next();
  // All has joined.
  void Finished() { Close(State::kJoined); }

  void MustSee(FullXid xid) { must_see_.insert(xid); }
  void Forget(const XidSnapshot& newest);
  const std::set<FullXid>& must_see() const { return must_see_; }
  bool has_changed() const { return has_changed_; }
  void set_saved() { has_changed_ = false; }

 private:
  void Close(State state);

  const TablePtr table_;
  const std::string directory_;
  State state_ = State::kUnread;
  int attempt_ = 0;
  std::set<FullXid> must_see_;
  bool has_changed_ = false;

  // Of the snapshot.
  std::shared_ptr<const XidSnapshot> snapshot_;
  Lsn join_from_;
  TimestampMicros taken_at_ = 0;
  std::unique_ptr<ChangeFile> rows_;
  std::unique_ptr<ChangeFile> changes_;
};

}  // namespace millrace::sources::postgres
