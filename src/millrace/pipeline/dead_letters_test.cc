// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/dead_letters.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "millrace/pipeline/dead_letter_desk.h"
#include "millrace/pipeline/sink_writer.h"
#include "millrace/storage/rocksdb/rocksdb_store.h"
#include "millrace/telemetry/metrics.h"

namespace millrace::pipeline {
namespace {

using storage::DeadLetterId;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

using Row = std::pair<int64_t, int64_t>;  // key and version

// A target that keeps every row in order, like a Redis stream, with its position; it outlives the
// sinks that write to it.
struct Target {
  std::vector<Row> rows;
  std::optional<Offset> position;
  std::set<int64_t> refused_keys;
  int failures = 0;  // so many deliveries are done, and say that they are not
};

class TargetSink : public sinks::Sink {
 public:
  explicit TargetSink(Target& target) : target_(target) {}

  Result<sinks::SinkPosition> Open(std::stop_token /*stop*/) override {
    return sinks::SinkPosition{.delivered = target_.position, .pending_end = {}};
  }
  Status Deliver(const sinks::DeliveryBatch& batch, std::stop_token /*stop*/) override {
    EXPECT_EQ(batch.first, target_.position.value_or(Offset(0)));
    std::vector<Row> rows;
    for (const sinks::OutputSlice& slice : batch.slices) {
      for (size_t row = slice.begin; row < slice.end; ++row) {
        const auto key = slice.batch->rows.column(0).Value<int64_t>(row);
        if (target_.refused_keys.contains(key)) {
          refused_.rows.emplace(Offset(slice.batch->first_offset.value() + row),
                                "column 'id': this key is not taken");
        }
        rows.emplace_back(key, slice.batch->rows.column(1).Value<int64_t>(row));
      }
    }
    if (!refused_.rows.empty()) {
      return InvalidArgument(refused_.rows.begin()->second);
    }
    target_.rows.insert(target_.rows.end(), rows.begin(), rows.end());
    target_.position = batch.end;
    return target_.failures-- > 0 ? Unavailable("the answer was lost") : Status::Ok();
  }
  sinks::RefusedRows TakeRefused() override { return std::exchange(refused_, {}); }
  Result<std::optional<Offset>> ReadPosition() override { return target_.position; }
  void Close() override {}

 private:
  Target& target_;
  sinks::RefusedRows refused_;
};

class DeadLettersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(dir_);
    Open();
    ASSERT_TRUE(store_->BeginStreaming({Epoch(0), Lsn(1)}, {}).ok());
    Stream stream;
    stream.name = "events";
    stream.columns = std::make_shared<Schema>(
        Schema{{"id", DataType(TypeKind::kInt64)}, {"n", DataType(TypeKind::kInt64)}});
    stream.key = {0};
    stream_ = store_->OpenStream(stream).value();
  }
  void TearDown() override {
    Close();
    std::filesystem::remove_all(dir_);
  }

  void Open() {
    store_ = storage::OpenRocksDbStore({.path = dir_.string()}).value();
    letters_ = DeadLetters::Open(*store_, limits_).value();
  }
  void Close() {
    letters_.reset();
    store_.reset();
  }
  void Reopen() {
    Close();
    Open();
  }

  // Appends rows to the output log, as one record.
  void Append(const std::vector<Row>& rows) {
    OutputBatch batch(stream_);
    batch.first_offset = store_->AppendEnd();
    ++lsn_;
    batch.transactions = {{.end_lsn = Lsn(lsn_), .commit_ts = 1000, .xid = Xid(1)}};
    for (const auto& [key, version] : rows) {
      batch.rows.column(0).Append(key);
      batch.rows.column(1).Append(version);
      batch.ops.push_back(OutputOp::kUpsert);
      batch.transaction.push_back(0);
      batch.ordinals.push_back(batch.ops.size());
    }
    OutputRecord record{.first = batch.first_offset,
                        .end = Offset(batch.first_offset.value() + rows.size()),
                        .position = {Epoch(0), Lsn(lsn_)},
                        .batches = {}};
    record.batches.push_back(std::make_shared<const OutputBatch>(std::move(batch)));
    auto write = store_->NewBatch();
    write->SetPosition(record.position);
    write->AppendOutput(std::move(record));
    ASSERT_TRUE(store_->Commit(std::move(write)).ok());
  }

