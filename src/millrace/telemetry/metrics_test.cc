// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/metrics.h"

#include <set>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace::telemetry {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(MetricsRegistry, RendersPrometheusText) {
  MetricsRegistry registry("engagement");
  registry.GetCounter(metric::kSourceEvents, {"update"}).Increment(2);
  registry.GetCounter(metric::kSourceEvents, {"insert"}).Increment(3);
  registry.GetCounter(metric::kSourceEvents, {"insert"}).Increment(4);
  registry.GetGauge(metric::kReady).Set(1);
  const std::string text = registry.RenderText();
  EXPECT_THAT(
      text,
      HasSubstr("# HELP millrace_source_events_total Row changes read from the source, by insert, "
                "update, delete, truncate and read.\n"
                "# TYPE millrace_source_events_total counter\n"
                "millrace_source_events_total{pipeline=\"engagement\",op=\"insert\"} 7\n"
                "millrace_source_events_total{pipeline=\"engagement\",op=\"update\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE millrace_ready gauge\n"
                              "millrace_ready{pipeline=\"engagement\"} 1\n"));
  EXPECT_LT(text.find("millrace_ready"), text.find("millrace_source_events_total"));
}

TEST(MetricsRegistry, HistogramsHaveTheirBuckets) {
  MetricsRegistry registry("p");
  const Histogram rows = registry.GetHistogram(metric::kBatchRows);
  rows.Observe(3);
  rows.Observe(5000);
  const std::string text = registry.RenderText();
  EXPECT_THAT(text, HasSubstr("millrace_batch_rows_count{pipeline=\"p\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("millrace_batch_rows_sum{pipeline=\"p\"} 5003\n"));
  EXPECT_THAT(text, HasSubstr("millrace_batch_rows_bucket{pipeline=\"p\",le=\"1\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("millrace_batch_rows_bucket{pipeline=\"p\",le=\"4\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("millrace_batch_rows_bucket{pipeline=\"p\",le=\"+Inf\"} 2\n"));
}

TEST(MetricsRegistry, ShowsTheProcess) {
  const std::string text = MetricsRegistry("p").RenderText();
  EXPECT_THAT(text, HasSubstr("# TYPE process_cpu_seconds_total counter\n"));
  EXPECT_THAT(text, HasSubstr("process_resident_memory_bytes{pipeline=\"p\"} "));
  EXPECT_THAT(text, HasSubstr("process_start_time_seconds{pipeline=\"p\"} "));
  EXPECT_THAT(text, HasSubstr("process_open_fds{pipeline=\"p\"} "));
}

TEST(MetricsRegistry, LabelValuesAreEscaped) {
  MetricsRegistry registry("p");
  registry.GetCounter(metric::kSinkRows, {"a\"b\\c\nd"}).Increment();
  EXPECT_THAT(registry.RenderText(), HasSubstr(R"(sink="a\"b\\c\nd"} 1)"));
}

TEST(MetricsRegistry, LabelValuesAreBounded) {
  MetricsRegistry registry("p");
  for (size_t i = 0; i < MetricsRegistry::kChildrenMax + 3; ++i) {
    registry.GetCounter(metric::kSinkErrors, {std::to_string(i), "internal"}).Increment();
  }
  const std::string text = registry.RenderText();
  EXPECT_THAT(text, HasSubstr("{pipeline=\"p\",code=\"internal\",sink=\"499\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("sink=\"500\"")));
  EXPECT_THAT(text, HasSubstr("{pipeline=\"p\",code=\"other\",sink=\"other\"} 3\n"));
}

TEST(MetricsRegistry, CountsFromManyThreads) {
  MetricsRegistry registry("p");
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&registry] {
        for (int i = 0; i < 1000; ++i) {
          registry.GetCounter(metric::kSinkRows, {"s"}).Increment();
        }
      });
    }
  }
  EXPECT_THAT(registry.RenderText(),
              HasSubstr("sink_rows_total{pipeline=\"p\",sink=\"s\"} 4000\n"));
}

TEST(MetricsRegistryDeathTest, WrongUseAborts) {
  MetricsRegistry registry("p");
  EXPECT_DEATH(registry.GetCounter(metric::kReady), "broken invariant");
  EXPECT_DEATH(registry.GetCounter(metric::kSinkErrors, {"only one"}), "broken invariant");
}

TEST(MetricTable, FollowsTheNamingRules) {
  std::set<std::string_view> names;
  for (const MetricSpec* spec : kAllMetrics) {
    EXPECT_TRUE(names.insert(spec->name).second) << spec->name;
    EXPECT_THAT(std::string(spec->name), testing::MatchesRegex("(millrace|process)_[a-z_]+"));
    EXPECT_EQ(spec->type == MetricType::kCounter, spec->name.ends_with("_total")) << spec->name;
    EXPECT_EQ(spec->type == MetricType::kHistogram, spec->buckets != MetricBuckets::kNone)
        << spec->name;
    EXPECT_TRUE(spec->help.ends_with(".")) << spec->name;
    EXPECT_NE(spec->question.find('?'), std::string_view::npos) << spec->name;
  }
}

}  // namespace
}  // namespace millrace::telemetry
