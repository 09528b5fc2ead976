// SPDX-License-Identifier: Apache-2.0
// KafkaSink against real brokers. MILLRACE_TEST_KAFKA_BROKERS names them; topics that begin with
// `mr-test-` are made.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "millrace/clients/kafka/kafka_admin.h"
#include "millrace/clients/kafka/testing/topic_dump.h"
#include "millrace/common/failpoint.h"
#include "millrace/sinks/kafka/kafka_sink.h"
#include "millrace/sinks/testing/test_rows.h"

namespace millrace::sinks {
namespace {

using kafka::testing::Record;
using testing::NumberedDelivery;
using testing::SmallContext;
using testing::SmallDelivery;
using testing::SmallStream;

class KafkaSinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* brokers = std::getenv("MILLRACE_TEST_KAFKA_BROKERS");
    ASSERT_NE(brokers, nullptr)
        << "MILLRACE_TEST_KAFKA_BROKERS is not set: name brokers that tests may write to";
    options_.kafka.brokers = brokers;
    options_.open_timeout = std::chrono::seconds(20);
    // Names that no earlier run has used.
    static int number = 0;
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    pipeline_ = "t" + std::to_string(now) + "x" + std::to_string(++number);
    topic_ = "mr-test-" + pipeline_;
    options_.topics = {{.stream = "events", .topic = topic_, .partitions = 2}};
  }

