// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/sink_threads.h"

#include <filesystem>
#include <thread>

#include <gtest/gtest.h>
#include <unistd.h>

#include "millrace/common/backoff.h"
#include "millrace/storage/rocksdb/rocksdb_store.h"
#include "millrace/telemetry/metrics.h"

namespace millrace::pipeline {
namespace {

using std::chrono::steady_clock;

constexpr const char* kConfig = R"(
pipeline: test
data_dir: ./data
source: {type: postgres, url: 'postgresql://localhost/x', tables: [public.content]}
streams:
  mirror: {from: public.content}
sinks:
  broken: {type: fake}
  stuck: {type: fake}
)";

// Hangs in Open() until it is stopped, or, if it is the broken one, until `breaks`.
class FakeSink : public sinks::Sink {
 public:
  FakeSink(bool is_broken, std::stop_token breaks)
      : is_broken_(is_broken), breaks_(std::move(breaks)) {}

  Result<sinks::SinkPosition> Open(std::stop_token stop) override {
    WaitUnlessStopped(std::chrono::hours(1), is_broken_ ? breaks_ : stop);
    return is_broken_ ? Internal("it broke") : Cancelled("stopped");
  }
  Status Deliver(const sinks::DeliveryBatch& /*batch*/, std::stop_token /*stop*/) override {
    return Status::Ok();
  }
  Result<std::optional<Offset>> ReadPosition() override { return std::optional<Offset>(); }
  void Close() override {}

 private:
  const bool is_broken_;
  const std::stop_token breaks_;
};

TEST(SinkThreadsTest, StopWaitsForNoOtherOnceASinkHasFailed) {
  const std::filesystem::path dir = std::filesystem::temp_directory_path() /
                                    ("millrace_sink_threads_" + std::to_string(getpid()));
  auto store = storage::OpenRocksDbStore({.path = dir});
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  const config::SinkTypeSpec spec{.type = "fake", .description = "", .fields = {}};
  config::Findings findings;
  const auto config = config::LoadPipelineConfig(
      kConfig, "test.yaml", {.sink_types = {spec}, .check_sql = {}, .read = {}}, findings);
  ASSERT_TRUE(config.has_value()) << findings.all().front().ToString();

  std::stop_source breaks;
  const sinks::SinkType type{
      .spec = spec,
      .uses = [](const config::Section&) { return std::vector<sinks::StreamUse>(); },
      .make = [&](const config::Section&,
                  const sinks::SinkContext& context) -> Result<std::unique_ptr<sinks::Sink>> {
        std::unique_ptr<sinks::Sink> sink =
            std::make_unique<FakeSink>(context.name == "broken", breaks.get_token());
        return sink;
      },
      .check = {}};
  telemetry::MetricsRegistry registry("test");
  telemetry::PipelineMetrics metrics(registry);
  const StreamBoard streams;
  const auto dead_letters = DeadLetters::Open(**store, {});
  ASSERT_TRUE(dead_letters.ok()) << dead_letters.status().ToString();
  std::stop_source failed;
  SinkThreads sinks(*config, {&type, &type}, **store, streams, **dead_letters, metrics,
                    telemetry::Logger(), [&](const Status& status) {
                      if (!status.ok()) {
                        failed.request_stop();
                      }
                    });
  std::set<std::string> at_fault;
  ASSERT_TRUE(sinks.Plan(StreamPlan(), at_fault).ok());
  sinks.Start();

  const auto start = steady_clock::now();
  std::jthread stop([&] { sinks.Stop(failed.get_token(), start + std::chrono::seconds(30)); });
  breaks.request_stop();
  stop.join();
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_TRUE(failed.stop_requested());
  store->reset();
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace millrace::pipeline
