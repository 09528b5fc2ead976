// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/chunk_ledger.h"

#include <algorithm>
#include <utility>

#include "millrace/common/check.h"
#include "millrace/common/coding.h"

namespace millrace::sources::postgres {
namespace {

bool IsBehindLo(const KeyRange& range, std::string_view key) {
  return !range.lo.has_value() ||
         (range.includes_lo ? key >= range.lo->encoded : key > range.lo->encoded);
}

bool IsUpToHi(const KeyRange& range, std::string_view key) {
  return !range.hi.has_value() || key <= range.hi->encoded;
}

void AppendText(std::string& to, std::string_view text) {
  AppendVarint(to, text.size());
  to.append(text);
}

void AppendKey(std::string& to, const std::optional<KeyBound>& key) {
  AppendVarint(to, key.has_value() ? key->text.size() : 0);
  if (key.has_value()) {
    AppendText(to, key->encoded);
    for (const std::string& text : key->text) {
      AppendText(to, text);
    }
  }
}

Result<std::optional<KeyBound>> ReadKey(ByteReader& in) {
  MR_ASSIGN_OR_RETURN(const uint64_t columns, in.ReadVarint());
  if (columns == 0) {
    return std::optional<KeyBound>();
  }
  KeyBound key;
  MR_ASSIGN_OR_RETURN(key.encoded, in.ReadLengthPrefixed());
  for (uint64_t i = 0; i < columns; ++i) {
    MR_ASSIGN_OR_RETURN(const std::string_view text, in.ReadLengthPrefixed());
    key.text.emplace_back(text);
  }
  return std::optional<KeyBound>(std::move(key));
}

}  // namespace

void ChunkLedger::Restart() {
  open_.assign(1, Open());
  alone_.clear();
  from_stream_.clear();
}

std::optional<KeyRange> ChunkLedger::FirstUnread() const {
  for (const auto& [key, open] : alone_) {
    if (!open.chunk.has_value()) {
      return open.range;
    }
  }
  for (const Open& open : open_) {
    if (!open.chunk.has_value()) {
      return open.range;
    }
  }
  return std::nullopt;
}

bool ChunkLedger::Begin(ChunkId chunk, const KeyRange& range,
                        std::shared_ptr<const XidSnapshot> snapshot) {
  Forget(*snapshot);
  if (!must_see_.empty()) {
    return false;
  }
  if (range.includes_lo) {
    Open& open = alone_.at(range.lo->encoded);
    open.chunk = chunk;
    open.snapshot = std::move(snapshot);
    return true;
  }
  const auto begins = [&](const Open& open) {
    return !open.chunk.has_value() && open.range.lo.has_value() == range.lo.has_value() &&
           (!range.lo.has_value() || open.range.lo->encoded == range.lo->encoded);
  };
  const auto found = std::find_if(open_.begin(), open_.end(), begins);
  MR_CHECK(found != open_.end());
  const Open begun{range, chunk, std::move(snapshot)};
  const bool is_whole = !range.hi.has_value() || (found->range.hi.has_value() &&
                                                  found->range.hi->encoded <= range.hi->encoded);
  if (is_whole) {
    const KeyRange whole = found->range;
    *found = begun;
    found->range = whole;
  } else {
    found->range.lo = range.hi;
    open_.insert(found, begun);
  }
  return true;
}

void ChunkLedger::Join(ChunkId chunk, const std::optional<KeyBound>& to) {
  const auto alone = std::find_if(alone_.begin(), alone_.end(),
                                  [&](const auto& entry) { return entry.second.chunk == chunk; });
  if (alone != alone_.end()) {
    // Around it nothing may have been read: its own row is there all the same.
    if (IndexOf(alone->first) == open_.size()) {
      from_stream_.erase(alone->first);
    } else {
      from_stream_.insert(alone->first);
    }
    alone_.erase(alone);
    return;
  }
  const auto found = std::find_if(open_.begin(), open_.end(),
                                  [&](const Open& open) { return open.chunk == chunk; });
  if (found == open_.end()) {
    return;
  }
  KeyRange joined = found->range;
  if (to.has_value() && !(joined.hi.has_value() && joined.hi->encoded <= to->encoded)) {
    MR_CHECK(IsBehindLo(joined, to->encoded));
    found->range.lo = to;
    joined.hi = to;
  } else {
    open_.erase(found);
  }
  // A joined key needs no entry: its changes apply.
  std::erase_if(from_stream_, [&](const std::string& key) {
    return IsBehindLo(joined, key) && IsUpToHi(joined, key);
  });
}

void ChunkLedger::CutBehind(ChunkId chunk, const std::optional<KeyBound>& read_to) {
  for (auto& [key, open] : alone_) {
    if (open.chunk == chunk && !read_to.has_value()) {
      open.chunk.reset();
      open.snapshot.reset();
    }
  }
  const auto found = std::find_if(open_.begin(), open_.end(),
                                  [&](const Open& open) { return open.chunk == chunk; });
  if (found == open_.end()) {
    return;
  }
  if (read_to.has_value() && IsBehindLo(found->range, read_to->encoded)) {
    if (found->range.hi.has_value() && found->range.hi->encoded <= read_to->encoded) {
      return;
    }
    Open rest{found->range, std::nullopt, nullptr};
    rest.range.lo = read_to;
    found->range.hi = read_to;
    open_.insert(found + 1, std::move(rest));
  } else {
    found->chunk.reset();
    found->snapshot.reset();
  }
  Merge();
}

void ChunkLedger::Merge() {
  for (size_t i = 1; i < open_.size();) {
    Open& left = open_[i - 1];
    const Open& right = open_[i];
    const bool is_neighbour = left.range.hi.has_value() && right.range.lo.has_value() &&
                              left.range.hi->encoded == right.range.lo->encoded;
    if (is_neighbour && !left.chunk.has_value() && !right.chunk.has_value()) {
      left.range.hi = right.range.hi;
      open_.erase(open_.begin() + static_cast<ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
}

size_t ChunkLedger::IndexOf(std::string_view key) const {
  const auto found = std::partition_point(
      open_.begin(), open_.end(), [&](const Open& open) { return !IsUpToHi(open.range, key); });
  return found != open_.end() && IsBehindLo(found->range, key)
             ? static_cast<size_t>(found - open_.begin())
             : open_.size();
}

ChunkLedger::Place ChunkLedger::Find(const std::string& key) const {
  const auto place = [](const Open& open) {
    return open.chunk.has_value() ? Place{Origin::kInChunk, *open.chunk, open.snapshot.get()}
                                  : Place{Origin::kUnread, 0, nullptr};
  };
  if (!from_stream_.empty() && from_stream_.contains(key)) {
    return {Origin::kFromStream, 0, nullptr};
  }
  if (!alone_.empty()) {
    if (const auto found = alone_.find(key); found != alone_.end()) {
      return place(found->second);
    }
  }
  const size_t index = IndexOf(key);
  return index == open_.size() ? Place() : place(open_[index]);
}

bool ChunkLedger::TakesFromChunk(ChunkId chunk, const std::string& key) const {
  if (from_stream_.empty() && alone_.empty()) {
    return true;
  }
  const Place place = Find(key);
  return place.origin == Origin::kInChunk && place.chunk == chunk;
}

void ChunkLedger::ReadAlone(KeyBound key) {
  from_stream_.erase(key.encoded);
  Open open;
  open.range = {key, true, key};
  alone_.insert_or_assign(key.encoded, std::move(open));
}

void ChunkLedger::Forget(const XidSnapshot& newest) {
  std::erase_if(must_see_, [&](FullXid xid) { return newest.Sees(xid); });
}

void ChunkLedger::Encode(std::string& to) const {
  ChunkLedger kept = *this;
  for (Open& open : kept.open_) {
    open.chunk.reset();
  }
  kept.Merge();
  AppendVarint(to, kept.open_.size());
  for (const Open& open : kept.open_) {
    AppendKey(to, open.range.lo);
    AppendKey(to, open.range.hi);
  }
  AppendVarint(to, alone_.size());
  for (const auto& [key, open] : alone_) {
    AppendKey(to, open.range.lo);
  }
  AppendVarint(to, from_stream_.size());
  for (const std::string& key : from_stream_) {
    AppendText(to, key);
  }
  AppendVarint(to, must_see_.size());
  for (const FullXid xid : must_see_) {
    AppendVarint(to, xid);
  }
}

Result<ChunkLedger> ChunkLedger::Decode(ByteReader& in) {
  ChunkLedger ledger;
  ledger.open_.clear();
  MR_ASSIGN_OR_RETURN(uint64_t count, in.ReadVarint());
  for (; count != 0; --count) {
    Open open;
    MR_ASSIGN_OR_RETURN(open.range.lo, ReadKey(in));
    MR_ASSIGN_OR_RETURN(open.range.hi, ReadKey(in));
    ledger.open_.push_back(std::move(open));
  }
  MR_ASSIGN_OR_RETURN(count, in.ReadVarint());
  for (; count != 0; --count) {
    MR_ASSIGN_OR_RETURN(std::optional<KeyBound> key, ReadKey(in));
    if (!key.has_value()) {
      return Corruption("a key that is read alone is missing");
    }
    ledger.ReadAlone(std::move(*key));
  }
  MR_ASSIGN_OR_RETURN(count, in.ReadVarint());
  for (; count != 0; --count) {
    MR_ASSIGN_OR_RETURN(const std::string_view key, in.ReadLengthPrefixed());
    ledger.from_stream_.emplace(key);
  }
  MR_ASSIGN_OR_RETURN(count, in.ReadVarint());
  for (; count != 0; --count) {
    MR_ASSIGN_OR_RETURN(const FullXid xid, in.ReadVarint());
    ledger.must_see_.insert(xid);
  }
  return ledger;
}

}  // namespace millrace::sources::postgres
