// SPDX-License-Identifier: Apache-2.0
//
// Transactions that are committed in parts: what is seen of them before and after the last, and
// what a process or a machine that dies at any moment leaves.

#include <filesystem>
#include <functional>
#include <map>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/storage/rocksdb/testing/noting_file_system.h"
#include "millrace/storage/rocksdb/testing/store_fixture.h"

namespace millrace::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class PartsTest : public testing::StoreFixture {
 protected:
  // Commits a part with a record of `outputs` rows and what `change` adds to it.
  Status TryPart(bool is_last, size_t outputs, const std::function<void(StoreBatch&)>& change) {
    auto batch = store_->NewBatch();
    batch->SetPart(is_last);
    change(*batch);
    if (outputs != 0) {
      batch->AppendOutput(testing::MakeRecord(stream_, store_->AppendEnd(), outputs, 5));
    }
    if (is_last) {
      batch->SetPosition({Epoch(0), Lsn(5)});
    }
    return store_->Commit(std::move(batch));
  }
  void Part(bool is_last, size_t outputs, const std::function<void(StoreBatch&)>& change) {
    const Status status = TryPart(is_last, outputs, change);
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  std::vector<std::optional<std::string>> Get(StateTableId table,
                                              const std::vector<std::string>& keys) {
    auto rows = store_->GetState(table, keys);
    EXPECT_TRUE(rows.ok()) << rows.status().ToString();
    return *std::move(rows);
  }
};

TEST_F(PartsTest, NothingCountsBeforeTheLast) {
  Append(3, 1);
  Put("a", "1");
  Put("b", "1");
  Put("c", "1");
  Part(false, 4, [&](StoreBatch& batch) { batch.PutState(table_, "a", "2"); });
  Part(false, 5, [&](StoreBatch& batch) {
    batch.DeleteState(table_, "b");
    batch.PutState(table_, "d", "");
  });
  EXPECT_TRUE(store_->HasOpenParts());
  EXPECT_EQ(store_->ReadableEnd(), Offset(3));
  EXPECT_EQ(store_->AppendEnd(), Offset(12));
  EXPECT_EQ(store_->ReadOutput(Offset(3)).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(store_->TruncateOutput(Offset(4)).code(), Code::kInvalidArgument);
  EXPECT_EQ(store_->LoadSourceState()->position, (SourcePosition{Epoch(0), Lsn(1)}));
  // Its own reads see it.
  EXPECT_THAT(Rows(), ElementsAre("a=2", "c=1", "d="));
  EXPECT_THAT(Get(table_, {"a", "b", "c", "d", "e"}),
              ElementsAre("2", std::nullopt, "1", "", std::nullopt));

  Part(true, 6, [&](StoreBatch& batch) { batch.PutState(table_, "d", "3"); });
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(store_->HasOpenParts());
    EXPECT_EQ(store_->ReadableEnd(), Offset(18));
    EXPECT_EQ(store_->LoadSourceState()->position, (SourcePosition{Epoch(0), Lsn(5)}));
    EXPECT_THAT(Rows(), ElementsAre("a=2", "c=1", "d=3"));
    EXPECT_THAT(Get(table_, {"a", "b", "d"}), ElementsAre("2", std::nullopt, "3"));
    ExpectRead(Offset(3), testing::MakeRecord(stream_, Offset(3), 4, 5));
    ExpectRead(Offset(17), testing::MakeRecord(stream_, Offset(12), 6, 5));
    Reopen();
  }
}

TEST_F(PartsTest, AnOpenTransactionIsDroppedWithAllItsParts) {
  for (const bool reopen : {false, true}) {
    const Offset end = store_->AppendEnd();
    const uint64_t bytes = store_->OutputLogBytes();
    Put("a", "1");
    Part(false, 4, [&](StoreBatch& batch) { batch.ClearState(table_); });
    Part(false, 4, [&](StoreBatch& batch) { batch.PutState(table_, "b", "2"); });
    EXPECT_THAT(Rows(), ElementsAre("b=2"));
    EXPECT_EQ(store_->OutputLogBytes(), bytes);
    if (reopen) {
      Reopen();
    } else {
      ASSERT_TRUE(store_->DropParts().ok());
    }
    EXPECT_FALSE(store_->HasOpenParts());
    EXPECT_EQ(store_->AppendEnd(), end);
    EXPECT_THAT(Rows(), ElementsAre("a=1"));
    // The offsets are given anew, and to other rows.
    const OutputRecord again = Append(2, 7);
    EXPECT_EQ(again.first, end);
    ExpectRead(end, again);
    Reopen();
    ExpectRead(end, again);
    EXPECT_EQ(store_->ReadableEnd(), store_->AppendEnd());
  }
}

TEST_F(PartsTest, OnlyPartsAreTakenWhileOneIsOpen) {
  Part(false, 1, [](StoreBatch&) {});
  auto batch = store_->NewBatch();
  EXPECT_EQ(store_->Commit(std::move(batch)).code(), Code::kFailedPrecondition);
  Part(true, 0, [](StoreBatch&) {});
  Append(1);
  EXPECT_EQ(store_->ReadableEnd(), Offset(2));
}

TEST_F(PartsTest, ABatchMayBecomeAPartWhenItIsHalfMade) {
  Put("a", "1");
  Put("b", "1");
  auto batch = store_->NewBatch();
  batch->PutState(table_, "c", "2");
  batch->DeleteState(table_, "a");
  batch->AppendOutput(testing::MakeRecord(stream_, store_->AppendEnd(), 4, 5));
  batch->ClearState(table_);
  batch->SetPart(false);
  batch->PutState(table_, "d", "2");
  ASSERT_TRUE(store_->Commit(std::move(batch)).ok());
  EXPECT_THAT(Rows(), ElementsAre("c=2", "d=2"));
  EXPECT_EQ(store_->ReadableEnd(), Offset(0));
  ASSERT_TRUE(store_->DropParts().ok());
  EXPECT_THAT(Rows(), ElementsAre("a=1", "b=1"));
}

TEST_F(PartsTest, AReplayBeginsWithWhatWasThereBeforeAndLeavesNothing) {
  const StateTableId replay = ReplayOf(table_);
  Put("a", "1");
  Put("b", "1");
  Part(false, 0, [&](StoreBatch& batch) {
    batch.PutState(table_, "a", "9");
    batch.PutState(table_, "c", "9");
  });
  EXPECT_THAT(Get(replay, {"a", "b", "c"}), ElementsAre("1", "1", std::nullopt));
  Part(false, 0, [&](StoreBatch& batch) {
    batch.PutState(replay, "a", "2");
    batch.DeleteState(replay, "b");
  });
  EXPECT_THAT(Get(replay, {"a", "b", "c"}), ElementsAre("2", std::nullopt, std::nullopt));
  EXPECT_THAT(Rows(replay), ElementsAre("a=2"));
  EXPECT_THAT(Rows(), ElementsAre("a=9", "b=1", "c=9"));
  Part(false, 0, [&](StoreBatch& batch) { batch.ClearState(replay); });
  EXPECT_THAT(Rows(replay), IsEmpty());
  Part(true, 0, [&](StoreBatch& batch) { batch.PutState(replay, "d", "3"); });
  EXPECT_THAT(Rows(), ElementsAre("a=9", "b=1", "c=9"));
  EXPECT_THAT(Rows(replay), ElementsAre("a=9", "b=1", "c=9"));
  Reopen();
  EXPECT_THAT(Rows(), ElementsAre("a=9", "b=1", "c=9"));
}

// Random changes of two tables, in parts and at once.
TEST_F(PartsTest, PartsLeaveWhatOneBatchWould) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const StateTableId other = *store_->OpenStateTable("other");
  std::map<std::pair<StateTableId, std::string>, std::string> expected;
  const auto check = [&](StateTableId table) {
    std::vector<std::string> rows;
    std::vector<std::string> keys;
    std::vector<std::optional<std::string>> values;
    for (char c = 'a'; c <= 'l'; ++c) {
      keys.emplace_back(1, c);
      const auto row = expected.find({table, keys.back()});
      values.push_back(row == expected.end() ? std::optional<std::string>() : row->second);
      if (values.back()) {
        rows.push_back(keys.back() + "=" + *values.back());
      }
    }
    ASSERT_EQ(Rows(table), rows);
    ASSERT_EQ(Get(table, keys), values);
  };
  for (int transaction = 0; transaction < 40; ++transaction) {
    for (uint64_t left = 1 + random() % 5; left > 0; --left) {
      Part(left == 1, 1, [&](StoreBatch& batch) {
        for (const StateTableId table : {table_, other}) {
          if (random() % 8 == 0) {
            batch.ClearState(table);
            std::erase_if(expected, [&](auto& row) { return row.first.first == table; });
          }
          for (uint64_t n = random() % 6; n > 0; --n) {
            const std::string key(1, static_cast<char>('a' + random() % 12));
            if (random() % 3 == 0) {
              batch.DeleteState(table, key);
              expected.erase({table, key});
            } else {
              const std::string row = std::to_string(random() % 1000);
              batch.PutState(table, key, row);
              expected[{table, key}] = row;
            }
          }
        }
      });
      check(table_);
      check(other);
    }
    if (transaction % 10 == 9) {
      Reopen();
      check(table_);
    }
  }
}

