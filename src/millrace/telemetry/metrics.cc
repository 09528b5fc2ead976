// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/metrics.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "millrace/common/check.h"
#include "millrace/common/mutex.h"
#include "millrace/telemetry/process_stats.h"

namespace millrace::telemetry {
namespace {

std::vector<double> Bounds(MetricBuckets buckets) {
  switch (buckets) {
    case MetricBuckets::kSeconds:
      return {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
              0.25,   0.5,   1,      2.5,   5,    10,    30,   60};
    case MetricBuckets::kRows:
      return {1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144};
    case MetricBuckets::kNone:
      break;
  }
  return {};
}

size_t LabelCount(const MetricSpec& spec) {
  return static_cast<size_t>(
      std::count_if(spec.labels.begin(), spec.labels.end(), [](auto l) { return !l.empty(); }));
}

// The children of one metric by label values.
template <typename Metric>
struct Family {
  prometheus::Family<Metric>* family = nullptr;
  std::map<std::vector<std::string>, Metric*> children;
};

prometheus::MetricFamily MakeFamily(const MetricSpec& spec, const std::string& pipeline,
                                    double value) {
  prometheus::ClientMetric child;
  child.label = {{"pipeline", pipeline}};
  const bool is_counter = spec.type == MetricType::kCounter;
  (is_counter ? child.counter.value : child.gauge.value) = value;
  prometheus::MetricFamily family;
  family.name = spec.name;
  family.help = spec.help;
  family.type = is_counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
  family.metric.push_back(std::move(child));
  return family;
}

}  // namespace

void Counter::Increment(double by) const { metric_->Increment(by); }
void Gauge::Set(double value) const { metric_->Set(value); }
void Histogram::Observe(double value) const { metric_->Observe(value); }

struct MetricsRegistry::Rep {
  explicit Rep(std::string name) : pipeline(std::move(name)) {}

  // Constant after construction.
  const std::string pipeline;

  prometheus::Registry registry;
  Mutex mu;
  // Guarded by mu.
  std::map<std::string_view, Family<prometheus::Counter>> counters MR_GUARDED_BY(mu);
  std::map<std::string_view, Family<prometheus::Gauge>> gauges MR_GUARDED_BY(mu);
  std::map<std::string_view, Family<prometheus::Histogram>> histograms MR_GUARDED_BY(mu);

  // `build` makes the family; `args` are for the constructor of a child.
  template <typename Metric, typename Build, typename... Args>
  Metric* Get(std::map<std::string_view, Family<Metric>>& families, Build build,
              const MetricSpec& spec, std::initializer_list<std::string_view> values,
              const Args&... args) MR_REQUIRES(mu) {
    MR_CHECK(values.size() == LabelCount(spec));
    Family<Metric>& family = families[spec.name];
    if (family.family == nullptr) {
      family.family = &build()
                           .Name(std::string(spec.name))
                           .Help(std::string(spec.help))
                           .Labels({{"pipeline", pipeline}})
                           .Register(registry);
    }
    std::vector<std::string> key(values.begin(), values.end());
    auto child = family.children.find(key);
    if (child == family.children.end() && family.children.size() >= kChildrenMax) {
      key.assign(key.size(), "other");
      child = family.children.find(key);
    }
    if (child == family.children.end()) {
      prometheus::Labels labels;
      for (size_t i = 0; i < key.size(); ++i) {
        labels.emplace(spec.labels[i], key[i]);
      }
      child = family.children.emplace(std::move(key), &family.family->Add(labels, args...)).first;
    }
    return child->second;
  }
};

MetricsRegistry::MetricsRegistry(std::string pipeline)
    : rep_(std::make_unique<Rep>(std::move(pipeline))) {}

MetricsRegistry::~MetricsRegistry() = default;

Counter MetricsRegistry::GetCounter(const MetricSpec& spec,
                                    std::initializer_list<std::string_view> values) {
  MR_CHECK(spec.type == MetricType::kCounter);
  MutexLock lock(rep_->mu);
  return Counter(rep_->Get(rep_->counters, prometheus::BuildCounter, spec, values));
}

Gauge MetricsRegistry::GetGauge(const MetricSpec& spec,
                                std::initializer_list<std::string_view> values) {
  MR_CHECK(spec.type == MetricType::kGauge);
  MutexLock lock(rep_->mu);
  return Gauge(rep_->Get(rep_->gauges, prometheus::BuildGauge, spec, values));
}

Histogram MetricsRegistry::GetHistogram(const MetricSpec& spec,
                                        std::initializer_list<std::string_view> values) {
  MR_CHECK(spec.type == MetricType::kHistogram);
  MutexLock lock(rep_->mu);
  return Histogram(
      rep_->Get(rep_->histograms, prometheus::BuildHistogram, spec, values, Bounds(spec.buckets)));
}

std::string MetricsRegistry::RenderText() const {
  std::vector<prometheus::MetricFamily> families = rep_->registry.Collect();
  const ProcessStats process = ReadProcessStats();
  const auto add = [&](const MetricSpec& spec, double value) {
    families.push_back(MakeFamily(spec, rep_->pipeline, value));
  };
  add(metric::kProcessResidentMemory, static_cast<double>(process.resident_bytes));
  add(metric::kProcessCpuSeconds, process.cpu_seconds);
  add(metric::kProcessOpenFds, static_cast<double>(process.open_fds));
  add(metric::kProcessMaxFds, static_cast<double>(process.max_fds));
  add(metric::kProcessStartTime, process.start_time_seconds);
  for (prometheus::MetricFamily& family : families) {
    std::sort(family.metric.begin(), family.metric.end(),
              [](const auto& a, const auto& b) { return a.label < b.label; });
  }
  std::sort(families.begin(), families.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace millrace::telemetry