  // Delivers all that is readable to `target`.
  Status Deliver(Target& target, const std::string& sink = "live", bool keeps = true,
                 const DeadLetters::NewestBy& newest_by = {}) {
    SinkWriter::Options options;
    options.name = sink;
    options.streams = {stream_->id};
    if (keeps) {
      options.dead_letter_streams = {stream_->id};
    }
    options.newest_by = newest_by;
    options.limits = {.rows_max = 4, .bytes_max = 1 << 20, .wait_max = {}};
    options.backoff = {std::chrono::milliseconds(1), std::chrono::milliseconds(1)};
    SinkWriter writer(options, std::make_unique<TargetSink>(target),
                      std::make_unique<StoredDeliveryLog>(*store_, sink), *store_, board_,
                      *letters_, metrics_, telemetry::Logger());
    std::stop_source drain;
    drain.request_stop();
    return writer.Run({}, drain.get_token());
  }

  // Ids and states.
  std::vector<std::pair<uint64_t, int>> Letters() {
    std::vector<std::pair<uint64_t, int>> letters;
    const auto page = letters_->List(DeadLetterId(), 1'000'000, "");
    for (const auto& named : page->letters) {
      letters.emplace_back(named.letter.id.value(), static_cast<int>(named.letter.state));
    }
    return letters;
  }
  DeadLetters::Outcome RetryAll() {
    const auto outcome = letters_->Retry({.ids = {}, .stream = "", .all = true}, {"live", "other"});
    EXPECT_TRUE(outcome.ok()) << outcome.status().ToString();
    EXPECT_TRUE(letters_->SendAgain({Epoch(0), Lsn(lsn_)}).ok());
    return *outcome;
  }

  static constexpr int kOpen = 1;
  static constexpr int kSuperseded = 4;

  const std::filesystem::path dir_ = std::filesystem::temp_directory_path() /
                                     ("millrace_dead_letters_" + std::to_string(getpid()));
  DeadLetters::Limits limits_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<DeadLetters> letters_;
  StreamBoard board_;
  telemetry::MetricsRegistry registry_{"test"};
  telemetry::PipelineMetrics metrics_{registry_};
  StreamPtr stream_;
  uint64_t lsn_ = 1;
};

// Case: 58.
TEST_F(DeadLettersTest, OthersAreDeliveredAndARetryComesOnceToItsSinkAlone) {
  Target live{.refused_keys = {2}};
  Target other;
  Append({{1, 1}, {2, 2}, {3, 3}});
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(live.rows, ElementsAre(Row{1, 1}, Row{3, 3}));
  EXPECT_THAT(Letters(), ElementsAre(Pair(1, kOpen)));
  EXPECT_THAT(letters_->CountByStream(), ElementsAre(Pair("events", 1)));

  Reopen();
  ASSERT_TRUE(Deliver(live).ok());
  live.refused_keys.clear();
  EXPECT_EQ(RetryAll().changed, 1u);
  Append({{4, 4}});
  ASSERT_TRUE(Deliver(live).ok());
  ASSERT_TRUE(Deliver(other, "other").ok());
  EXPECT_THAT(live.rows, ElementsAre(Row{1, 1}, Row{3, 3}, Row{2, 2}, Row{4, 4}));
  EXPECT_THAT(other.rows, ElementsAre(Row{1, 1}, Row{2, 2}, Row{3, 3}, Row{4, 4}));
  EXPECT_THAT(Letters(), IsEmpty());
}

TEST_F(DeadLettersTest, ARowThatIsRefusedAgainIsANewLetter) {
  Target live{.refused_keys = {2}};
  Append({{2, 2}});
  ASSERT_TRUE(Deliver(live).ok());
  RetryAll();
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(live.rows, IsEmpty());
  EXPECT_THAT(Letters(), ElementsAre(Pair(2, kOpen)));
}

// Case: 58.
TEST_F(DeadLettersTest, ARetryNeverOverwritesSomethingNewer) {
  Target live{.refused_keys = {2}};
  Append({{2, 1}});
  ASSERT_TRUE(Deliver(live).ok());
  live.refused_keys.clear();
  // The later row is in the log, and not delivered yet, when the retry is asked for.
  Append({{2, 5}});
  EXPECT_EQ(RetryAll().changed, 1u);
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(live.rows, ElementsAre(Row{2, 5}));
  EXPECT_THAT(Letters(), IsEmpty());
}

