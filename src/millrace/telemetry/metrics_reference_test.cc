// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/telemetry/metrics.h"

namespace millrace::telemetry {
namespace {

TEST(MetricsReference, NamesEveryMetric) {
  const std::string page = RenderMetricsReference();
  for (const MetricSpec* spec : kAllMetrics) {
    EXPECT_THAT(page, testing::HasSubstr("| `" + std::string(spec->name) + "` |"));
  }
  EXPECT_THAT(page,
              testing::HasSubstr("| `millrace_sink_errors_total` | counter | `sink`, `code` |"));
}

// `millrace docs metrics > docs/reference/metrics.md` renews the page.
TEST(MetricsReference, ThePageInDocsIsFresh) {
  std::ifstream file(MILLRACE_SOURCE_DIR "/docs/reference/metrics.md");
  ASSERT_TRUE(file) << "docs/reference/metrics.md is missing";
  const std::string page{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  EXPECT_EQ(page, RenderMetricsReference());
}

}  // namespace
}  // namespace millrace::telemetry