// The directory is copied at every write to the WAL: as a process leaves it that dies there, and as
// a machine leaves it whose power is cut there.
class PartsCrashTest : public PartsTest {
 protected:
  PartsCrashTest()
      : files_(std::make_shared<testing::NotingFileSystem>(sizes_)),
        env_(rocksdb::NewCompositeEnv(files_)) {
    options_.env = env_.get();
    files_->OnWalWrite([this] {
      if (is_copying_) {
        testing::CopyAfterCrash(dir_.path(), CopyPath("kill", copies_), nullptr);
        testing::CopyAfterCrash(dir_.path(), CopyPath("cut", copies_), &sizes_);
        ++copies_;
      }
    });
  }
  ~PartsCrashTest() override { store_.reset(); }

  std::string CopyPath(const std::string& kind, size_t n) const {
    return copies_dir_.path() + "/" + kind + std::to_string(n);
  }

  // Opens each copy; returns for each whether the transaction is there. Anything but all of it or
  // nothing is a failure.
  std::vector<bool> Survived(const std::string& kind, const std::vector<std::string>& before,
                             const std::vector<std::string>& after) {
    std::vector<bool> survived;
    for (size_t i = 0; i < copies_; ++i) {
      SCOPED_TRACE(CopyPath(kind, i));
      OpenOptions options;
      options.path = CopyPath(kind, i);
      // Twice: opening itself drops or merges.
      for (int open = 0; open < 2; ++open) {
        auto store = OpenRocksDbStore(options);
        EXPECT_TRUE(store.ok()) << store.status().ToString();
        if (!store.ok()) {
          break;
        }
        std::swap(store_, *store);
        const bool is_there = store_->ReadableEnd() != Offset(3);
        EXPECT_EQ(store_->ReadableEnd(), Offset(is_there ? 9 : 3));
        EXPECT_EQ(store_->AppendEnd(), store_->ReadableEnd());
        for (uint64_t at = 0; at < store_->ReadableEnd().value(); ++at) {
          EXPECT_TRUE(store_->ReadOutput(Offset(at)).ok()) << at;
        }
        EXPECT_EQ(store_->LoadSourceState()->position->end_lsn, Lsn(is_there ? 5 : 1));
        EXPECT_EQ(store_->LoadSourceState()->notes.contains("note"), is_there);
        EXPECT_EQ(Rows(), is_there ? after : before);
        EXPECT_EQ(Rows(ReplayOf(table_)), is_there ? after : before);
        if (open == 0) {
          survived.push_back(is_there);
        } else {
          EXPECT_EQ(survived.back(), is_there);
          const OutputRecord next = Append(1);
          ExpectRead(next.first, next);
        }
        std::swap(store_, *store);
      }
    }
    return survived;
  }