TEST_F(DeadLettersTest, ALaterRowSupersedesWhatWaitsForAnOperator) {
  Target live{.refused_keys = {2}};
  Append({{2, 1}});
  ASSERT_TRUE(Deliver(live).ok());
  live.refused_keys.clear();
  Append({{2, 5}});
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(Letters(), ElementsAre(Pair(1, kSuperseded)));
  Reopen();
  const DeadLetters::Outcome outcome = RetryAll();
  EXPECT_EQ(outcome.changed, 0u);
  EXPECT_EQ(outcome.superseded, 1u);
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(live.rows, ElementsAre(Row{2, 5}));
}

TEST_F(DeadLettersTest, ARowThatFollowsTheRetryIsDeliveredBehindIt) {
  Target live{.refused_keys = {2}};
  Append({{2, 1}});
  ASSERT_TRUE(Deliver(live).ok());
  live.refused_keys.clear();
  RetryAll();
  Append({{2, 5}});
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(live.rows, ElementsAre(Row{2, 1}, Row{2, 5}));
}

TEST_F(DeadLettersTest, RowsOfOtherKeysThatShareAnAddressSupersedeToo) {
  const DeadLetters::NewestBy newest_by = {{stream_->id, {{"n"}}}};
  Target live{.refused_keys = {2}};
  Append({{2, 7}});
  ASSERT_TRUE(Deliver(live, "live", true, newest_by).ok());
  Append({{3, 7}});
  ASSERT_TRUE(Deliver(live, "live", true, newest_by).ok());
  EXPECT_THAT(Letters(), ElementsAre(Pair(1, kSuperseded)));
}

TEST_F(DeadLettersTest, ATargetThatLostItsPositionGetsNothingTwice) {
  Target live{.refused_keys = {2}};
  Append({{1, 1}, {2, 2}, {3, 3}});
  ASSERT_TRUE(Deliver(live).ok());
  live.refused_keys.clear();
  RetryAll();
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(live.rows, ElementsAre(Row{1, 1}, Row{3, 3}, Row{2, 2}));
  // What it had acknowledged is gone, and the row would be taken now.
  live.rows.clear();
  live.position = Offset(0);
  Reopen();
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(live.rows, ElementsAre(Row{1, 1}, Row{3, 3}, Row{2, 2}));
}

TEST_F(DeadLettersTest, WithoutDeadLettersARefusedRowEndsTheRun) {
  Target live{.refused_keys = {2}};
  Append({{1, 1}, {2, 2}});
  const Status status = Deliver(live, "live", false);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("this key is not taken"));
  EXPECT_THAT(live.rows, IsEmpty());
  EXPECT_THAT(Letters(), IsEmpty());
}

TEST_F(DeadLettersTest, AFullQueueIsSaidAndLosesNothing) {
  limits_.letters = 2;
  Reopen();
  Append({{2, 1}, {2, 2}, {2, 3}});
  const sinks::DeliveryBatch batch{.first = Offset(0),
                                   .end = Offset(3),
                                   .position = {},
                                   .slices = {{store_->ReadOutput(Offset(0))->batches[0], 0, 3}}};
  const Status status =
      letters_->Keep("live", {}, batch, {{Offset(0), "no"}, {Offset(1), "no"}, {Offset(2), "no"}});
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("millrace dlq list"));
  EXPECT_THAT(Letters(), IsEmpty());
  EXPECT_THAT(letters_->LeftOut("live", Offset(0), Offset(9)), IsEmpty());
}

TEST_F(DeadLettersTest, IdsAreNotGivenAgain) {
  Target live{.refused_keys = {2}};
  Append({{2, 1}});
  ASSERT_TRUE(Deliver(live).ok());
  ASSERT_TRUE(letters_->Drop({.ids = {DeadLetterId(1)}, .stream = "", .all = false}).ok());
  Reopen();
  Append({{2, 2}});
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(Letters(), ElementsAre(Pair(2, kOpen)));
}

TEST_F(DeadLettersTest, WhatIsLeftOutIsForgottenWithTheLog) {
  Target live{.refused_keys = {2}};
  Append({{2, 1}});
  Append({{1, 1}});
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(letters_->LeftOut("live", Offset(0), Offset(9)), ElementsAre(Offset(0)));
  ASSERT_TRUE(store_->TruncateOutput(Offset(1)).ok());
  ASSERT_TRUE(letters_->ForgetBefore(store_->LogBegin()).ok());
  EXPECT_THAT(letters_->LeftOut("live", Offset(0), Offset(9)), IsEmpty());
  Reopen();
  EXPECT_THAT(letters_->LeftOut("live", Offset(0), Offset(9)), IsEmpty());
  EXPECT_THAT(Letters(), ElementsAre(Pair(1, kOpen)));
  // Its row is not in the log any more.
  live.refused_keys.clear();
  RetryAll();
  ASSERT_TRUE(Deliver(live).ok());
  EXPECT_THAT(live.rows, ElementsAre(Row{1, 1}, Row{2, 1}));
}

