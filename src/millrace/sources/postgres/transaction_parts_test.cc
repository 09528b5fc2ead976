// SPDX-License-Identifier: Apache-2.0
// Transactions that do not fit in memory, and those that come in parts.
#include <csignal>
#include <filesystem>
#include <map>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "millrace/sources/postgres/testing/pgoutput_builder.h"
#include "millrace/sources/postgres/testing/reader_fixture.h"
#include "millrace/sources/postgres/transaction_reader.h"

namespace millrace::sources::postgres {
namespace {

using testing::Begin;
using testing::Commit;
using ::testing::HasSubstr;
using testing::Insert;
using testing::InStream;
using testing::kForeign;
using testing::kItems;
using testing::kNotes;
using testing::RelationOf;
using testing::StreamAbort;
using testing::StreamCommit;
using testing::StreamStart;
using testing::StreamStop;
using testing::Truncate;
using Pass = TransactionPart::Pass;

constexpr size_t kMemoryMax = 4096;

std::string Item(int id, std::string payload = "x") {
  return Insert(kItems, {std::to_string(id), "n", std::move(payload)});
}
std::string Note(int id) { return Insert(kNotes, {std::to_string(id)}); }

// Every change of a batch as one line, in the order of the ordinals.
std::vector<std::string> Lines(const ChangeBatch& batch) {
  std::map<std::pair<uint32_t, uint64_t>, std::string> lines;
  for (const TableChanges& table : batch.tables) {
    for (const Change& change : table.changes) {
      std::string line =
          fmt::format("{} {} {}", batch.transactions[change.transaction].end_lsn.value(),
                      change.ordinal, table.table->name);
      if (change.new_row != kNoRow) {
        const Column& id = table.new_rows.column(0);
        line += fmt::format(" {}", table.table->oid == kItems ? id.Value<int64_t>(change.new_row)
                                                              : id.Value<int32_t>(change.new_row));
        if (table.table->oid == kItems) {
          line += fmt::format(" {}", table.new_rows.column(2).Text(change.new_row));
        }
      }
      lines[{change.transaction, change.ordinal}] = line;
    }
  }
  std::vector<std::string> values;
  for (auto& [key, line] : lines) {
    values.push_back(std::move(line));
  }
  return values;
}

TransactionReader::Options SmallMemory() {
  TransactionReader::Options options = testing::ReaderOptions();
  options.staged_memory_max = kMemoryMax;
  return options;
}

class SpillTest : public testing::ReaderFixture {
 protected:
  SpillTest() : ReaderFixture(SmallMemory()) {}
};

// Random transactions with subtransactions, of which most do not fit, give what they give in
// memory.
// Case: 19.
TEST_F(SpillTest, SpilledTransactionsAreReadBackAsTheyCame) {
  constexpr unsigned kSeed = 20260917;
  std::mt19937 random(kSeed);
  TransactionReader::Options large = options_;
  large.staged_memory_max = kStagedMemoryMax;
  TransactionReader in_memory(large);
  ASSERT_TRUE(in_memory.StartStream({Epoch(1), Lsn(100)}).ok());
  const auto feed = [&](const std::string& message) {
    Feed({message});
    ASSERT_TRUE(in_memory.Decode(message).ok());
    EXPECT_LE(reader_.staged_memory(), kMemoryMax);
  };
  int id = 0;
  uint64_t lsn = 200;
  std::vector<bool> is_open(4, false);
  for (int step = 0; step < 400; ++step) {
    const auto slot = static_cast<uint32_t>(random() % 4);
    const uint32_t xid = 1000 * (slot + 1);
    feed(StreamStart(xid, !is_open[slot]));
    feed(InStream(xid, RelationOf(kItems)));
    is_open[slot] = true;
    for (size_t i = random() % 20; i > 0; --i) {
      // Now and then one that does not fit in memory by itself.
      const size_t size = random() % 50 == 0 ? 3 * kMemoryMax : random() % 300;
      feed(InStream(xid + static_cast<uint32_t>(random() % 3), Item(++id, std::string(size, 'p'))));
    }
    feed(StreamStop());
    switch (random() % 8) {
      case 0:
        feed(StreamAbort(xid, xid + 1 + static_cast<uint32_t>(random() % 2)));
        break;
      case 1:
        feed(StreamAbort(xid, xid));
        is_open[slot] = false;
        break;
      case 2:
        feed(StreamCommit(xid, lsn, lsn + 10));
        lsn += 20;
        is_open[slot] = false;
        break;
      default:
        break;
    }
    if (reader_.can_take() || in_memory.can_take()) {
      EXPECT_EQ(Lines(*reader_.Take()), Lines(*in_memory.Take())) << "seed " << kSeed;
    }
  }
}

TEST_F(SpillTest, FilesHaveNoNamesAndOldOnesAreRemoved) {
  Feed({Begin(200), RelationOf(kItems)});
  for (int i = 0; i < 100; ++i) {
    Feed({Item(i, std::string(200, 'p'))});
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
  struct stat info {};
  ASSERT_EQ(stat(directory_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  std::filesystem::create_directory(directory_ / "left");
  Restart();
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(SpillTest, ADirectoryThatIsGoneIsNamed) {
  std::filesystem::remove_all(directory_);
  Feed({Begin(200), RelationOf(kItems)});
  const Status status = FeedUntilError({Item(1, std::string(kMemoryMax, 'p'))});
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr(directory_.string()));
}

// Case: 19.
TEST_F(SpillTest, AFullDiskIsASentenceAndNotTheEnd) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit small{.rlim_cur = 8000, .rlim_max = old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  std::vector<std::string> messages = {Begin(200), RelationOf(kItems)};
  for (int i = 0; i < 100; ++i) {
    messages.push_back(Item(i, std::string(200, 'p')));
  }
  const Status status = FeedUntilError(messages);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("make room there"));
  Restart();
  messages.push_back(Commit(200, 220));
  Feed(messages);
  EXPECT_EQ(reader_.Take()->row_count, 100u);
}

TEST_F(SpillTest, ARowAbove256MiBIsABadRowAndOneThatIsNotOursIsNone) {
  const uint32_t half = 129u << 20;
  const auto row = [half](uint32_t oid) {
    std::string message = testing::Message('I').U32(oid).Char('N').U16(3).Char('t').U32(1).bytes();
    message += "1";
    message.reserve(2 * size_t{half} + 100);
    for (int i = 0; i < 2; ++i) {
      message += 't';
      AppendBigEndian(message, half);
      message.append(half, 'p');
    }
    return message;
  };
  const auto finish = [this] {
    Status status;
    while (status.ok() && reader_.has_large()) {
      status = reader_.DecodePart();
    }
    return status;
  };
  Feed({Begin(200), RelationOf(kForeign), row(kForeign), Commit(200, 220)});
  EXPECT_TRUE(finish().ok());
  Feed({Begin(300), RelationOf(kItems), row(kItems), Commit(300, 320)});
  const Status status = finish();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("shop.items, column 'payload'"));
  EXPECT_THAT(status.message(), HasSubstr("256 MiB"));
}

// --------------------------------------------------------------------------------------- parts

TransactionReader::Options SmallParts() {
  TransactionReader::Options options = SmallMemory();
  options.whole_max = 2000;
  options.batch_rows_max = 10;
  return options;
}

class PartTest : public testing::ReaderFixture {
 protected:
  PartTest() : ReaderFixture(SmallParts()) {}

  // The parts of the transaction that has just committed.
  std::vector<std::unique_ptr<ChangeBatch>> TakeParts() {
    std::vector<std::unique_ptr<ChangeBatch>> parts;
    while (reader_.has_large()) {
      EXPECT_TRUE(reader_.is_full());
      const Status status = reader_.DecodePart();
      EXPECT_TRUE(status.ok()) << status.ToString();
      if (reader_.can_take()) {
        EXPECT_TRUE(reader_.is_full());
        parts.push_back(reader_.Take());
        EXPECT_TRUE(parts.back()->part.has_value());
        EXPECT_EQ(parts.back()->transactions.size(), 1u);
        EXPECT_GT(parts.back()->row_count, 0u);
      }
    }
    EXPECT_FALSE(reader_.is_full());
    return parts;
  }

  // All of a pass, with the parts checked for what holds of every transaction.
  static std::vector<std::string> LinesOf(const std::vector<std::unique_ptr<ChangeBatch>>& parts,
                                          Pass pass) {
    std::vector<std::string> all;
    for (const auto& part : parts) {
      if (part->part->pass == pass) {
        const std::vector<std::string> lines = Lines(*part);
        all.insert(all.end(), lines.begin(), lines.end());
      }
    }
    return all;
  }
};

// Case: 19.
TEST_F(PartTest, ALargeTransactionComesTwiceLookupsFirst) {
  Feed({Begin(200, 0, 6), RelationOf(kItems), Item(0), Commit(200, 220), Begin(300, 0, 7),
        RelationOf(kNotes), RelationOf(kForeign)});
  std::vector<std::string> changes;
  std::vector<std::string> lookups;
  for (int i = 1; i <= 60; ++i) {
    const int ordinal = 3 * i;
    Feed({Item(i), Insert(kForeign, {"1"}), i % 2 == 0 ? Note(i) : Item(1000 + i)});
    changes.push_back(fmt::format("320 {} items {} x", ordinal - 2, i));
    if (i % 2 == 0) {
      changes.push_back(fmt::format("320 {} notes {}", ordinal, i));
      lookups.push_back(changes.back());
    } else {
      changes.push_back(fmt::format("320 {} items {} x", ordinal, 1000 + i));
    }
  }
  Feed({Truncate({kItems, kForeign, kNotes}), Insert(kForeign, {"1"})});
  changes.emplace_back("320 181 items");
  changes.emplace_back("320 183 notes");
  lookups.push_back(changes.back());
  Feed({Commit(300, 320)});

  // What is complete goes first, by itself.
  ASSERT_TRUE(reader_.can_take());
  EXPECT_TRUE(reader_.is_full());
  const auto small = reader_.Take();
  EXPECT_FALSE(small->part.has_value());
  EXPECT_EQ(small->end.end_lsn, Lsn(220));
  const auto parts = TakeParts();
  EXPECT_EQ(LinesOf(parts, Pass::kLookups), lookups);
  EXPECT_EQ(LinesOf(parts, Pass::kChanges), changes);
  ASSERT_EQ(parts.size(), 4u + 13u);
  for (size_t i = 0; i < parts.size(); ++i) {
    const ChangeBatch& part = *parts[i];
    const bool is_last = i + 1 == parts.size();
    EXPECT_EQ(part.part->pass, i < 4 ? Pass::kLookups : Pass::kChanges) << i;
    EXPECT_EQ(part.part->is_first, i == 0) << i;
    EXPECT_EQ(part.part->is_last, is_last) << i;
    EXPECT_EQ(part.end.end_lsn, is_last ? Lsn(320) : Lsn(220)) << i;
    EXPECT_EQ(part.transactions[0].xid, Xid(7));
    EXPECT_LE(part.row_count, 11u);
  }
  // The stream goes on with what this one described.
  Feed({Begin(400), Note(1), Item(1), Commit(400, 420)});
  EXPECT_EQ(Lines(*reader_.Take()), (std::vector<std::string>{"420 1 notes 1", "420 2 items 1 x"}));
}

TEST_F(PartTest, APassWithoutChangesIsLeftOut) {
  Feed({Begin(300), RelationOf(kItems), RelationOf(kForeign)});
  for (int i = 1; i <= 30; ++i) {
    Feed({Item(i)});
  }
  for (int i = 1; i <= 30; ++i) {
    Feed({Insert(kForeign, {"1"})});
  }
  Feed({Commit(300, 320)});
  const auto parts = TakeParts();
  // What follows in the transaction is not ours: the third part is known to be the last.
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0]->part->pass, Pass::kChanges);
  EXPECT_TRUE(parts[0]->part->is_first);
  EXPECT_EQ(parts[0]->end.end_lsn, Lsn(100));
  EXPECT_TRUE(parts[2]->part->is_last);
  EXPECT_EQ(parts[2]->end.end_lsn, Lsn(320));
}

TEST_F(PartTest, ALargeTransactionWithoutChangesForUsOnlyMovesTheEnd) {
  Feed({Begin(300), RelationOf(kForeign), testing::LogicalMessage(true, "millrace", "my_slot")});
  for (int i = 1; i <= 60; ++i) {
    Feed({Insert(kForeign, {"1"})});
  }
  Feed({Commit(300, 320)});
  EXPECT_EQ(reader_.end_lsn(), Lsn(100));
  EXPECT_TRUE(TakeParts().empty());
  EXPECT_EQ(reader_.end_lsn(), Lsn(320));
  EXPECT_EQ(reader_.heartbeats(), 1u);
}

TEST_F(PartTest, AbortedSubtransactionsAndInterleavedOnesAreOutOfEveryPass) {
  Feed({StreamStart(50, true), InStream(50, RelationOf(kNotes)), InStream(50, RelationOf(kItems))});
  std::vector<std::string> expected;
  for (int i = 1; i <= 50; ++i) {
    Feed({InStream(50, Note(i)), InStream(51, Item(i)), InStream(52, Note(1000 + i))});
    expected.push_back(fmt::format("320 {} notes {}", 2 * i - 1, i));
    expected.push_back(fmt::format("320 {} notes {}", 2 * i, 1000 + i));
  }
  Feed({StreamStop(), StreamAbort(50, 51), StreamStart(60, true), InStream(60, RelationOf(kItems)),
        InStream(60, Item(1)), StreamStop(), StreamCommit(50, 300, 320)});
  const auto parts = TakeParts();
  EXPECT_EQ(LinesOf(parts, Pass::kLookups), expected);
  EXPECT_EQ(LinesOf(parts, Pass::kChanges), expected);
  Feed({StreamCommit(60, 330, 340)});
  EXPECT_EQ(Lines(*reader_.Take()), std::vector<std::string>{"340 1 items 1 x"});
}

TEST_F(PartTest, APartEndsByItsBytesToo) {
  Feed({Begin(300), RelationOf(kItems)});
  for (int i = 1; i <= 3; ++i) {
    Feed({Item(i, std::string(size_t{9} << 20, 'p'))});
  }
  Feed({Commit(300, 320)});
  const auto parts = TakeParts();
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[1]->tables[0].new_rows.column(2).Text(0).size(), size_t{9} << 20);
}

TEST_F(PartTest, ABadRowInALaterPartIsASentence) {
  Feed({Begin(300), RelationOf(kItems)});
  for (int i = 1; i <= 30; ++i) {
    Feed({Item(i)});
  }
  Feed({Insert(kItems, {"no number", "n", "x"}), Commit(300, 320)});
  Status status;
  size_t parts = 0;
  while (status.ok() && reader_.has_large()) {
    status = reader_.DecodePart();
    if (status.ok() && reader_.can_take()) {
      reader_.Take().reset();
      ++parts;
    }
  }
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_THAT(status.message(), HasSubstr("shop.items, column 'id'"));
  EXPECT_EQ(parts, 3u);
  EXPECT_FALSE(reader_.can_take());
  Restart();
  EXPECT_FALSE(reader_.has_large());
}

}  // namespace
}  // namespace millrace::sources::postgres
