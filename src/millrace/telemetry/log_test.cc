// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/log.h"

#include <limits>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "millrace/telemetry/log_backend.h"

namespace millrace::telemetry {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;

class LogTest : public testing::Test {
 protected:
  Logger Make(LogOptions options) {
    options.write = [this](LogLevel, const std::string& line) { lines_.push_back(line); };
    // 2026-11-22 17:39:01.123456 UTC.
    options.wall_clock = [] {
      return std::chrono::system_clock::time_point(std::chrono::microseconds(1795369141123456));
    };
    options.steady_clock = [this] { return now_; };
    return MakeLogger(std::move(options));
  }

  std::vector<std::string> lines_;
  std::chrono::steady_clock::time_point now_{seconds(1000)};
};

TEST_F(LogTest, TextIsTimeLevelSentenceFields) {
  const Logger log = Make({}).With("pipeline", "engagement");
  log.Info("Source opened", {{"slot", "millrace_engagement"}, {"lag_bytes", 1024}, {"ok", true}});
  log.Error("Sink write failed", {{"error", Unavailable("connection refused")}, {"wait_ms", 1.5}});
  EXPECT_THAT(lines_,
              ElementsAre("2026-11-22T17:39:01.123Z info  Source opened pipeline=engagement "
                          "slot=millrace_engagement lag_bytes=1024 ok=true",
                          "2026-11-22T17:39:01.123Z error Sink write failed pipeline=engagement "
                          "error=\"unavailable: connection refused\" wait_ms=1.5"));
}

TEST_F(LogTest, TextQuotesWhatWouldBeMisread) {
  const Logger log = Make({.has_prefix = false});
  log.Info("Quoting", {{"empty", ""}, {"quote", "a\"b"}, {"equals", "a=b"}, {"back", "a\\b"}});
  log.Info("Quoting", {{"lines", "a\nb\tc\rd"}, {"escape", "\x1b[31m"}, {"c1", "\xc2\x9b"}});
  log.Info("Quoting",
           {{"utf8", "Caf\xc3\xa9"}, {"broken", "\xff\xc3"}, {"zero", std::string(1, '\0')}});
  EXPECT_THAT(lines_,
              ElementsAre(R"(Quoting empty="" quote="a\"b" equals="a=b" back="a\\b")",
                          R"(Quoting lines="a\nb\tc\rd" escape="\x1b[31m" c1="\xc2\x9b")",
                          "Quoting utf8=\"Caf\xc3\xa9\" broken=\"\\xff\\xc3\" zero=\"\\x00\""));
}

TEST_F(LogTest, JsonKeepsNumbersAndEscapes) {
  const Logger log = Make({.format = LogFormat::kJson}).With("sink", "live");
  log.Info("Sink \"opened\"", {{"rows", 12},
                               {"rate", 0.25},
                               {"ok", false},
                               {"id", "12"},
                               {"nan", std::numeric_limits<double>::quiet_NaN()},
                               {"text", "a\n\xff"}});
  EXPECT_THAT(lines_,
              ElementsAre(R"({"time":"2026-11-22T17:39:01.123Z","level":"info",)"
                          R"("message":"Sink \"opened\"","sink":"live","rows":12,"rate":0.25,)"
                          R"("ok":false,"id":"12","nan":"nan","text":"a\n)"
                          "\xef\xbf\xbd\"}"));
  EXPECT_EQ(nlohmann::json::parse(lines_[0])["rows"], 12);
}

TEST_F(LogTest, LongValuesAreCut) {
  Make({.has_prefix = false}).Info("Long", {{"error", std::string(10000, 'x')}});
  EXPECT_EQ(lines_.at(0), "Long error=\"" + std::string(8192, 'x') + "... (10000 bytes)\"");
}

TEST_F(LogTest, DoublesAreShort) {
  const auto text = [](double v) { return LogField("f", v).value; };
  EXPECT_EQ(text(0), "0");
  EXPECT_EQ(text(100), "100");
  EXPECT_EQ(text(12.3456), "12.346");
  EXPECT_EQ(text(0.0000123), "1.23e-05");
  EXPECT_EQ(text(-std::numeric_limits<double>::infinity()), "-inf");
}