TEST_F(DeadLettersTest, TheDeskAnswersAnOperator) {
  Target live{.refused_keys = {2}};
  Append({{2, 1}});
  ASSERT_TRUE(Deliver(live).ok());
  int asked = 0;
  DeadLetterDesk desk(*letters_, {.sinks = {"live"}, .tables = {{"events", "public.events"}}},
                      [&] { ++asked; });
  const auto list = nlohmann::json::parse(*desk.Answer(R"({"do": "list"})"));
  EXPECT_EQ(list["letters"].size(), 1u);
  EXPECT_EQ(list["letters"][0]["table"], "public.events");
  EXPECT_FALSE(list["letters"][0].contains("row"));
  const auto show = nlohmann::json::parse(*desk.Answer(R"({"do": "show", "ids": [1]})"));
  EXPECT_EQ(show["letters"][0]["row"]["id"], 2);
  EXPECT_EQ(desk.Answer(R"({"do": "show", "ids": [9]})").status().code(), Code::kNotFound);
  EXPECT_EQ(desk.Answer(R"({"do": "drop"})").status().code(), Code::kInvalidArgument);
  EXPECT_EQ(desk.Answer("no").status().code(), Code::kInvalidArgument);
  EXPECT_EQ(*desk.Answer(R"({"do": "retry", "all": true})"), R"({"changed":1,"superseded":0})");
  EXPECT_EQ(asked, 1);
  EXPECT_TRUE(letters_->HasRetries());
}

// Each row is in the target once, in the order of its key, or is a letter, or a later row of its
// key made it void.
// Case: 58.
TEST_F(DeadLettersTest, NothingIsLostDoubledOrReordered) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    TearDown();
    SetUp();
    std::mt19937 random(seed);
    const auto below = [&](uint32_t n) { return static_cast<int64_t>(random() % n); };
    Target live;
    std::vector<Row> all;
    struct Kept {
      std::vector<Row> rows;
      std::optional<Offset> position;
    };
    std::vector<Kept> kept;  // what the target may fall back to
    for (int step = 0; step < 60; ++step) {
      switch (below(8)) {
        case 0:
          live.refused_keys = {below(5), below(5)};
          break;
        case 1:
          live.refused_keys.clear();
          RetryAll();
          break;
        case 2:
          Reopen();
          break;
        case 3:
          live.failures = 1;
          break;
        case 4:
          kept.push_back({live.rows, live.position});
          break;
        case 5:
          if (!kept.empty() && below(3) == 0) {
            live.rows = kept.back().rows;
            live.position = kept.back().position.value_or(Offset(0));
          }
          break;
        default:
          break;
      }
      std::vector<Row> rows;
      for (int64_t i = below(6) + 1; i > 0; --i) {
        all.emplace_back(below(5), static_cast<int64_t>(all.size()));
        rows.push_back(all.back());
      }
      Append(rows);
      if (below(3) != 0) {
        ASSERT_TRUE(Deliver(live).ok());
      }
    }
    ASSERT_TRUE(Deliver(live).ok());
    std::map<int64_t, int64_t> newest;
    for (const auto& [key, version] : live.rows) {
      const auto [known, is_first] = newest.emplace(key, version);
      EXPECT_TRUE(is_first || known->second < version) << key << ": " << version;
      known->second = version;
    }
    std::set<Row> there(live.rows.begin(), live.rows.end());
    const auto page = letters_->List(DeadLetterId(), 1'000'000, "");
    for (const auto& named : page->letters) {
      const OutputRecord row = letters_->ReadRow(named.letter.id).value();
      const RowBatch& values = row.batches[0]->rows;
      const Row letter{values.column(0).Value<int64_t>(0), values.column(1).Value<int64_t>(0)};
      EXPECT_TRUE(there.insert(letter).second) << "a letter that was delivered too";
      newest[letter.first] = std::max(newest[letter.first], letter.second);
    }
    for (const Row& row : all) {
      EXPECT_TRUE(there.contains(row) || newest[row.first] > row.second)
          << row.first << ": " << row.second;
    }
  }
}

}  // namespace
}  // namespace millrace::pipeline
