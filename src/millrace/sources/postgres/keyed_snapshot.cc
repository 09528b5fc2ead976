// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/keyed_snapshot.h"

#include <algorithm>

#include <fmt/format.h>

#include "millrace/common/check.h"

namespace millrace::sources::postgres {
namespace {

bool HasGap(const TableChanges& changes, uint32_t new_row) {
  const auto found = std::lower_bound(
      changes.unchanged_toast.begin(), changes.unchanged_toast.end(), new_row,
      [](const UnchangedToast& toast, uint32_t row) { return toast.new_row < row; });
  return found != changes.unchanged_toast.end() && found->new_row == new_row;
}

}  // namespace

// -------------------------------------------------------------------------- changes of the stream

void KeyedSnapshot::Filter(std::span<const FullXid> xids, const XidSnapshot& newest,
                           TableChanges& changes) {
  if (is_complete()) {
    return;
  }
  std::vector<Kept> kept;
  kept.reserve(changes.changes.size());
  std::vector<KnownRow> known;
  for (const Change& change : changes.changes) {
    kept.push_back(FilterChange(change, xids[change.transaction], newest, changes, known));
  }
  const bool keeps_all = known.empty() && std::all_of(kept.begin(), kept.end(),
                                                      [](Kept k) { return k == Kept::kAll; });
  if (!keeps_all) {
    changes = SelectChanges(changes, kept, known);
  }
}

Kept KeyedSnapshot::FilterChange(const Change& change, FullXid xid, const XidSnapshot& newest,
                                 TableChanges& changes, std::vector<KnownRow>& known) {
  if (change.op == ChangeOp::kTruncate) {
    // What stands behind it is read from the start, and what stands before it is not.
    Restart();
    DropUnread(xid, newest);
    return Kept::kAll;
  }
  if (change.old_row != kNoRow) {
    order_.Encode(changes.old_rows, change.old_row, old_key_);
  }
  if (change.new_row == kNoRow) {
    const Decision gone = Decide(old_key_, xid, newest, kNoRow);
    return gone.applies && !gone.is_first ? Kept::kAll : Kept::kNothing;
  }
  order_.Encode(changes.new_rows, change.new_row, key_);
  const uint32_t gap_row = HasGap(changes, change.new_row) ? change.new_row : kNoRow;
  const bool moves = change.old_row != kNoRow && old_key_ != key_;
  const Decision from = Decide(moves ? old_key_ : key_, xid, newest, gap_row);
  if (from.known.has_value()) {
    known.push_back(*from.known);
  }
  // The old row is one that downstream does not have.
  const bool is_first = from.is_first && change.op == ChangeOp::kUpdate;
  if (!moves) {
    return !from.applies ? Kept::kNothing : is_first ? Kept::kNewKey : Kept::kAll;
  }
  const Decision to = Decide(key_, xid, newest, kNoRow);
  if (!from.applies && to.applies && gap_row != kNoRow) {
    // The row comes out of an unread key with a value that only that key's row has.
    std::optional<KeyBound> bound = order_.FromRow(changes.new_rows, change.new_row);
    if (bound.has_value()) {
      state_.ledger.ReadAlone(std::move(*bound));
    } else {
      Restart();
    }
    DropUnread(xid, newest);
    return Kept::kNothing;
  }
  return from.applies && !is_first ? (to.applies ? Kept::kAll : Kept::kOldKey)
                                   : (to.applies ? Kept::kNewKey : Kept::kNothing);
}

KeyedSnapshot::Decision KeyedSnapshot::Decide(const std::string& key, FullXid xid,
                                              const XidSnapshot& newest, uint32_t gap_row) {
  using Origin = ChunkLedger::Origin;
  const ChunkLedger::Place place = state_.ledger.Find(key);
  if (place.origin == Origin::kJoined || place.origin == Origin::kFromStream) {
    return {.applies = true};
  }
  if (place.origin == Origin::kUnread) {
    DropUnread(xid, newest);
    return {.applies = mode_ == Mode::kAgain};
  }
  if (place.snapshot->Sees(xid)) {
    return {.applies = mode_ == Mode::kAgain};
  }
  Decision decision{.applies = true, .is_first = mode_ == Mode::kFirst};
  if (gap_row != kNoRow && mode_ == Mode::kFirst) {
    Chunk& chunk = state_.chunks.at(place.chunk);
    const bool was_read = chunk.read_to.has_value() && key <= chunk.read_to->encoded;
    decision.known = FindRow(chunk, key);
    if (!decision.known.has_value()) {
      // Not read yet: the chunk ends before it. (Read and not there: no row that can be updated.)
      state_.ledger.CutBehind(place.chunk, was_read ? std::nullopt : chunk.read_to);
      Close(place.chunk, !was_read);
      DropUnread(xid, newest);
      return {};
    }
    decision.known->new_row = gap_row;
  }
  state_.ledger.FromStream(key);
  has_changed_ = true;
  return decision;
}

void KeyedSnapshot::DropUnread(FullXid xid, const XidSnapshot& newest) {
  if (!newest.Sees(xid)) {
    state_.ledger.MustSee(xid);
  }
  has_changed_ = true;
}

std::optional<KnownRow> KeyedSnapshot::FindRow(const Chunk& chunk, const std::string& key) const {
  for (const std::shared_ptr<ChunkRows>& rows : chunk.rows) {
    const auto found = std::lower_bound(rows->keys.begin(), rows->keys.end(), key);
    if (found != rows->keys.end()) {
      if (*found != key) {
        return std::nullopt;
      }
      return KnownRow{kNoRow, std::shared_ptr<const RowBatch>(rows, &rows->rows),
                      static_cast<uint32_t>(found - rows->keys.begin())};
    }
  }
  return std::nullopt;
}

void KeyedSnapshot::Restart() {
  state_.ledger.Restart();
  state_.chunks.clear();
  state_.waiting_bytes = 0;
  has_changed_ = true;
}

// ------------------------------------------------------------------------------------- the chunks

bool KeyedSnapshot::Begin(ChunkId chunk, const KeyRange& range,
                          std::shared_ptr<const XidSnapshot> snapshot, Lsn join_from,
                          TimestampMicros taken_at) {
  if (!state_.ledger.Begin(chunk, range, std::move(snapshot))) {
    return false;
  }
  state_.chunks[chunk] = {.join_from = join_from, .taken_at = taken_at};
  return true;
}

bool KeyedSnapshot::IsBeingRead(ChunkId chunk) const {
  const auto found = state_.chunks.find(chunk);
  return found != state_.chunks.end() && !found->second.is_finished && !found->second.is_cut;
}

Result<bool> KeyedSnapshot::AddRows(ChunkId id, ChunkRows rows) {
  if (!IsBeingRead(id)) {
    return false;
  }
  Chunk& chunk = state_.chunks.at(id);
  const std::string* last = chunk.read_to.has_value() ? &chunk.read_to->encoded : nullptr;
  for (const std::string& key : rows.keys) {
    if (last != nullptr && *last >= key) {
      return Corruption(
          fmt::format("table {}: the server's order of the primary key is not the one that its "
                      "types and collations have",
                      table_->FullName()));
    }
    last = &key;
  }
  if (!rows.keys.empty()) {
    chunk.read_to = rows.last;
    state_.waiting_bytes += rows.bytes;
    chunk.rows.push_back(std::make_shared<ChunkRows>(std::move(rows)));
  }
  return true;
}

void KeyedSnapshot::Finish(ChunkId chunk) {
  if (IsBeingRead(chunk)) {
    state_.chunks.at(chunk).is_finished = true;
  }
}

void KeyedSnapshot::Cut(ChunkId chunk) {
  if (IsBeingRead(chunk)) {
    state_.ledger.CutBehind(chunk, state_.chunks.at(chunk).read_to);
    Close(chunk, true);
  }
}

// No more rows are added; those that were added stay if `keeps_rows`.
void KeyedSnapshot::Close(ChunkId id, bool keeps_rows) {
  Chunk& chunk = state_.chunks.at(id);
  chunk.is_cut = true;
  if (!keeps_rows) {
    for (const std::shared_ptr<ChunkRows>& rows : chunk.rows) {
      state_.waiting_bytes -= rows->bytes;
    }
    chunk.rows.clear();
  }
  if (chunk.rows.empty()) {
    state_.chunks.erase(id);
  }
}

bool KeyedSnapshot::HasRowsFor(Lsn at) const {
  return std::any_of(state_.chunks.begin(), state_.chunks.end(), [&](const auto& entry) {
    const Chunk& chunk = entry.second;
    return chunk.join_from <= at && (chunk.is_finished || !chunk.rows.empty());
  });
}

size_t KeyedSnapshot::JoinRows(Lsn at, uint32_t transaction, uint64_t& ordinal,
                               TimestampMicros& taken_at, TableChanges& to) {
  const auto found =
      std::find_if(state_.chunks.begin(), state_.chunks.end(), [&](const auto& entry) {
        const Chunk& chunk = entry.second;
        return chunk.join_from <= at && (chunk.is_finished || !chunk.rows.empty());
      });
  if (found == state_.chunks.end()) {
    return 0;
  }
  Chunk& chunk = found->second;
  taken_at = chunk.taken_at;
  has_changed_ = true;
  size_t joined = 0;
  std::optional<KeyBound> joined_to;
  if (!chunk.rows.empty()) {
    ChunkRows rows = std::move(*chunk.rows.front());
    chunk.rows.pop_front();
    state_.waiting_bytes -= rows.bytes;
    const auto base = static_cast<uint32_t>(to.new_rows.row_count());
    std::vector<uint32_t> taken;
    for (uint32_t i = 0; i < rows.keys.size(); ++i) {
      if (state_.ledger.TakesFromChunk(found->first, rows.keys[i])) {
        taken.push_back(i);
      }
    }
    joined = taken.size();
    if (joined == rows.keys.size() && base == 0) {
      to.new_rows = std::move(rows.rows);
    } else if (joined == rows.keys.size()) {
      to.new_rows.AppendRange(rows.rows, 0, joined);
    } else {
      for (const uint32_t row : taken) {
        to.new_rows.AppendRow(rows.rows, row);
      }
    }
    for (uint32_t i = 0; i < joined; ++i) {
      to.changes.push_back({.ordinal = ordinal++,
                            .transaction = transaction,
                            .new_row = base + i,
                            .old_row = kNoRow,
                            .op = ChangeOp::kRead});
    }
    joined_to = std::move(rows.last);
  }
  const bool is_last = chunk.rows.empty() && (chunk.is_finished || chunk.is_cut);
  state_.ledger.Join(found->first,
                     chunk.rows.empty() && chunk.is_finished ? std::nullopt : joined_to);
  if (is_last) {
    state_.chunks.erase(found);
  }
  return joined;
}

}  // namespace millrace::sources::postgres
