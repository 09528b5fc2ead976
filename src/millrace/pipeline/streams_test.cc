// SPDX-License-Identifier: Apache-2.0
// What streams make of changes, on the real store and the real SQL engine: the same transactions in
// batches of any size give the same outputs.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/pipeline/testing/random_changes.h"
#include "millrace/pipeline/testing/streams_fixture.h"

namespace millrace::pipeline::testing {
namespace {

using ::testing::ElementsAre;

TEST_F(StreamsTest, EventsSeeTheirOwnCommitAndNothingLater) {
  Run({{Content(1, "one")},
       {Event(10, "play", 1), As(ChangeOp::kUpdate, Content(1, "two")), Event(11, "play", 1)},
       {Event(12, "play", 1)},
       {As(ChangeOp::kUpdate, Content(1, "three"))},
       {Event(13, "play", 1), Event(14, "play", 9), Event(15, "play", 0)},
       {As(ChangeOp::kDelete, Content(1, ""))},
       {Event(16, "play", 1)}},
      7);
  EXPECT_THAT(Outputs("enriched"),
              ElementsAre("1.1 upsert 10 play two", "1.3 upsert 11 play two",
                          "2.1 upsert 12 play two", "4.1 upsert 13 play three",
                          "4.2 upsert 14 play -", "4.3 upsert 15 play -", "6.1 upsert 16 play -"));
}

TEST_F(StreamsTest, UpdatesAndDeletesAddressTheRowWhereItWas) {
  Run({{Event(1, "play", 0), Event(2, "play", 0), Event(3, "hidden", 0)},
       {As(ChangeOp::kUpdate, Event(1, "pause", 0))},
       {As(ChangeOp::kUpdate, Event(2, "hidden", 0)), As(ChangeOp::kUpdate, Event(3, "play", 0))},
       {As(ChangeOp::kDelete, Event(1, "", 0)), As(ChangeOp::kDelete, Event(2, "", 0))},
       {{TestChange::Table::kEvents, ChangeOp::kUpdate, 30, "play", 0, 3}}},
      1);
  EXPECT_THAT(Outputs("enriched"),
              ElementsAre("0.1 upsert 1 play -", "0.2 upsert 2 play -", "1.1 moved 1 play -",
                          "1.1 upsert 1 pause -", "2.1 delete 2 play -", "2.2 upsert 3 play -",
                          "3.1 delete 1 pause -", "4.1 delete 3 play -", "4.1 upsert 30 play -"));
}

TEST_F(StreamsTest, TruncateDeletesStoredAndNewRows) {
  Run({{Event(1, "play", 0), Event(2, "pause", 0)}}, 1);
  Run({{Event(3, "play", 0), As(ChangeOp::kTruncate, Event(0, "", 0)), Event(4, "play", 0)}}, 1);
  EXPECT_THAT(Outputs("enriched"),
              ElementsAre("0.1 upsert 1 play -", "0.2 upsert 2 pause -", "1.1 upsert 3 play -",
                          "1.2 delete 1 play -", "1.2 delete 2 pause -", "1.2 delete 3 play -",
                          "1.3 upsert 4 play -"));
}

TEST_F(StreamsTest, UnchangedLargeValuesComeFromState) {
  const std::string large(5000, 'x');
  Run({{Event(1, large, 1)}, {Content(1, large)}}, 1);
  Run({{As(ChangeOp::kUpdate, Event(1, "<toast>", 0))},
       {As(ChangeOp::kUpdate, Event(1, "<toast>", 1)),
        As(ChangeOp::kUpdate, Content(1, "<toast>"))},
       {{TestChange::Table::kEvents, ChangeOp::kUpdate, 2, "<toast>", 1, 1}}},
      3);
  EXPECT_THAT(Outputs("enriched"),
              ElementsAre("0.1 upsert 1 " + large + " -", "2.1 upsert 1 " + large + " -",
                          "3.1 upsert 1 " + large + " " + large, "4.1 delete 1 " + large + " -",
                          "4.1 upsert 2 " + large + " " + large));
}

TEST_F(StreamsTest, OutputsDoNotDependOnBatches) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const std::vector<TestTransaction> transactions = RandomTransactions(seed, 120);
    std::vector<std::string> expected;
    std::vector<std::string> expected_mirror;
    for (const size_t batch_size : {size_t{1}, size_t{7}, transactions.size()}) {
      Open(std::to_string(seed) + "_" + std::to_string(batch_size));
      Run(transactions, batch_size);
      if (batch_size == 1) {
        expected = Outputs("enriched");
        expected_mirror = Outputs("mirror");
        ASSERT_GT(expected.size(), 100U);
      } else {
        ExpectSame(Outputs("enriched"), expected);
        ExpectSame(Outputs("mirror"), expected_mirror);
      }
    }
  }
}

TEST_F(StreamsTest, StateSurvivesReopening) {
  const std::vector<TestTransaction> transactions = RandomTransactions(9, 100);
  Run(transactions, 10);
  const std::vector<std::string> expected = Outputs("enriched");
  Open("reopened");
  Run({transactions.begin(), transactions.begin() + 50}, 10);
  Reopen("reopened");
  Run({transactions.begin() + 50, transactions.end()}, 10);
  ExpectSame(Outputs("enriched"), expected);
}

}  // namespace
}  // namespace millrace::pipeline::testing
