// SPDX-License-Identifier: Apache-2.0
// Transactions in parts, batches that the engine commits in parts, and tables that are read again:
// the outputs are what one batch gives.
#include <map>
#include <random>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "millrace/pipeline/testing/random_changes.h"
#include "millrace/pipeline/testing/streams_fixture.h"

namespace millrace::pipeline::testing {
namespace {

using LargeTransactionsTest = StreamsTest;

TEST_F(LargeTransactionsTest, OutputsDoNotDependOnParts) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const std::vector<TestTransaction> transactions = RandomTransactions(seed, 12, 30);
    Open(std::to_string(seed) + "_whole");
    Run(transactions, 1);
    const std::vector<std::string> expected = Outputs("enriched");
    const std::vector<std::string> expected_mirror = Outputs("mirror");
    ASSERT_GT(expected.size(), 100U);

    const std::string name = std::to_string(seed) + "_parts";
    Open(name);
    std::mt19937_64 random(seed);
    for (const TestTransaction& transaction : transactions) {
      const uint64_t lsn = NextLsn(1);
      if (random() % 3 == 0) {  // some come whole in between
        Batches batches;
        batches.push_back(MakeBatch(std::span(&transaction, 1), lsn));
        RunBatches(std::move(batches));
        continue;
      }
      const Offset readable = store_->ReadableEnd();
      Batches parts = MakeParts(transaction, lsn, 5, random);
      if (parts.size() > 1 && random() % 2 == 0) {  // the source breaks off in between
        parts.resize(1 + random() % (parts.size() - 1));
        RunBatches(std::move(parts));
        EXPECT_EQ(store_->ReadableEnd(), readable);
        EXPECT_LT(confirmed_.end_lsn, Lsn(lsn));
        if (random() % 2 == 0) {
          Reopen(name);
          EXPECT_EQ(store_->AppendEnd(), readable);
        }
        parts = MakeParts(transaction, lsn, 5, random);
      }
      RunBatches(std::move(parts));
      EXPECT_EQ(confirmed_.end_lsn, Lsn(lsn));
      EXPECT_EQ(store_->ReadableEnd(), store_->AppendEnd());
    }
    ExpectSame(Outputs("enriched"), expected);
    ExpectSame(Outputs("mirror"), expected_mirror);
  }
}

TEST_F(LargeTransactionsTest, OutputsDoNotDependOnTheBoundsOfTheWriter) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const std::vector<TestTransaction> transactions = RandomTransactions(seed, 60);
    limits_ = {};
    Open(std::to_string(seed) + "_wide");
    Run(transactions, 1);
    const std::vector<std::string> expected = Outputs("enriched");
    const std::vector<std::string> expected_mirror = Outputs("mirror");

    limits_ = {.record_rows = 4, .record_bytes = 8192, .gathered_bytes = 1};
    Open(std::to_string(seed) + "_narrow");
    Run(transactions, 20);
    ExpectSame(Outputs("enriched"), expected);
    ExpectSame(Outputs("mirror"), expected_mirror);
  }
}

TEST_F(LargeTransactionsTest, ATransactionThatFitsARecordIsInOne) {
  limits_ = {.record_rows = 6};
  Run(RandomTransactions(3, 200), 50);
  std::map<uint64_t, size_t> rows;     // by end_lsn
  std::map<uint64_t, size_t> records;  // that hold rows of it
  size_t count = 0;
  for (Offset at(0); at < store_->ReadableEnd(); ++count) {
    const auto record = store_->ReadOutput(at);
    ASSERT_TRUE(record.ok()) << record.status().ToString();
    EXPECT_LE(record->end.value() - record->first.value(), 6U);
    std::set<uint64_t> seen;
    for (const OutputBatchPtr& batch : record->batches) {
      for (size_t row = 0; row < batch->row_count(); ++row) {
        const uint64_t lsn = batch->VersionOf(row).end_lsn.value();
        records[lsn] += seen.insert(lsn).second ? 1 : 0;
        ++rows[lsn];
      }
    }
    at = record->end;
  }
  size_t larger = 0;
  for (const auto& [lsn, n] : rows) {
    larger += n > 6 ? 1 : 0;
    EXPECT_TRUE(n > 6 || records[lsn] == 1) << lsn;
  }
  EXPECT_GT(larger, 0U);
  EXPECT_LT(count, rows.size());  // small ones share a record
}

