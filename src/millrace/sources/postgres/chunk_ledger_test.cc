// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/chunk_ledger.h"

#include <gtest/gtest.h>

#include "millrace/common/coding.h"

namespace millrace::sources::postgres {
namespace {

using Origin = ChunkLedger::Origin;

KeyBound Key(const std::string& text) { return {{text}, text}; }

KeyRange Range(std::optional<std::string> lo, std::optional<std::string> hi) {
  KeyRange range;
  if (lo) {
    range.lo = Key(*lo);
  }
  if (hi) {
    range.hi = Key(*hi);
  }
  return range;
}

std::shared_ptr<const XidSnapshot> Snapshot(FullXid xmin, std::vector<FullXid> running = {}) {
  XidSnapshot snapshot;
  snapshot.xmin = running.empty() ? xmin : running.front();
  snapshot.xmax = xmin + running.size();
  snapshot.running = std::move(running);
  return std::make_shared<const XidSnapshot>(snapshot);
}

ChunkLedger Stored(const ChunkLedger& ledger) {
  std::string text;
  ledger.Encode(text);
  ByteReader in(text);
  Result<ChunkLedger> stored = ChunkLedger::Decode(in);
  EXPECT_TRUE(stored.ok() && in.empty());
  for (size_t size = 0; size < text.size(); ++size) {
    ByteReader cut(std::string_view(text).substr(0, size));
    EXPECT_EQ(ChunkLedger::Decode(cut).status().code(), Code::kCorruption);
  }
  return *stored;
}

TEST(ChunkLedgerTest, AChunkIsUnreadThenInItsSnapshotThenJoined) {
  ChunkLedger ledger;
  EXPECT_EQ(ledger.Find("c").origin, Origin::kUnread);
  ASSERT_TRUE(ledger.Begin(1, Range({}, "m"), Snapshot(100)));
  EXPECT_EQ(ledger.Find("c").origin, Origin::kInChunk);
  EXPECT_EQ(ledger.Find("m").origin, Origin::kInChunk);
  EXPECT_EQ(ledger.Find("n").origin, Origin::kUnread);
  ledger.Join(1, Key("c"));
  EXPECT_EQ(ledger.Find("c").origin, Origin::kJoined);
  EXPECT_EQ(ledger.Find("d").chunk, 1U);
  ASSERT_TRUE(ledger.Begin(2, Range("m", {}), Snapshot(100)));
  EXPECT_FALSE(ledger.FirstUnread().has_value());
  ledger.Join(2, std::nullopt);
  EXPECT_FALSE(ledger.is_complete());
  ledger.Join(1, std::nullopt);
  EXPECT_TRUE(ledger.is_complete());
  EXPECT_EQ(ledger.Find("z").origin, Origin::kJoined);
}

TEST(ChunkLedgerTest, ASnapshotThatDoesNotSeeEnoughIsRefused) {
  ChunkLedger ledger;
  ledger.MustSee(95);
  EXPECT_FALSE(ledger.Begin(1, Range({}, "m"), Snapshot(99, {95})));
  EXPECT_EQ(ledger.Find("a").origin, Origin::kUnread);
  EXPECT_FALSE(Stored(ledger).Begin(1, Range({}, "m"), Snapshot(99, {95})));
  EXPECT_TRUE(ledger.Begin(1, Range({}, "m"), Snapshot(100)));
}

TEST(ChunkLedgerTest, WhatIsCutIsUnreadAndKeysFromTheStreamStay) {
  ChunkLedger ledger;
  ASSERT_TRUE(ledger.Begin(1, Range({}, "m"), Snapshot(100)));
  ledger.FromStream("b");
  ledger.FromStream("h");
  ledger.CutBehind(1, Key("e"));
  EXPECT_EQ(ledger.Find("c").origin, Origin::kInChunk);
  EXPECT_EQ(ledger.Find("f").origin, Origin::kUnread);
  EXPECT_EQ(ledger.Find("h").origin, Origin::kFromStream);
  EXPECT_FALSE(ledger.TakesFromChunk(1, "b"));
  EXPECT_TRUE(ledger.TakesFromChunk(1, "c"));
  // The rest is one stretch again, up to the table's end.
  EXPECT_EQ(ledger.FirstUnread()->lo->encoded, "e");
  EXPECT_FALSE(ledger.FirstUnread()->hi.has_value());
  ledger.Join(1, Key("e"));
  EXPECT_EQ(ledger.from_stream_count(), 1U);  // of what is joined nothing is remembered
  ASSERT_TRUE(ledger.Begin(2, Range("e", {}), Snapshot(200)));
  EXPECT_FALSE(ledger.TakesFromChunk(2, "h"));
}

TEST(ChunkLedgerTest, ChunksThatHaveNotJoinedAreUnreadOnceStored) {
  ChunkLedger ledger;
  ASSERT_TRUE(ledger.Begin(1, Range({}, "f"), Snapshot(100)));
  ASSERT_TRUE(ledger.Begin(2, Range("f", "m"), Snapshot(100)));
  ledger.Join(2, Key("h"));
  ledger.FromStream("b");
  const ChunkLedger stored = Stored(ledger);
  EXPECT_EQ(stored.Find("a").origin, Origin::kUnread);
  EXPECT_EQ(stored.Find("b").origin, Origin::kFromStream);
  EXPECT_EQ(stored.Find("g").origin, Origin::kJoined);
  EXPECT_EQ(stored.Find("i").origin, Origin::kUnread);
}

TEST(ChunkLedgerTest, AKeyThatIsReadAloneIsOfNoOtherChunk) {
  ChunkLedger ledger;
  ASSERT_TRUE(ledger.Begin(1, Range({}, "f"), Snapshot(100)));
  ledger.Join(1, std::nullopt);
  ledger.ReadAlone(Key("c"));  // in what is joined
  ASSERT_TRUE(ledger.Begin(2, Range("f", "m"), Snapshot(100)));
  ledger.FromStream("h");
  ledger.ReadAlone(Key("h"));  // in a chunk
  EXPECT_EQ(ledger.Find("c").origin, Origin::kUnread);
  EXPECT_FALSE(ledger.TakesFromChunk(2, "h"));
  EXPECT_EQ(Stored(ledger).Find("c").origin, Origin::kUnread);
  for (ChunkId chunk = 3; chunk < 5; ++chunk) {
    const KeyRange range = *ledger.FirstUnread();
    ASSERT_TRUE(range.includes_lo);
    EXPECT_EQ(range.lo->encoded, range.hi->encoded);
    ASSERT_TRUE(ledger.Begin(chunk, range, Snapshot(100)));
    EXPECT_TRUE(ledger.TakesFromChunk(chunk, range.lo->encoded));
    ledger.Join(chunk, range.lo);
  }
  EXPECT_EQ(ledger.Find("c").origin, Origin::kJoined);
  // Around it nothing has joined: the stream goes on with it all the same.
  EXPECT_EQ(ledger.Find("h").origin, Origin::kFromStream);
  ledger.Join(2, std::nullopt);
  EXPECT_EQ(ledger.Find("h").origin, Origin::kJoined);
}

}  // namespace
}  // namespace millrace::sources::postgres
