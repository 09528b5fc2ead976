// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/table_state.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "millrace/model/evolution.h"
#include "millrace/storage/row_codec.h"

namespace millrace::pipeline {

namespace {

// PostgreSQL moves values out of line in rows above about 2 kB (TOAST_TUPLE_THRESHOLD in
// src/include/access/heaptoast.h). A margin is taken because the sizes here are estimates.
constexpr size_t kWideRowBytes = 1800;

// The most that a stored value may be larger than its text: numbers in jsonb and elements of arrays
// take up to 8 bytes and more for a digit.
constexpr size_t kStructuredGrowth = 10;

std::string KeyOf(const RowBatch& rows, uint32_t row, const std::vector<uint32_t>& columns) {
  std::string key;
  storage::EncodeKey(rows, row, columns, key);
  return key;
}

// The registry of streams keeps the versions of the table's columns too.
Result<StreamPtr> RegisterColumns(const Table& table, storage::Store& store) {
  Stream columns;
  columns.name = "table/" + table.FullName();
  columns.columns = table.columns;
  columns.append_only = true;
  columns.table = table.FullName();
  columns.fill = table.fill;
  return store.OpenStream(columns);
}

}  // namespace

Result<std::unique_ptr<TableState>> TableState::Make(TablePtr table, Keep keep,
                                                     storage::Store& store, size_t cache_bytes) {
  MR_ASSIGN_OR_RETURN(StreamPtr columns, RegisterColumns(*table, store));
  MR_ASSIGN_OR_RETURN(const storage::StateTableId id, store.OpenStateTable(columns->name));
  MR_ASSIGN_OR_RETURN(SeenKeys seen, SeenKeys::Make(columns->name, store));
  return std::unique_ptr<TableState>(new TableState(
      std::move(table), keep, store, id, std::move(columns), cache_bytes, std::move(seen)));
}

TableState::TableState(TablePtr table, Keep keep, storage::Store& store, storage::StateTableId id,
                       StreamPtr columns, size_t cache_bytes, std::optional<SeenKeys> seen)
    : table_(std::move(table)),
      columns_(std::move(columns)),
      keep_(keep),
      store_(store),
      id_(id),
      cache_bytes_(cache_bytes),
      seen_(std::move(seen)),
      cached_rows_(table_->columns) {
  MR_CHECK(!table_->primary_key.empty());
}

Status TableState::Follow(TablePtr newer) {
  MR_CHECK(changes_ == nullptr);
  MR_ASSIGN_OR_RETURN(columns_, RegisterColumns(*newer, store_));
  table_ = std::move(newer);
  replay_.reset();
  ForgetRows();
  return Status::Ok();
}

Status TableState::BeginBatch(TableChanges* changes) {
  MR_CHECK(changes_ == nullptr && versions_.empty());
  if (cached_rows_.byte_size() + cache_index_bytes_ > cache_bytes_) {
    ForgetRows();
  }
  changes_ = changes;
  if (changes_ == nullptr) {
    return Status::Ok();
  }
  if (seen_) {
    MR_RETURN_IF_ERROR(seen_->Load());
  }
  for (const Change& change : changes_->changes) {
    MR_RETURN_IF_ERROR(AddChange(change));
  }
  return FillUnchangedToast();
}

Status TableState::AddChange(const Change& change) {
  const std::vector<uint32_t>& key_columns = table_->primary_key;
  switch (change.op) {
    case ChangeOp::kTruncate:
      Truncate(change.transaction);
      break;
    case ChangeOp::kReadAgainBegin:
      if (seen_) {
        seen_->Begin();
      }
      break;
    case ChangeOp::kReadAgainEnd:
      return EndReadAgain(change.transaction);
    case ChangeOp::kDelete:
      AddVersion(KeyOf(changes_->old_rows, change.old_row, key_columns),
                 {change.transaction, kNoRow});
      break;
    case ChangeOp::kInsert:
    case ChangeOp::kUpdate:
    case ChangeOp::kRead: {
      if (keep_ == Keep::kWideRows && change.old_row == kNoRow &&
          !MayHoldOutOfLineValues(changes_->new_rows, change.new_row)) {
        // A narrow row needs no state. One that is left from when the row was wide does no harm: a
        // row that grows wide again is sent whole. What this one leaves out is in the state there
        // is.
        if (seen_ && seen_->is_active() && HasGap(change.new_row)) {
          seen_->Show(KeyOf(changes_->new_rows, change.new_row, key_columns));
        }
        break;
      }
      const std::string key = KeyOf(changes_->new_rows, change.new_row, key_columns);
      if (change.old_row != kNoRow) {
        const std::string old_key = KeyOf(changes_->old_rows, change.old_row, key_columns);
        if (old_key != key) {
          AddVersion(old_key, {change.transaction, kNoRow});
        }
      }
      AddVersion(key, {change.transaction, change.new_row});
      if (seen_ && seen_->is_active()) {
        seen_->Show(key);
      }
      break;
    }
  }
  return Status::Ok();
}

// The row lacks a value that did not change.
bool TableState::HasGap(uint32_t new_row) const {
  const std::vector<UnchangedToast>& gaps = changes_->unchanged_toast;
  const auto found =
      std::lower_bound(gaps.begin(), gaps.end(), new_row,
                       [](const UnchangedToast& gap, uint32_t row) { return gap.new_row < row; });
  return found != gaps.end() && found->new_row == new_row;
}

void TableState::AddVersion(std::string_view key, Version version) {
  auto found = versions_.find(key);
  if (found == versions_.end()) {
    found = versions_.emplace(std::string(key), std::vector<Version>()).first;
  }
  std::vector<Version>& versions = found->second;
  if (!versions.empty() && versions.back().transaction == version.transaction) {
    // Only what a transaction leaves behind can be seen.
    versions.back() = version;
  } else {
    versions.push_back(version);
  }
}

void TableState::Truncate(uint32_t transaction) {
  for (const auto& [key, versions] : versions_) {
    AddVersion(key, {transaction, kNoRow});
  }
  gone_at_ = gone_at_.value_or(transaction);
}

Status TableState::EndReadAgain(uint32_t transaction) {
  if (!seen_ || !seen_->is_active()) {
    return Status::Ok();
  }
  std::vector<std::string> alive;
  for (const auto& [key, versions] : versions_) {
    if (versions.back().new_row != kNoRow) {
      alive.push_back(key);
    }
  }
  MR_ASSIGN_OR_RETURN(const std::vector<bool> seen, seen_->AreSeen(alive));
  for (size_t i = 0; i < alive.size(); ++i) {
    if (!seen[i]) {
      AddVersion(alive[i], {transaction, kNoRow});
    }
  }
  // What this batch has not changed was seen before it, or not at all.
  if (seen_->has_begun()) {
    gone_at_ = gone_at_.value_or(transaction);
  } else {
    swept_at_ = swept_at_.value_or(transaction);
  }
  seen_->End();
  return Status::Ok();
}

int TableState::VersionAt(std::string_view key, uint32_t transaction) const {
  if (const auto found = versions_.find(key); found != versions_.end()) {
    const std::vector<Version>& versions = found->second;
    const auto behind = std::upper_bound(
        versions.begin(), versions.end(), transaction,
        [](uint32_t tx, const Version& version) { return tx < version.transaction; });
    if (behind != versions.begin()) {
      return static_cast<int>(behind - versions.begin()) - 1;
    }
  }
  if (gone_at_ && *gone_at_ <= transaction) {
    return kGone;
  }
  return swept_at_ && *swept_at_ <= transaction ? kIfSeen : kAsStored;
}

Status TableState::Fetch(std::span<const std::string> keys) {
  if (swept_at_) {
    MR_ASSIGN_OR_RETURN(const std::vector<bool> seen, seen_->WereSeen(keys));
    for (size_t i = 0; i < keys.size(); ++i) {
      if (!seen[i]) {
        unseen_.insert(keys[i]);
      }
    }
  }
  std::vector<std::string> missing;
  for (const std::string& key : keys) {
    if (!cache_index_.contains(key)) {
      missing.push_back(key);
    }
  }
  if (missing.empty()) {
    return Status::Ok();
  }
  MR_ASSIGN_OR_RETURN(const auto rows, store_.GetState(id_, missing));
  for (size_t i = 0; i < missing.size(); ++i) {
    MR_RETURN_IF_ERROR(CacheRow(missing[i], rows[i]));
  }
  return Status::Ok();
}

Status TableState::CacheRow(std::string_view key, std::optional<std::string_view> bytes) {
  uint32_t row = kAbsent;
  if (bytes) {
    MR_ASSIGN_OR_RETURN(const SchemaVersion version, storage::DecodeRowVersion(*bytes));
    row = static_cast<uint32_t>(cached_rows_.row_count());
    const Status decoded = version == columns_->schema_version
                               ? storage::DecodeRow(*bytes, cached_rows_)
                               : CacheEarlierRow(version, *bytes);
    MR_RETURN_IF_ERROR(decoded.WithContext(fmt::format("state of table {}", table_->FullName())));
  }
  cache_index_bytes_ += key.size() + 64;
  cache_index_.insert_or_assign(std::string(key), row);
  return Status::Ok();
}

Status TableState::CacheEarlierRow(SchemaVersion version, std::string_view bytes) {
  const StreamPtr earlier = store_.FindStream(columns_->id, version);
  if (earlier == nullptr) {
    return Corruption("a row is of a version of the columns that is not known");
  }
  RowBatch row(earlier->columns);
  MR_RETURN_IF_ERROR(storage::DecodeRow(bytes, row));
  AppendEarlierRows(row, 0, 1, columns_->fill.get(), cached_rows_);
  return Status::Ok();
}

RowRef TableState::Row(std::string_view key, int version) const {
  if (version == kGone || (version == kIfSeen && unseen_.contains(std::string(key)))) {
    return {};
  }
  if (version >= 0) {
    const uint32_t row = versions_.find(key)->second[static_cast<size_t>(version)].new_row;
    return row == kNoRow ? RowRef{} : RowRef{&changes_->new_rows, row};
  }
  const auto found = cache_index_.find(key);
  MR_CHECK(found != cache_index_.end());
  return found->second == kAbsent ? RowRef{} : RowRef{&cached_rows_, found->second};
}

bool TableState::MayHoldOutOfLineValues(const RowBatch& rows, size_t row) const {
  size_t bytes = 0;
  for (size_t i = 0; i < rows.column_count(); ++i) {
    const Column& column = rows.column(i);
    const DataType& type = column.type();
    if (type.is_list()) {
      const auto [begin, end] = column.ListRange(row);
      bytes += 24 + (end - begin) * 16;
      if (type.element->is_varlen()) {
        for (size_t element = begin; element < end; ++element) {
          bytes += column.child().Text(element).size();
        }
      }
    } else if (type.is_varlen()) {
      const size_t size = column.Text(row).size();
      bytes += 8 + (type.kind == TypeKind::kJson ? size * kStructuredGrowth : size);
    } else {
      bytes += 16;
    }
  }
  return bytes > kWideRowBytes;
}

Status TableState::FillUnchangedToast() {
  if (changes_->unchanged_toast.empty()) {
    return Status::Ok();
  }
  MR_ASSIGN_OR_RETURN(const GapSources from, FindGapSources());
  FillGaps(from);
  changes_->unchanged_toast.clear();
  if (cached_rows_.byte_size() > cache_bytes_) {
    ForgetRows();  // large values are not held twice
  }
  return Status::Ok();
}

Result<TableState::GapSources> TableState::FindGapSources() {
  GapSources from;
  const std::vector<UnchangedToast>& gaps = changes_->unchanged_toast;
  std::vector<std::pair<uint32_t, std::string>> wanted;  // new_row with gaps, its old key
  StringMap<uint32_t> newest;                            // key to the last new_row so far
  size_t gap = 0;
  for (const Change& change : changes_->changes) {
    if (change.new_row == kNoRow) {
      continue;
    }
    const std::string key = KeyOf(changes_->new_rows, change.new_row, table_->primary_key);
    const std::string old_key =
        change.old_row == kNoRow ? key
                                 : KeyOf(changes_->old_rows, change.old_row, table_->primary_key);
    if (gap < gaps.size() && gaps[gap].new_row == change.new_row) {
      while (gap < gaps.size() && gaps[gap].new_row == change.new_row) {
        ++gap;
      }
      if (const auto found = newest.find(old_key); found != newest.end()) {
        from.earlier[change.new_row] = found->second;
      } else {
        wanted.emplace_back(change.new_row, old_key);
      }
    }
    newest.insert_or_assign(key, change.new_row);
  }

  std::vector<std::string> keys;
  keys.reserve(wanted.size());
  for (const auto& [row, key] : wanted) {
    keys.push_back(key);
  }
  MR_RETURN_IF_ERROR(Fetch(keys));
  for (const auto& [row, key] : wanted) {
    from.stored[row] = Row(key, kAsStored);
    if (!from.stored[row].exists()) {
      return FailedPrecondition(fmt::format(
          "table {}: an update left a large value out because it did not change, and the row was "
          "never seen here: read the table again with a first snapshot (source.snapshot.mode: "
          "initial, in a new data_dir), or set REPLICA IDENTITY FULL on it",
          table_->FullName()));
    }
  }
  return from;
}

void TableState::FillGaps(const GapSources& from) {
  // Columns grow at their end only, so those with gaps are written anew.
  for (size_t i = 0; i < changes_->new_rows.column_count(); ++i) {
    std::unordered_map<uint32_t, bool> gap_rows;
    for (const UnchangedToast& toast : changes_->unchanged_toast) {
      if (toast.column == i) {
        gap_rows[toast.new_row] = true;
      }
    }
    if (gap_rows.empty()) {
      continue;
    }
    const Column& old = changes_->new_rows.column(i);
    Column filled(old.type());
    for (uint32_t row = 0; row < old.size(); ++row) {
      if (!gap_rows.contains(row)) {
        filled.AppendFrom(old, row);
      } else if (const auto found = from.earlier.find(row); found != from.earlier.end()) {
        // The earlier row stands before this one: it is filled already. The copy keeps the source
        // alive while the column grows.
        Column value(old.type());
        value.AppendFrom(filled, found->second);
        filled.AppendFrom(value, 0);
      } else {
        const RowRef& stored = from.stored.at(row);
        filled.AppendFrom(stored.batch->column(i), stored.row);
      }
    }
    changes_->new_rows.column(i) = std::move(filled);
  }
}

Status TableState::Save(BatchWriter& writer) {
  if (gone_at_) {
    writer.state().ClearState(id_);
  } else if (swept_at_) {
    MR_RETURN_IF_ERROR(SaveSweep(writer));
  }
  storage::StoreBatch& batch = writer.state();
  std::string row;
  for (const auto& [key, versions] : versions_) {
    const Version& newest = versions.back();
    if (newest.new_row == kNoRow) {
      batch.DeleteState(id_, key);
    } else if (keep_ == Keep::kAllRows ||
               MayHoldOutOfLineValues(changes_->new_rows, newest.new_row)) {
      row.clear();
      storage::EncodeRow(changes_->new_rows, newest.new_row, columns_->schema_version, row);
      batch.PutState(id_, key, row);
    }
  }
  if (seen_ && changes_ != nullptr) {
    seen_->Save(batch);
  }
  return Status::Ok();
}

// Drops the stored rows that reading again has not shown, but for those that have a version.
Status TableState::SaveSweep(BatchWriter& writer) {
  SeenKeys::Scan seen(*seen_);
  const std::unique_ptr<storage::StateCursor> at = store_.ScanState(id_);
  for (; at->Valid(); at->Next()) {
    const std::string key(at->key());
    if (!seen.WasSeen(key) && !versions_.contains(key)) {
      writer.state().DeleteState(id_, key);
      MR_RETURN_IF_ERROR(writer.CutIfLarge());
    }
  }
  MR_RETURN_IF_ERROR(seen.status());
  return at->status();
}

void TableState::EndBatch() {
  if (gone_at_ || swept_at_) {
    ForgetRows();
  }
  for (const auto& [key, versions] : versions_) {
    const Version& newest = versions.back();
    const auto found = cache_index_.find(key);
    if (found == cache_index_.end()) {
      continue;  // not in demand; the next Fetch() reads it
    }
    if (newest.new_row == kNoRow) {
      found->second = kAbsent;
    } else if (keep_ == Keep::kWideRows || changes_->new_rows.byte_size() > cache_bytes_) {
      cache_index_.erase(found);
    } else {
      found->second = static_cast<uint32_t>(cached_rows_.row_count());
      cached_rows_.AppendRow(changes_->new_rows, newest.new_row);
    }
  }
  versions_.clear();
  gone_at_.reset();
  swept_at_.reset();
  unseen_.clear();
  changes_ = nullptr;
}

TableState& TableState::Replay() {
  if (replay_ == nullptr) {
    replay_.reset(new TableState(table_, Keep::kWideRows, store_, storage::ReplayOf(id_), columns_,
                                 /*cache_bytes=*/0, std::nullopt));
  }
  return *replay_;
}

void TableState::ForgetRows() {
  cached_rows_ = RowBatch(table_->columns);
  cache_index_.clear();
  cache_index_bytes_ = 0;
}

void TableState::ForgetStored() {
  ForgetRows();
  replay_.reset();
  if (seen_) {
    seen_->ForgetStored();
  }
}

}  // namespace millrace::pipeline
