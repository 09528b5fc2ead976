// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/identity_map.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "millrace/storage/row_codec.h"

namespace millrace::pipeline {

namespace {

using Pass = TransactionPart::Pass;

// In front of the rows of a change that has no old image, or needs none.
constexpr uint32_t kNone = UINT32_MAX;

}  // namespace

// What one BeginBatch() works on.
struct IdentityMap::Run {
  explicit Run(const SchemaPtr& key_columns) : new_keys(key_columns), old_keys(key_columns) {}

  RowBatch new_keys;  // the primary key of each new row, in the order of new_rows
  RowBatch old_keys;
  // For each change, the row of old_keys that its old image needs, or kNone.
  std::vector<uint32_t> old_key_of;
  size_t next_gap = 0;       // into changes.unchanged_toast
  std::set<uint32_t> gappy;  // columns of the primary key that lacked values
};

Result<std::unique_ptr<IdentityMap>> IdentityMap::Make(const TablePtr& table, bool is_lookup,
                                                       storage::Store& store) {
  MR_CHECK(table->OldImagesLackKey());
  // The registry of streams keeps the versions of the columns: another index is another version.
  Stream columns;
  columns.name = "identity/" + table->FullName();
  columns.append_only = true;
  Schema schema;
  for (const auto* part : {&table->identity_index, &table->primary_key}) {
    for (const uint32_t column : *part) {
      // By its place, which it keeps when it is renamed.
      schema.push_back({fmt::format("#{}", column), (*table->columns)[column].type});
    }
  }
  columns.columns = std::make_shared<const Schema>(std::move(schema));
  MR_ASSIGN_OR_RETURN(const StreamPtr registered, store.OpenStream(columns));
  MR_ASSIGN_OR_RETURN(const storage::StateTableId id, store.OpenStateTable(columns.name));
  return std::unique_ptr<IdentityMap>(
      new IdentityMap(table, is_lookup, store, id, registered->schema_version));
}

IdentityMap::IdentityMap(TablePtr table, bool is_lookup, storage::Store& store,
                         storage::StateTableId id, SchemaVersion version)
    : table_(std::move(table)),
      is_lookup_(is_lookup),
      store_(store),
      id_(id),
      version_(version),
      key_columns_([this] {
        Schema schema;
        for (const uint32_t column : table_->primary_key) {
          schema.push_back((*table_->columns)[column]);
        }
        return std::make_shared<const Schema>(std::move(schema));
      }()),
      map_(id) {}

std::string IdentityMap::IdentityOf(const RowBatch& rows, uint32_t row) const {
  std::string identity;
  storage::EncodeKey(rows, row, table_->identity_index, identity);
  return identity;
}

Status IdentityMap::BeginBatch(TableChanges* changes, std::optional<Pass> pass) {
  MR_CHECK(newest_.empty() && !is_cleared_);
  map_ = is_lookup_ && pass == Pass::kChanges ? storage::ReplayOf(id_) : id_;
  if (changes == nullptr) {
    return Status::Ok();
  }
  MR_RETURN_IF_ERROR(FetchStored(*changes));
  Run run(key_columns_);
  for (const Change& change : changes->changes) {
    MR_RETURN_IF_ERROR(Follow(change, *changes, run));
  }
  Complete(*changes, run);
  return Status::Ok();
}

// Reads in one go the keys of all rows that the batch updates or deletes.
Status IdentityMap::FetchStored(const TableChanges& changes) {
  std::vector<std::string> wanted;
  for (const Change& change : changes.changes) {
    if (change.op != ChangeOp::kUpdate && change.op != ChangeOp::kDelete) {
      continue;
    }
    std::string identity = change.old_row != kNoRow ? IdentityOf(changes.old_rows, change.old_row)
                                                    : IdentityOf(changes.new_rows, change.new_row);
    if (newest_.emplace(identity, std::nullopt).second) {
      wanted.push_back(std::move(identity));
    }
  }
  MR_ASSIGN_OR_RETURN(auto stored, store_.GetState(map_, wanted));
  for (size_t i = 0; i < wanted.size(); ++i) {
    newest_[wanted[i]] = std::move(stored[i]);
  }
  return Status::Ok();
}

Status IdentityMap::Follow(const Change& change, const TableChanges& changes, Run& run) {
  uint32_t old_key = kNone;
  std::string old_identity;
  if (change.op == ChangeOp::kTruncate) {
    for (auto& [identity, key] : newest_) {
      key.reset();
    }
    is_cleared_ = true;
  } else if (change.op == ChangeOp::kUpdate || change.op == ChangeOp::kDelete) {
    old_identity = change.old_row != kNoRow ? IdentityOf(changes.old_rows, change.old_row)
                                            : IdentityOf(changes.new_rows, change.new_row);
    old_key = static_cast<uint32_t>(run.old_keys.row_count());
    MR_RETURN_IF_ERROR(FindKey(old_identity, run));
    newest_[old_identity].reset();
  }
  if (change.new_row == kNoRow) {
    run.old_key_of.push_back(old_key);
    return Status::Ok();
  }

  MR_CHECK(change.new_row == run.new_keys.row_count());
  const std::vector<UnchangedToast>& gaps = changes.unchanged_toast;
  for (; run.next_gap < gaps.size() && gaps[run.next_gap].new_row < change.new_row;) {
    ++run.next_gap;
  }
  for (size_t i = 0; i < table_->primary_key.size(); ++i) {
    const uint32_t column = table_->primary_key[i];
    bool is_gap = false;
    for (size_t g = run.next_gap; g < gaps.size() && gaps[g].new_row == change.new_row; ++g) {
      is_gap |= gaps[g].column == column;
    }
    if (is_gap && old_key != kNone) {
      run.new_keys.column(i).AppendFrom(run.old_keys.column(i), old_key);
      run.gappy.insert(column);
    } else {
      run.new_keys.column(i).AppendFrom(changes.new_rows.column(column), change.new_row);
    }
  }
  std::string key;
  storage::EncodeRow(run.new_keys, change.new_row, version_, key);
  if (old_key != kNone && change.old_row == kNoRow) {
    std::string old;
    storage::EncodeRow(run.old_keys, old_key, version_, old);
    if (old == key) {
      old_key = kNone;  // the primary key did not change: no old image is needed
    }
  }
  newest_.insert_or_assign(IdentityOf(changes.new_rows, change.new_row), std::move(key));
  run.old_key_of.push_back(old_key);
  return Status::Ok();
}

// Appends the primary key of the row that has these index columns to the old keys.
Status IdentityMap::FindKey(const std::string& identity, Run& run) {
  const std::optional<std::string>& key = newest_.find(identity)->second;
  if (!key) {
    return FailedPrecondition(fmt::format(
        "table {}: an update or delete names its row by the columns of the replica identity index, "
        "and no row of these was seen here: read the table again with a first snapshot "
        "(source.snapshot.mode: initial, in a new data_dir), or set REPLICA IDENTITY DEFAULT on it",
        table_->FullName()));
  }
  MR_ASSIGN_OR_RETURN(const SchemaVersion version, storage::DecodeRowVersion(*key));
  if (version != version_) {
    return FailedPrecondition(fmt::format(
        "table {} has another replica identity index or primary key than when its rows were read: "
        "set the earlier REPLICA IDENTITY, or read the table again in a new data_dir",
        table_->FullName()));
  }
  return storage::DecodeRow(*key, run.old_keys)
      .WithContext(fmt::format("replica identity of table {}", table_->FullName()));
}

void IdentityMap::Complete(TableChanges& changes, Run& run) const {
  for (const uint32_t column : run.gappy) {
    const auto at = std::find(table_->primary_key.begin(), table_->primary_key.end(), column);
    changes.new_rows.column(column) =
        std::move(run.new_keys.column(static_cast<size_t>(at - table_->primary_key.begin())));
  }
  std::erase_if(changes.unchanged_toast,
                [&](const UnchangedToast& gap) { return run.gappy.contains(gap.column); });

  // Columns grow at their end only, so the old images are written anew.
  RowBatch completed(table_->columns);
  for (size_t i = 0; i < changes.changes.size(); ++i) {
    Change& change = changes.changes[i];
    if (run.old_key_of[i] == kNone) {
      continue;
    }
    const auto row = static_cast<uint32_t>(completed.row_count());
    for (uint32_t column = 0; column < completed.column_count(); ++column) {
      Column& to = completed.column(column);
      const auto at = std::find(table_->primary_key.begin(), table_->primary_key.end(), column);
      if (at != table_->primary_key.end()) {
        to.AppendFrom(run.old_keys.column(static_cast<size_t>(at - table_->primary_key.begin())),
                      run.old_key_of[i]);
      } else if (change.old_row != kNoRow) {
        to.AppendFrom(changes.old_rows.column(column), change.old_row);
      } else {
        to.AppendNull();
      }
    }
    change.old_row = row;
  }
  changes.old_rows = std::move(completed);
}

void IdentityMap::Save(storage::StoreBatch& batch) const {
  if (is_cleared_) {
    batch.ClearState(map_);
  }
  for (const auto& [identity, key] : newest_) {
    if (key) {
      batch.PutState(map_, identity, *key);
    } else if (!is_cleared_) {
      batch.DeleteState(map_, identity);
    }
  }
}

void IdentityMap::EndBatch() {
  newest_.clear();
  is_cleared_ = false;
}

}  // namespace millrace::pipeline
