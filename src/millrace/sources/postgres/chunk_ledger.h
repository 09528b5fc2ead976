// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/sources/postgres/key_order.h"
#include "millrace/sources/postgres/xid_snapshot.h"

namespace millrace::sources::postgres {

// A stretch of a table in key order: behind `lo`, or from it on, up to `hi` with it. An end that is
// absent is the table's.
struct KeyRange {
  std::optional<KeyBound> lo;
  bool includes_lo = false;
  std::optional<KeyBound> hi;
};

// A chunk: a range that is read in one snapshot of the server. Numbers are given by the caller and
// used once.
using ChunkId = uint64_t;

// ChunkLedger knows how far a table with a key order has been read, and for any key where its rows
// come from: that is what decides about a change of the stream. It does no I/O.
//
//   kUnread        not read: the change is dropped; the snapshot of the chunk that is to come must
//                  see its transaction, for which the caller tells MustSee()
//   kInChunk       in a chunk that has its snapshot but has not joined the stream: dropped if the
//                  snapshot sees the transaction, else applied and FromStream()
//   kFromStream    a transaction that the chunk's snapshot does not see changed the key: all later
//                  changes apply, and no chunk's row of this key joins any more
//   kJoined        its chunk's rows are in the stream: applied. The stream had passed everything
//                  that the snapshot saw.
//
// A key of its own (ReadAlone()) is one that would be joined or from the stream, but whose row the
// stream could not tell whole.
//
// What Encode() keeps is as of the changes that were decided: chunks that have not joined are
// unread in it.
class ChunkLedger {
 public:
  // Everything is unread.
  ChunkLedger() { Restart(); }

  // Everything is unread again, and no key is from the stream. What must be seen stays.
  void Restart();

  bool is_complete() const { return open_.empty() && alone_.empty(); }
  // The first stretch that is in no chunk.
  std::optional<KeyRange> FirstUnread() const;

  // `chunk` is about to be read in `snapshot`. False, and nothing is changed, if the snapshot does
  // not see all that it must: take another one later. REQUIRES: `range` begins where a stretch that
  // FirstUnread() gives begins, and does not reach behind its end.
  bool Begin(ChunkId chunk, const KeyRange& range, std::shared_ptr<const XidSnapshot> snapshot);
  // The rows up to `to`, or to the chunk's end, join the stream. REQUIRES: ascending.
  void Join(ChunkId chunk, const std::optional<KeyBound>& to);
  // What lies behind `read_to`, or all of it, is not read any further and is unread again.
  void CutBehind(ChunkId chunk, const std::optional<KeyBound>& read_to);

  enum class Origin { kUnread, kInChunk, kFromStream, kJoined };
  struct Place {
    Origin origin = Origin::kJoined;
    ChunkId chunk = 0;                      // kInChunk
    const XidSnapshot* snapshot = nullptr;  // kInChunk
  };
  Place Find(const std::string& key) const;

  void FromStream(const std::string& key) { from_stream_.insert(key); }
  // Whether a chunk's row of this key joins the stream.
  bool TakesFromChunk(ChunkId chunk, const std::string& key) const;
  // REQUIRES: Find() gives kFromStream or kJoined.
  void ReadAlone(KeyBound key);

  // Every snapshot to come must see `xid`.
  void MustSee(FullXid xid) { must_see_.insert(xid); }
  // `newest` was taken: what it sees, all later ones see.
  void Forget(const XidSnapshot& newest);
  const std::set<FullXid>& must_see() const { return must_see_; }
  size_t from_stream_count() const { return from_stream_.size(); }

  // For data_dir; see snapshot_progress.h.
  void Encode(std::string& to) const;
  static Result<ChunkLedger> Decode(ByteReader& in);

 private:
  // A stretch that has not joined.
  struct Open {
    KeyRange range;
    std::optional<ChunkId> chunk;
    std::shared_ptr<const XidSnapshot> snapshot;
  };

  // The stretch that holds `key`, or open_.size().
  size_t IndexOf(std::string_view key) const;
  // Makes neighbours without a chunk one.
  void Merge();

  std::vector<Open> open_;             // in key order, disjoint
  std::map<std::string, Open> alone_;  // by encoded key
  std::unordered_set<std::string> from_stream_;
  std::set<FullXid> must_see_;
};

}  // namespace millrace::sources::postgres
