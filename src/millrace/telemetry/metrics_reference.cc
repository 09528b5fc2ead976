// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "millrace/telemetry/metrics.h"

namespace millrace::telemetry {
namespace {

std::string_view TypeName(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return "counter";
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kHistogram:
      return "histogram";
  }
  return "gauge";
}

}  // namespace

std::string RenderMetricsReference() {
  std::string page =
      "<!-- Made by `millrace docs metrics`; not edited by hand. -->\n"
      "# Metrics\n"
      "\n"
      "`GET /metrics` of the admin server gives these in Prometheus' text format. Every metric "
      "has\n"
      "the label `pipeline`; the labels below come on top. Histograms give `_bucket`, `_sum` and\n"
      "`_count`.\n"
      "\n"
      "| metric | type | labels | what it is | the question that it answers |\n"
      "| --- | --- | --- | --- | --- |\n";
  for (const MetricSpec* spec : kAllMetrics) {
    std::string labels;
    for (const std::string_view label : spec->labels) {
      if (!label.empty()) {
        labels += fmt::format("{}`{}`", labels.empty() ? "" : ", ", label);
      }
    }
    page += fmt::format("| `{}` | {} | {} | {} | {} |\n", spec->name, TypeName(spec->type), labels,
                        spec->help, spec->question);
  }
  return page;
}

}  // namespace millrace::telemetry
