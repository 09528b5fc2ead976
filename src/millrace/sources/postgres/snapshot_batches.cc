// SPDX-License-Identifier: Apache-2.0
// The batches of a SnapshotCoordinator: what is taken out of the stream, and what joins it.
#include <algorithm>
#include <utility>

#include "millrace/common/failpoint.h"
#include "millrace/sources/postgres/snapshot_coordinator.h"

namespace millrace::sources::postgres {
namespace {

// Moves what `from` has behind what `to` has.
void AppendChanges(TableChanges from, TableChanges& to) {
  const auto new_base = static_cast<uint32_t>(to.new_rows.row_count());
  const auto old_base = static_cast<uint32_t>(to.old_rows.row_count());
  if (to.changes.empty() && new_base == 0 && old_base == 0) {
    to = std::move(from);
    return;
  }
  to.new_rows.AppendRange(from.new_rows, 0, from.new_rows.row_count());
  to.old_rows.AppendRange(from.old_rows, 0, from.old_rows.row_count());
  for (Change change : from.changes) {
    change.new_row += change.new_row == kNoRow ? 0 : new_base;
    change.old_row += change.old_row == kNoRow ? 0 : old_base;
    to.changes.push_back(change);
  }
  for (const UnchangedToast& toast : from.unchanged_toast) {
    to.unchanged_toast.push_back({toast.new_row + new_base, toast.column});
  }
}

TableChanges& ChangesOf(const TablePtr& table, ChangeBatch& batch) {
  for (TableChanges& changes : batch.tables) {
    if (changes.table->oid == table->oid) {
      return changes;
    }
  }
  return batch.tables.emplace_back(table);
}

}  // namespace

// --------------------------------------------------------------------------------- the batches

bool SnapshotCoordinator::HasRowsFor(Lsn at) const {
  return !part_pass_.has_value() &&
         std::any_of(tables_.begin(), tables_.end(), [&](const TableEntry& entry) {
           return entry.keyed != nullptr ? entry.NeedsBegin() || entry.keyed->HasRowsFor(at)
                                         : entry.staged->HasRowsFor(at);
         });
}

bool SnapshotCoordinator::IsReading(const std::string& full_name) const {
  return std::any_of(tables_.begin(), tables_.end(), [&](const TableEntry& entry) {
    return entry.source.table->FullName() == full_name;
  });
}

Status SnapshotCoordinator::Finish(ChangeBatch& batch, bool joins) {
  if (!is_active()) {
    return Status::Ok();
  }
  MR_RETURN_IF_ERROR(Filter(batch));
  if (part_pass_.has_value()) {
    return Status::Ok();
  }
  if (joins && !batch.part.has_value()) {
    Join(batch);
    MR_RETURN_IF_ERROR(JoinStaged(batch));
  }
  AddNotes(batch);
  DropCompleteTables();
  return Status::Ok();
}

Status SnapshotCoordinator::Filter(ChangeBatch& batch) {
  if (batch.part.has_value()) {
    for (TableEntry& entry : tables_) {
      if (entry.keyed != nullptr && batch.part->is_first) {
        entry.keyed->Remember();
      } else if (entry.keyed != nullptr && part_pass_ != batch.part->pass) {
        entry.keyed->Recall();
      }
    }
    part_pass_ = batch.part->pass;
  }
  std::vector<FullXid> xids;
  for (const Transaction& transaction : batch.transactions) {
    xids.push_back(newest_.Widen(transaction.xid));
  }
  for (TableChanges& changes : batch.tables) {
    TableEntry* entry = Find(changes.table->oid);
    if (entry == nullptr) {
      continue;
    }
    const size_t before = changes.changes.size();
    if (entry->keyed != nullptr) {
      entry->keyed->Filter(xids, newest_, changes);
    } else {
      MR_RETURN_IF_ERROR(entry->staged->Filter(
          xids, newest_, part_pass_ == TransactionPart::Pass::kLookups, changes));
    }
    batch.row_count -= before - changes.changes.size();
  }
  std::erase_if(batch.tables, [](const TableChanges& changes) { return changes.changes.empty(); });
  if (batch.part.has_value() && batch.part->is_last) {
    part_pass_.reset();
  }
  return Status::Ok();
}

void SnapshotCoordinator::AddMark(ChangeOp op, uint32_t transaction, uint64_t& ordinal,
                                  TableChanges& to) {
  to.changes.push_back({.ordinal = ordinal++, .transaction = transaction, .op = op});
}

void SnapshotCoordinator::Join(ChangeBatch& batch) {
  const Lsn at = batch.end.end_lsn;
  for (TableEntry& entry : tables_) {
    if (entry.keyed == nullptr) {
      continue;
    }
    if (entry.NeedsBegin()) {
      // Whatever shows a row of it from here on counts, before its first chunk joins too.
      entry.progress.has_begun = true;
      entry.is_new = true;
      TableChanges& changes = ChangesOf(entry.source.table, batch);
      AddMark(ChangeOp::kReadAgainBegin, static_cast<uint32_t>(batch.transactions.size()),
              ordinals_.At(at), changes);
      ordinals_changed_ = true;
      ++batch.row_count;
      batch.transactions.push_back({.end_lsn = at, .commit_ts = newest_taken_at_, .xid = Xid(0)});
    }
    while (entry.keyed->HasRowsFor(at) && batch.row_count < config_.batch_rows_max &&
           batch.byte_size < config_.batch_bytes_max) {
      MR_FAILPOINT("source.before_chunk_joins");
      TableChanges& changes = ChangesOf(entry.source.table, batch);
      const auto index = static_cast<uint32_t>(batch.transactions.size());
      uint64_t& ordinal = ordinals_.At(at);
      const size_t changes_before = changes.changes.size();
      const size_t waiting_before = entry.keyed->waiting_bytes();
      TimestampMicros taken_at = 0;
      const size_t joined = entry.keyed->JoinRows(at, index, ordinal, taken_at, changes);
      if (entry.progress.is_again && entry.keyed->is_complete()) {
        AddMark(ChangeOp::kReadAgainEnd, index, ordinal, changes);
      }
      entry.progress.rows += joined;
      rows_joined_ += joined;
      ordinals_changed_ = true;
      batch.byte_size += waiting_before - entry.keyed->waiting_bytes();
      if (changes.changes.size() == changes_before) {
        if (changes.changes.empty()) {
          batch.tables.pop_back();
        }
        continue;
      }
      batch.row_count += changes.changes.size() - changes_before;
      batch.transactions.push_back({.end_lsn = at, .commit_ts = taken_at, .xid = Xid(0)});
    }
  }
}

// One that fits joins in this batch, a larger one in parts behind it.
Status SnapshotCoordinator::JoinStaged(ChangeBatch& batch) {
  const Lsn at = batch.end.end_lsn;
  for (TableEntry& entry : tables_) {
    if (entry.staged == nullptr || !entry.staged->HasRowsFor(at)) {
      continue;
    }
    MR_FAILPOINT("source.before_chunk_joins");
    StagedSnapshot& staged = *entry.staged;
    const Transaction transaction{.end_lsn = at, .commit_ts = staged.taken_at(), .xid = Xid(0)};
    uint64_t& ordinal = ordinals_.At(at);
    ordinals_changed_ = true;
    staged.Rewind();
    const bool fits = staged.change_count() <= config_.batch_rows_max &&
                      staged.byte_size() <= config_.batch_bytes_max;
    if (!fits) {
      emission_ = {.oid = entry.source.table->oid,
                   .transaction = transaction,
                   .position = batch.end,
                   .pass = entry.is_lookup ? TransactionPart::Pass::kLookups
                                           : TransactionPart::Pass::kChanges,
                   .first_ordinal = ordinal};
      return Status::Ok();
    }
    TableChanges& changes = ChangesOf(entry.source.table, batch);
    const auto index = static_cast<uint32_t>(batch.transactions.size());
    const size_t changes_before = changes.changes.size();
    if (entry.progress.is_again) {
      AddMark(ChangeOp::kReadAgainBegin, index, ordinal, changes);
    }
    while (!staged.AtEnd()) {
      MR_ASSIGN_OR_RETURN(TableChanges next, staged.Next());
      for (Change& change : next.changes) {
        change.transaction = index;
        change.ordinal = ordinal++;
      }
      AppendChanges(std::move(next), changes);
    }
    if (entry.progress.is_again) {
      AddMark(ChangeOp::kReadAgainEnd, index, ordinal, changes);
    }
    batch.transactions.push_back(transaction);
    batch.row_count += changes.changes.size() - changes_before;
    batch.byte_size += staged.byte_size();
    entry.progress.rows += staged.change_count();
    rows_joined_ += staged.change_count();
    staged.Finished();
    if (changes.changes.empty()) {
      batch.tables.pop_back();
    }
  }
  return Status::Ok();
}

Result<std::unique_ptr<ChangeBatch>> SnapshotCoordinator::NextPart() {
  using Pass = TransactionPart::Pass;
  Emission& emission = *emission_;
  TableEntry& entry = *Find(emission.oid);
  StagedSnapshot& staged = *entry.staged;
  auto batch = std::make_unique<ChangeBatch>();
  batch->end = emission.position;
  batch->transactions.push_back(emission.transaction);
  TableChanges changes(entry.source.table);
  uint64_t& ordinal = ordinals_.At(emission.position.end_lsn);
  if (entry.progress.is_again && ordinal == emission.first_ordinal) {
    AddMark(ChangeOp::kReadAgainBegin, 0, ordinal, changes);
  }
  while (!staged.AtEnd() && changes.changes.size() < config_.batch_rows_max &&
         changes.new_rows.byte_size() + changes.old_rows.byte_size() < config_.batch_bytes_max) {
    MR_ASSIGN_OR_RETURN(TableChanges next, staged.Next());
    for (Change& change : next.changes) {
      change.ordinal = ordinal++;
    }
    AppendChanges(std::move(next), changes);
  }
  const bool pass_ends = staged.AtEnd();
  if (pass_ends && entry.progress.is_again) {
    AddMark(ChangeOp::kReadAgainEnd, 0, ordinal, changes);
  }
  batch->row_count = changes.changes.size();
  batch->byte_size = changes.new_rows.byte_size() + changes.old_rows.byte_size();
  batch->tables.push_back(std::move(changes));
  const bool is_last = pass_ends && emission.pass == Pass::kChanges;
  batch->part = {.pass = emission.pass,
                 .is_first = std::exchange(emission.is_first, false),
                 .is_last = is_last};
  if (pass_ends && !is_last) {
    emission.pass = Pass::kChanges;
    ordinal = emission.first_ordinal;
    staged.Rewind();
  }
  if (is_last) {
    entry.progress.rows += staged.change_count();
    rows_joined_ += staged.change_count();
    staged.Finished();
    emission_.reset();
    AddNotes(*batch);
    DropCompleteTables();
  }
  return batch;
}

void SnapshotCoordinator::AddNotes(ChangeBatch& batch) {
  for (TableEntry& entry : tables_) {
    const bool has_changed =
        entry.keyed != nullptr ? entry.keyed->has_changed() : entry.staged->has_changed();
    if (!has_changed && !entry.is_new) {
      continue;
    }
    entry.is_new = false;
    entry.progress.is_done = entry.is_complete();
    if (entry.keyed != nullptr) {
      entry.progress.ledger = entry.keyed->ledger();
      entry.keyed->set_saved();
    } else {
      entry.progress.ledger = ChunkLedger();
      for (const FullXid xid : entry.must_see()) {
        entry.progress.ledger.MustSee(xid);
      }
      entry.staged->set_saved();
    }
    if (entry.progress.is_done) {
      entry.progress.is_again = entry.progress.keeps_changes = entry.progress.has_begun = false;
    }
    batch.notes.push_back({ProgressNoteName(*entry.source.table), EncodeProgress(entry.progress)});
  }
  if (std::exchange(ordinals_changed_, false)) {
    batch.notes.push_back({std::string(kOrdinalsNoteName), EncodeOrdinals(ordinals_)});
  }
}

void SnapshotCoordinator::DropCompleteTables() {
  for (const TableEntry& entry : tables_) {
    TableReading& reading = ReadingOf(entry);
    reading.rows = entry.progress.rows;
    const bool has_begun = entry.chunks != 0 || entry.progress.rows != 0;
    reading.state = entry.is_complete() ? TableReading::State::kDone
                    : has_begun         ? TableReading::State::kReading
                                        : TableReading::State::kWaiting;
  }
  std::erase_if(tables_, [&](const TableEntry& entry) {
    if (!entry.is_complete()) {
      return false;
    }
    log_.Info("Table is complete",
              {{"table", entry.source.table->FullName()}, {"rows", entry.progress.rows}});
    return true;
  });
  if (tables_.empty()) {
    readers_.clear();
    connection_.reset();
    log_.Info("All tables are complete");
  }
}

std::vector<TableReading> SnapshotCoordinator::GetReadings() const { return readings_; }

}  // namespace millrace::sources::postgres