  std::unique_ptr<KafkaSink> MakeSink(const std::string& instance_id = "instance-1") {
    SinkContext context = SmallContext(pipeline_, stream_);
    context.instance_id = instance_id;
    return std::make_unique<KafkaSink>(options_, std::move(context));
  }
  static std::optional<Offset> OpenAt(KafkaSink& sink) {
    const Result<SinkPosition> position = sink.Open({});
    EXPECT_TRUE(position.ok()) << position.status().ToString();
    return position.ok() ? position->delivered : std::nullopt;
  }
  static void Deliver(KafkaSink& sink, const DeliveryBatch& batch) {
    const Status status = sink.Deliver(batch, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  std::vector<Record> Dump() {
    const auto records = kafka::testing::DumpTopic(options_.kafka, topic_, 2);
    EXPECT_TRUE(records.ok()) << records.status().ToString();
    return records.ok() ? *records : std::vector<Record>();
  }
  // How often each key is there.
  std::map<std::string, int> Counts() {
    std::map<std::string, int> counts;
    for (const Record& record : Dump()) {
      ++counts[record.key.value_or("")];
    }
    return counts;
  }
  void ExpectEachOnce(size_t n) {
    const std::map<std::string, int> counts = Counts();
    EXPECT_EQ(counts.size(), n);
    for (const auto& [key, count] : counts) {
      EXPECT_EQ(count, 1) << key;
    }
  }
  // A process that opens the sink, delivers rows [first, first + n) and dies at the failpoint.
  void CrashAt(const char* failpoint, uint64_t first, size_t n) {
    const pid_t child = fork();
    if (child == 0) {
      // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs in the child.
      setenv("MILLRACE_FAILPOINT", failpoint, 1);
      if (!failpoint::ArmFromEnvironment()) {
        _exit(3);
      }
      auto sink = MakeSink();
      if (!sink->Open({}).ok()) {
        _exit(4);
      }
      (void)sink->Deliver(NumberedDelivery(stream_, first, n), {}).ok();
      _exit(5);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  }

  KafkaSinkOptions options_;
  std::string pipeline_;
  std::string topic_;
  StreamPtr stream_ = SmallStream();
};

TEST_F(KafkaSinkTest, WritesRowsDeletesAndTombstones) {
  auto sink = MakeSink();
  EXPECT_EQ(OpenAt(*sink), std::nullopt);
  Deliver(*sink, SmallDelivery(stream_, 0,
                               {{7, "a", "x"},
                                {7, "a", std::nullopt, OutputOp::kMovedAway},
                                {7, std::nullopt, std::nullopt, OutputOp::kDelete}}));
  const std::vector<Record> records = Dump();
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[0].key, "7");
  EXPECT_EQ(records[0].value,
            R"({"id":7,"type":"a","note":"x","_version":"75557863725914323419137",)"
            R"("_commit_ts":"2023-11-14T22:13:20Z"})");
  EXPECT_EQ(records[1].value,
            R"({"id":7,"_version":"75557863725914323419139","_commit_ts":"2023-11-14T22:13:20Z",)"
            R"("_deleted":true})");
  EXPECT_EQ(records[2].key, "7");
  EXPECT_EQ(records[2].value, std::nullopt);
}

TEST_F(KafkaSinkTest, ResumesAtThePositionInKafka) {
  auto sink = MakeSink();
  EXPECT_EQ(OpenAt(*sink), std::nullopt);
  for (uint64_t i = 0; i < 300; i += 10) {
    Deliver(*sink, NumberedDelivery(stream_, i, 10));
  }
  EXPECT_EQ(*sink->ReadPosition(), Offset(300));
  sink->Close();
  auto next = MakeSink();
  EXPECT_EQ(OpenAt(*next), Offset(300));
  DeliveryBatch empty;
  empty.first = Offset(300);
  empty.end = Offset(310);
  Deliver(*next, empty);
  EXPECT_EQ(*next->ReadPosition(), Offset(310));
  ExpectEachOnce(300);
}

// Cases: 55.
TEST_F(KafkaSinkTest, CrashBeforeCommitShowsNothingAndLosesNothing) {
  CrashAt("kafka.before_commit", 0, 10);
  auto sink = MakeSink();
  EXPECT_EQ(OpenAt(*sink), std::nullopt);
  ExpectEachOnce(0);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  ExpectEachOnce(10);
}

// Cases: 55.
TEST_F(KafkaSinkTest, CrashAfterCommitDoublesNothing) {
  CrashAt("kafka.after_commit", 0, 10);
  auto sink = MakeSink();
  EXPECT_EQ(OpenAt(*sink), Offset(10));
  Deliver(*sink, NumberedDelivery(stream_, 10, 10));
  ExpectEachOnce(20);
}

// A commit whose answer is not waited for is settled by the next Open().
// Cases: 55.
TEST_F(KafkaSinkTest, CommitsOfUnknownOutcomeAreSettledByOpening) {
  constexpr int kTries = 60;
  uint64_t at = 0;
  int committed = 0;
  int aborted = 0;
  for (int i = 0; i < kTries; ++i) {
    options_.commit_timeout = std::chrono::milliseconds(i % 20);
    auto sink = MakeSink();
    ASSERT_EQ(OpenAt(*sink).value_or(Offset(0)), Offset(at));
    const Status status = sink->Deliver(NumberedDelivery(stream_, at, 5), {});
    if (status.ok()) {
      at += 5;
      continue;
    }
    ASSERT_EQ(status.code(), Code::kTimedOut) << status.ToString();
    sink = MakeSink();
    const uint64_t now = OpenAt(*sink).value_or(Offset(0)).value();
    ASSERT_TRUE(now == at || now == at + 5) << now << " after " << at;
    now == at ? ++aborted : ++committed;
    at = now;
  }
  EXPECT_GT(aborted, 0);
  RecordProperty("committed", committed);
  std::printf("%d of %d commits of unknown outcome had happened\n", committed, committed + aborted);
  ExpectEachOnce(at);
}

// Cases: 55.
TEST_F(KafkaSinkTest, ZombieIsFenced) {
  auto zombie = MakeSink();
  OpenAt(*zombie);
  Deliver(*zombie, NumberedDelivery(stream_, 0, 10));
  auto sink = MakeSink();
  EXPECT_EQ(OpenAt(*sink), Offset(10));
  const Status status = zombie->Deliver(NumberedDelivery(stream_, 10, 10), {});
  EXPECT_EQ(status.code(), Code::kFenced) << status.ToString();
  EXPECT_NE(status.message().find("another process"), std::string::npos) << status.message();
  Deliver(*sink, NumberedDelivery(stream_, 10, 10));
  ExpectEachOnce(20);
}

TEST_F(KafkaSinkTest, ATooLargeRowIsABadRowAndNothingElseIsSeen) {
  auto sink = MakeSink();
  OpenAt(*sink);
  const std::string large(2'000'000, 'x');
  const Status status =
      sink->Deliver(SmallDelivery(stream_, 0, {{1, "a", "x"}, {2, "a", large}}), {});
  EXPECT_EQ(status.code(), Code::kInvalidArgument) << status.ToString();
  EXPECT_NE(status.message().find("stream 'events'"), std::string::npos);
  ExpectEachOnce(0);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  ExpectEachOnce(10);
}

TEST_F(KafkaSinkTest, LargeRowsBelowTheLimitPass) {
  auto sink = MakeSink();
  OpenAt(*sink);
  const std::string large(1'000'000, 'x');
  Deliver(*sink, SmallDelivery(stream_, 0, {{1, "a", large}, {2, "a", large}, {3, "a", "x"}}));
  ExpectEachOnce(3);
}

// Cases: 55.
TEST_F(KafkaSinkTest, TransactionsAreSeenWhole) {
  auto sink = MakeSink();
  OpenAt(*sink);
  options_.topics[0].partitions = 2;
  std::jthread writer([&] {
    for (uint64_t i = 0; i < 60; ++i) {
      // One key, one partition: what is read there ends at the end of a transaction.
      Deliver(*sink, SmallDelivery(stream_, i * 3, {{1, "a", "x"}, {1, "b", "x"}, {1, "c", "x"}}));
    }
  });
  size_t seen = 0;
  while (seen < 180) {
    seen = Dump().size();
    ASSERT_EQ(seen % 3, 0U);
  }
}

// Cases: 55.
TEST_F(KafkaSinkTest, AnotherDataDirIsRefusedAndFencesNobody) {
  auto sink = MakeSink();
  OpenAt(*sink);
  Deliver(*sink, NumberedDelivery(stream_, 0, 10));
  auto other = MakeSink("instance-2");
  const Status status = other->Open({}).status();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_NE(status.message().find("another data_dir"), std::string::npos);
  Deliver(*sink, NumberedDelivery(stream_, 10, 1));
}

// A process that stands still for less and for more than its transaction may take: Kafka ends the
// transaction meanwhile, and its rows come once.
// Cases: 55.
TEST_F(KafkaSinkTest, OutagesShorterAndLongerThanATransactionMayTake) {
  options_.transaction_timeout = std::chrono::milliseconds(1'000);
  constexpr uint64_t kRows = 1'000;
  const pid_t child = fork();
  if (child == 0) {
    auto sink = MakeSink();
    int opened = 0;
    for (uint64_t at = 0; at < kRows; ++opened) {
      const Result<SinkPosition> position = sink->Open({});
      at = position.ok() ? position->delivered.value_or(Offset(0)).value() : at;
      while (position.ok() && at < kRows &&
             sink->Deliver(NumberedDelivery(stream_, at, 5), {}).ok()) {
        at += 5;
      }
    }
    _exit(opened);
  }
  for (const int outage_ms : {300, 2'500, 500, 2'500}) {
    using std::chrono::milliseconds;
    std::this_thread::sleep_for(milliseconds(400));  // tidy-ok: sleep, at any moment
    kill(child, SIGSTOP);
    std::this_thread::sleep_for(milliseconds(outage_ms));  // tidy-ok: sleep, it lasts so long
    kill(child, SIGCONT);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  // A transaction was ended by Kafka at least once.
  EXPECT_GT(WEXITSTATUS(status), 1);
  ExpectEachOnce(kRows);
}

// Cases: 55.
TEST_F(KafkaSinkTest, ThePositionOutlivesCompaction) {
  const std::string positions = "millrace-" + pipeline_ + "-live-positions";
  auto admin = kafka::KafkaAdmin::Make(options_.kafka, {});
  ASSERT_TRUE(admin.ok());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  ASSERT_TRUE((*admin)
                  ->EnsureTopics({{.name = positions,
                                   .partitions = 1,
                                   .replication_factor = -1,
                                   .settings = {{"cleanup.policy", "compact"},
                                                {"segment.ms", "100"},
                                                {"max.compaction.lag.ms", "100"},
                                                {"delete.retention.ms", "0"},
                                                {"min.cleanable.dirty.ratio", "0.01"}}}},
                                 deadline, {})
                  .ok());
  auto sink = MakeSink();
  OpenAt(*sink);
  uint64_t delivered = 0;
  const auto kept = [&] {
    const auto records = kafka::testing::DumpTopic(options_.kafka, positions, 1);
    return records.ok() ? records->size() : 0;
  };
  // Segments end, and are compacted, as others are written.
  do {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << kept() << " positions are kept";
    for (int i = 0; i < 40; ++i, delivered += 2) {
      Deliver(*sink, NumberedDelivery(stream_, delivered, 2));
    }
    // The broker does not tell when it has compacted.
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // tidy-ok: sleep, see above
  } while (kept() >= delivered / 2 / 2);
  EXPECT_EQ(*sink->ReadPosition(), Offset(delivered));
  auto next = MakeSink();
  EXPECT_EQ(OpenAt(*next), Offset(delivered));
  Deliver(*next, NumberedDelivery(stream_, delivered, 2));
  ExpectEachOnce(delivered + 2);
}

TEST_F(KafkaSinkTest, UnreachableBrokersAreUnavailable) {
  options_.kafka.brokers = "127.0.0.1:1";
  options_.open_timeout = std::chrono::milliseconds(500);
  EXPECT_EQ(MakeSink()->Open({}).status().code(), Code::kUnavailable);
}

TEST_F(KafkaSinkTest, StopUnblocksOpenWithinOneSecond) {
  options_.kafka.brokers = "127.0.0.1:1";
  std::stop_source stop;
  stop.request_stop();
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(MakeSink()->Open(stop.get_token()).status().code(), Code::kCancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(1));
}

}  // namespace
}  // namespace millrace::sinks