  testing::SyncedSizes sizes_;
  const std::shared_ptr<testing::NotingFileSystem> files_;
  const std::unique_ptr<rocksdb::Env> env_;
  const testing::TempDir copies_dir_;
  bool is_copying_ = false;
  size_t copies_ = 0;
};

TEST_F(PartsCrashTest, AnyMomentLeavesAllOfItOrNothing) {
  const std::string large(700'000, 'x');  // so that the merge takes several pieces
  Append(3, 1);
  for (const char* key : {"a", "b", "c"}) {
    Put(key, "1");
  }
  const std::vector<std::string> before = Rows();
  is_copying_ = true;
  Part(false, 2, [&](StoreBatch& batch) { batch.PutState(table_, "a", large + "2"); });
  Part(false, 2, [&](StoreBatch& batch) {
    batch.ClearState(table_);
    batch.PutState(table_, "b", large + "3");
    batch.PutState(table_, "d", large + "3");
  });
  Part(false, 0, [&](StoreBatch& batch) { batch.PutState(ReplayOf(table_), "b", "4"); });
  const size_t parts = copies_;
  Part(true, 2, [&](StoreBatch& batch) {
    batch.PutState(table_, "e", large + "5");
    batch.DeleteState(table_, "b");
    batch.SetNote({"note", "text"});
  });
  is_copying_ = false;
  const std::vector<std::string> after = {"d=" + large + "3", "e=" + large + "5"};
  EXPECT_EQ(Rows(), after);
  ASSERT_GT(copies_, parts + 3);  // the seal, the cleared tables, pieces of rows, the end

  const std::vector<bool> killed = Survived("kill", before, after);
  const std::vector<bool> cut = Survived("cut", before, after);
  for (size_t i = 0; i < copies_; ++i) {
    // A large write comes in several: the last of the seal's counts.
    EXPECT_LE(cut[i], killed[i]) << i;
    EXPECT_TRUE(i == 0 || (killed[i] >= killed[i - 1] && cut[i] >= cut[i - 1])) << i;
    EXPECT_TRUE(i >= parts || !killed[i]) << i;
  }
  EXPECT_TRUE(killed[copies_ - 4] && cut[copies_ - 4]);  // before most of the merge
}

TEST_F(PartsCrashTest, AnyMomentOfALargeRecordToo) {
  constexpr size_t kBytes = size_t{9} << 20;
  Append(3, 1);
  is_copying_ = true;
  Part(false, 0, [&](StoreBatch& batch) {
    batch.AppendOutput(testing::MakeLargeRecord(stream_, Offset(3), 2, 5, kBytes));
    batch.AppendOutput(testing::MakeRecord(stream_, Offset(5), 2, 5));
  });
  const size_t parts = copies_;
  EXPECT_GT(parts, 3U);  // its beginning, and pieces
  Part(true, 2, [&](StoreBatch& batch) {
    batch.PutState(table_, "a", "5");
    batch.SetNote({"note", "text"});
  });
  is_copying_ = false;
  const std::vector<bool> killed = Survived("kill", {}, {"a=5"});
  const std::vector<bool> cut = Survived("cut", {}, {"a=5"});
  for (size_t i = 0; i < copies_; ++i) {
    EXPECT_LE(cut[i], killed[i]) << i;
    EXPECT_TRUE(i >= parts || !killed[i]) << i;
  }
  EXPECT_TRUE(killed.back() && cut.back());
}

TEST_F(PartsCrashTest, DroppingIsAllOrNothingToo) {
  Append(3, 1);
  Put("a", "1");
  Part(false, 2, [&](StoreBatch& batch) { batch.PutState(table_, "b", "2"); });
  is_copying_ = true;
  ASSERT_TRUE(store_->DropParts().ok());
  is_copying_ = false;
  for (const char* kind : {"kill", "cut"}) {
    EXPECT_THAT(Survived(kind, {"a=1"}, {}), ::testing::Each(false));
  }
}

}  // namespace
}  // namespace millrace::storage
