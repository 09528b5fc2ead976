// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/staged_snapshot.h"

#include <algorithm>

#include "millrace/common/check.h"
#include "millrace/sources/postgres/change_filter.h"

namespace millrace::sources::postgres {

Status StagedSnapshot::Filter(std::span<const FullXid> xids, const XidSnapshot& newest,
                              bool is_only_look, TableChanges& changes) {
  if (state_ == State::kJoined) {
    return Status::Ok();
  }
  std::vector<Kept> kept(changes.changes.size(), Kept::kNothing);
  std::vector<Kept> staged(changes.changes.size(), Kept::kNothing);
  bool stages = false;
  for (size_t i = 0; i < changes.changes.size(); ++i) {
    const Change& change = changes.changes[i];
    const FullXid xid = xids[change.transaction];
    if (change.op == ChangeOp::kTruncate) {
      // What waits is gone; what follows is read anew.
      std::fill(staged.begin(), staged.end(), Kept::kNothing);
      stages = false;
      GiveUp();
      kept[i] = Kept::kAll;
    } else if (state_ != State::kUnread) {
      if (!snapshot_->Sees(xid)) {
        staged[i] = Kept::kAll;
        stages = true;
      }
    }
    // Whatever is not handed on here, a later snapshot has to show.
    if (!newest.Sees(xid)) {
      must_see_.insert(xid);
      has_changed_ = true;
    }
  }
  if (stages && !is_only_look) {
    MR_RETURN_IF_ERROR(changes_->Append(SelectChanges(changes, staged, {})));
  }
  changes = SelectChanges(changes, kept, {});
  return Status::Ok();
}

Result<bool> StagedSnapshot::Begin(std::shared_ptr<const XidSnapshot> snapshot, Lsn join_from,
                                   TimestampMicros taken_at) {
  MR_CHECK(state_ == State::kUnread);
  Forget(*snapshot);
  if (!must_see_.empty()) {
    return false;
  }
  MR_ASSIGN_OR_RETURN(rows_, ChangeFile::Make(directory_, table_));
  MR_ASSIGN_OR_RETURN(changes_, ChangeFile::Make(directory_, table_));
  snapshot_ = std::move(snapshot);
  join_from_ = join_from;
  taken_at_ = taken_at;
  state_ = State::kReading;
  ++attempt_;
  return true;
}

Status StagedSnapshot::AddRows(RowBatch rows) {
  if (state_ != State::kReading) {
    return Status::Ok();  // given up meanwhile
  }
  TableChanges changes(table_);
  changes.new_rows = std::move(rows);
  for (uint32_t row = 0; row < changes.new_rows.row_count(); ++row) {
    changes.changes.push_back(
        {.ordinal = 0, .transaction = 0, .new_row = row, .old_row = kNoRow, .op = ChangeOp::kRead});
  }
  return rows_->Append(changes);
}

void StagedSnapshot::Finish() {
  if (state_ == State::kReading) {
    state_ = State::kRead;
  }
}

void StagedSnapshot::GiveUp() { Close(State::kUnread); }

void StagedSnapshot::Close(State state) {
  state_ = state;
  snapshot_.reset();
  rows_.reset();
  changes_.reset();
  has_changed_ = true;
}

void StagedSnapshot::Rewind() {
  rows_->Rewind();
  changes_->Rewind();
}

Result<TableChanges> StagedSnapshot::Next() {
  return rows_->AtEnd() ? changes_->Next() : rows_->Next();
}

void StagedSnapshot::Forget(const XidSnapshot& newest) {
  std::erase_if(must_see_, [&](FullXid xid) { return newest.Sees(xid); });
}

}  // namespace millrace::sources::postgres