TEST_F(LogTest, LowerLevelsAreLeftOut) {
  const Logger log = Make({.level = LogLevel::kWarn, .has_prefix = false});
  log.Trace("A");
  log.Debug("B");
  log.Info("C");
  log.Warn("D");
  EXPECT_THAT(lines_, ElementsAre("D"));
}

TEST_F(LogTest, RepeatsAreHeldBackAndCounted) {
  const Logger log = Make({.has_prefix = false});
  for (int i = 0; i < 5; ++i) {
    log.Warn("Sink write failed", {{"attempt", i}});
  }
  now_ += milliseconds(9999);
  log.Warn("Sink write failed", {{"attempt", 5}});
  EXPECT_THAT(lines_, ElementsAre("Sink write failed attempt=0"));
  now_ += milliseconds(1);
  log.Warn("Sink write failed", {{"attempt", 6}});
  now_ += seconds(10);
  log.Warn("Sink write failed", {{"attempt", 7}});
  EXPECT_THAT(lines_,
              ElementsAre("Sink write failed attempt=0", "Sink write failed attempt=6 repeats=5",
                          "Sink write failed attempt=7"));
}

TEST_F(LogTest, RepeatsDifferByLevelSentenceAndBoundFields) {
  const Logger log = Make({.has_prefix = false});
  log.With("sink", "a").Warn("Failed");
  log.With("sink", "b").Warn("Failed");
  log.With("sink", "b").Warn("Failed");
  log.With("sink", "b").Error("Failed");
  log.With("sink", "b").Error("Gone");
  EXPECT_THAT(lines_,
              ElementsAre("Failed sink=a", "Failed sink=b", "Failed sink=b", "Gone sink=b"));
}

TEST_F(LogTest, InfoIsNeverHeldBack) {
  const Logger log = Make({.has_prefix = false});
  log.Info("Batch committed");
  log.Info("Batch committed");
  EXPECT_EQ(lines_.size(), 2u);
}

TEST_F(LogTest, TheMemoryOfRepeatsIsBounded) {
  const Logger log = Make({.has_prefix = false, .repeat_entries_max = 2});
  for (const char* sink : {"a", "b", "c", "c", "a"}) {
    log.With("sink", sink).Warn("Failed");
  }
  // No room for `c`: it is written each time rather than lost.
  EXPECT_THAT(lines_,
              ElementsAre("Failed sink=a", "Failed sink=b", "Failed sink=c", "Failed sink=c"));
  now_ += seconds(10);
  lines_.clear();
  for (const char* sink : {"c", "c"}) {
    log.With("sink", sink).Warn("Failed");
  }
  EXPECT_THAT(lines_, ElementsAre("Failed sink=c"));
}

TEST_F(LogTest, ManyThreadsWriteWholeLines) {
  const Logger log = Make({.has_prefix = false});
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&log, t] {
        for (int i = 0; i < 500; ++i) {
          log.Info("Line", {{"thread", t}});
          log.Warn("Held back", {{"thread", t}});
        }
      });
    }
  }
  size_t whole = 0;
  for (const std::string& line : lines_) {
    whole += line.size() == std::string_view("Line thread=0").size() ? 1 : 0;
  }
  EXPECT_EQ(whole, 2000u);
  EXPECT_EQ(lines_.size(), 2001u);
}

TEST(LoggerTest, CapturesEveryLevelWithoutPrefix) {
  std::vector<std::pair<LogLevel, std::string>> lines;
  const Logger log = MakeCapturingLogger(
      [&](LogLevel level, const std::string& line) { lines.emplace_back(level, line); });
  log.Trace("One", {{"a", 1}});
  log.Warn("Two");
  log.Warn("Two");
  EXPECT_THAT(lines,
              ElementsAre(std::pair(LogLevel::kTrace, "One a=1"), std::pair(LogLevel::kWarn, "Two"),
                          std::pair(LogLevel::kWarn, "Two")));
}

TEST(LoggerTest, WithoutBackendWritesNothing) {
  const Logger log;
  log.With("a", "b").Error("Nobody reads this");
}

TEST(LoggerTest, StderrGetsTheLine) {
  testing::internal::CaptureStderr();
  MakeStderrLogger(LogLevel::kInfo, LogFormat::kText).Info("Started", {{"pid", 1}});
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::MatchesRegex("[0-9-]+T[0-9:]+\\.[0-9][0-9][0-9]Z info  Started pid=1\n"));
}

}  // namespace
}  // namespace millrace::telemetry