TEST_F(LargeTransactionsTest, TransactionsAreWholeHoweverMuchTheirBatchMakes) {
  limits_ = {.record_rows = 6, .gathered_bytes = 1};
  std::vector<TestTransaction> transactions;
  for (int64_t id = 1; id <= 40; ++id) {
    transactions.push_back(
        {Content(id, "title"), Event(id, "play", id), Event(100 + id, "play", 1)});
  }
  Run(transactions, 40);
  for (Offset at(0); at < store_->ReadableEnd();) {
    const auto record = store_->ReadOutput(at);
    ASSERT_TRUE(record.ok()) << record.status().ToString();
    EXPECT_EQ(record->batches.size(), 2U);
    EXPECT_EQ((record->end.value() - record->first.value()) % 3, 0U);
    at = record->end;
  }
}

TEST_F(LargeTransactionsTest, ATruncateOfManyRowsIsCommittedInParts) {
  TestTransaction inserts;
  for (int64_t id = 1; id <= 20'000; ++id) {
    inserts.push_back(Event(id, "play", 0));
  }
  Run({inserts}, 1);
  limits_ = {.gathered_bytes = 100'000};
  Run({{Event(30'000, "play", 0), As(ChangeOp::kTruncate, Event(0, "", 0)), Event(7, "play", 0)}},
      1);
  const std::vector<std::string> outputs = Outputs("enriched");
  ASSERT_EQ(outputs.size(), 20'000U + 1 + 20'001 + 1);
  EXPECT_EQ(outputs[20'000], "1.1 upsert 30000 play -");
  EXPECT_EQ(outputs[20'001], "1.2 delete 1 play -");
  EXPECT_EQ(outputs[40'001], "1.2 delete 30000 play -");
  EXPECT_EQ(outputs[40'002], "1.3 upsert 7 play -");
  Run({{As(ChangeOp::kDelete, Event(8, "", 0)), As(ChangeOp::kDelete, Event(7, "", 0))}}, 1);
  EXPECT_EQ(Outputs("enriched").back(), "2.2 delete 7 play -");
  EXPECT_EQ(Outputs("enriched").size(), outputs.size() + 1);
}

// The places that outputs leave rows at, each `id address`; every place that is left was taken.
std::set<std::string> PlacesAfter(const std::vector<std::string>& outputs) {
  std::set<std::string> places;
  for (const std::string& line : outputs) {
    std::istringstream words(line);
    std::string version;
    std::string op;
    std::string id;
    std::string address;
    words >> version >> op >> id >> address;
    if (op == "moved" || op == "delete") {
      EXPECT_EQ(places.erase(id + " " + address), 1U) << line;
    } else {
      places.insert(id + " " + address);
    }
  }
  return places;
}

TEST_F(LargeTransactionsTest, ReadingTablesAgainSweepsWhatWasMissed) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomChanges changes(seed);
    changes.ReadTablesAgain();
    std::vector<TestTransaction> transactions = changes.Transactions(40, 6);
    while (changes.is_reading()) {
      transactions.push_back(changes.Transactions(1, 6).front());
    }
    Open(std::to_string(seed) + "_one");
    Run(transactions, 1);
    const std::vector<std::string> expected = Outputs("enriched");
    const std::vector<std::string> expected_mirror = Outputs("mirror");
    std::set<std::string> places;
    for (const auto& [id, kind] : changes.events()) {
      if (kind != "hidden") {
        places.insert(std::to_string(id) + " " + kind);
      }
    }
    EXPECT_EQ(PlacesAfter(expected), places);
    std::set<int64_t> mirrored;
    for (const std::string& line : expected_mirror) {
      std::istringstream words(line);
      std::string version;
      std::string op;
      int64_t id = 0;
      words >> version >> op >> id;
      op == "delete" ? mirrored.erase(id) : mirrored.insert(id).second;
    }
    std::set<int64_t> contents;
    for (const auto& [id, title] : changes.contents()) {
      contents.insert(id);
    }
    EXPECT_EQ(mirrored, contents);

    Open(std::to_string(seed) + "_many");
    Run(transactions, 9);
    ExpectSame(Outputs("enriched"), expected);
    ExpectSame(Outputs("mirror"), expected_mirror);

    limits_ = {.record_rows = 4, .gathered_bytes = 1};
    const std::string name = std::to_string(seed) + "_parts";
    Open(name);
    std::mt19937_64 random(seed);
    for (const TestTransaction& transaction : transactions) {
      const uint64_t lsn = NextLsn(1);
      Batches parts = MakeParts(transaction, lsn, 3, random);
      if (parts.size() > 1 && random() % 3 == 0) {
        parts.resize(parts.size() - 1);
        RunBatches(std::move(parts));
        if (random() % 3 == 0) {
          Reopen(name);
        }
        parts = MakeParts(transaction, lsn, 3, random);
      }
      RunBatches(std::move(parts));
    }
    limits_ = {};
    ExpectSame(Outputs("enriched"), expected);
    ExpectSame(Outputs("mirror"), expected_mirror);
  }
}

TEST_F(LargeTransactionsTest, ASweepOfManyRowsIsCommittedInParts) {
  TestTransaction inserts;
  for (int64_t id = 1; id <= 20'000; ++id) {
    inserts.push_back(Event(id, "play", 0));
  }
  Run({inserts}, 1);
  limits_ = {.gathered_bytes = 100'000};
  Run({{As(ChangeOp::kReadAgainBegin, Event(0, "", 0)), As(ChangeOp::kRead, Event(7, "pause", 0))},
       {As(ChangeOp::kRead, Event(9, "play", 0)), As(ChangeOp::kReadAgainEnd, Event(0, "", 0))}},
      1);
  const std::vector<std::string> outputs = Outputs("enriched");
  ASSERT_EQ(outputs.size(), 20'000U + 2 + 1 + 19'998);
  EXPECT_EQ(outputs[20'000], "1.2 moved 7 play -");
  EXPECT_EQ(outputs[20'001], "1.2 read 7 pause -");
  EXPECT_EQ(outputs[20'002], "2.1 read 9 play -");
  EXPECT_EQ(outputs[20'003], "2.2 delete 1 play -");
  EXPECT_EQ(outputs.back(), "2.2 delete 20000 play -");
}

// The row's reading is left out for its change, which does not repeat the large value.
TEST_F(LargeTransactionsTest, ASweepKeepsWhatAChangeLeftOut) {
  const std::string wide(3'000, 'w');
  Run({{Event(1, wide, 0)}, {Event(2, wide, 0)}}, 1);
  Run({{As(ChangeOp::kReadAgainBegin, Event(0, "", 0))},
       {As(ChangeOp::kUpdate, Event(1, "<toast>", 0))},
       {As(ChangeOp::kReadAgainEnd, Event(0, "", 0))},
       {As(ChangeOp::kUpdate, Event(1, "<toast>", 0))}},
      1);
  const std::vector<std::string> outputs = Outputs("enriched");
  ASSERT_EQ(outputs.size(), 5U);
  EXPECT_EQ(outputs[2], "3.1 upsert 1 " + wide + " -");
  EXPECT_EQ(outputs[3], "4.1 delete 2 " + wide + " -");
  EXPECT_EQ(outputs[4], "5.1 upsert 1 " + wide + " -");
}

}  // namespace
}  // namespace millrace::pipeline::testing
