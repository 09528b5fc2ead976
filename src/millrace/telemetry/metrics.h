// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "millrace/telemetry/metric_names.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace millrace::telemetry {

// Handles: cheap to copy, valid as long as the registry. Threads: any. Counters and gauges are one
// atomic number; Observe() takes a lock that is held for an addition: once a batch, not once a row.
class Counter {
 public:
  void Increment(double by = 1) const;

 private:
  friend class MetricsRegistry;
  explicit Counter(prometheus::Counter* metric) : metric_(metric) {}
  prometheus::Counter* metric_;
};

class Gauge {
 public:
  void Set(double value) const;

 private:
  friend class MetricsRegistry;
  explicit Gauge(prometheus::Gauge* metric) : metric_(metric) {}
  prometheus::Gauge* metric_;
};

class Histogram {
 public:
  void Observe(double value) const;

 private:
  friend class MetricsRegistry;
  explicit Histogram(prometheus::Histogram* metric) : metric_(metric) {}
  prometheus::Histogram* metric_;
};

// MetricsRegistry holds the numbers of one process and prints them as Prometheus' text format.
// Every metric has the label `pipeline`. At most kChildrenMax label values a metric: further ones
// count together under the value `other`.
//
// Threads: any.
class MetricsRegistry {
 public:
  static constexpr size_t kChildrenMax = 500;

  explicit MetricsRegistry(std::string pipeline);
  ~MetricsRegistry();
  MetricsRegistry(const MetricsRegistry&) = delete;
  MetricsRegistry& operator=(const MetricsRegistry&) = delete;

  // The metric with these values for spec.labels, made at the first call.
  // REQUIRES: the spec's type, and one value for each of its labels.
  Counter GetCounter(const MetricSpec& spec, std::initializer_list<std::string_view> values = {});
  Gauge GetGauge(const MetricSpec& spec, std::initializer_list<std::string_view> values = {});
  Histogram GetHistogram(const MetricSpec& spec,
                         std::initializer_list<std::string_view> values = {});

  // All metrics by name, those of the process included, which are read from /proc here.
  std::string RenderText() const;

 private:
  struct Rep;
  std::unique_ptr<Rep> rep_;
};

// docs/reference/metrics.md, whole.
std::string RenderMetricsReference();

}  // namespace millrace::telemetry
