// SPDX-License-Identifier: Apache-2.0
//
// One million rows of 17 columns through ClickHouseSink into the server at
// MILLRACE_TEST_CLICKHOUSE_URL, in deliveries of 100,000: rows a second, and our CPU seconds.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <sys/resource.h>

#include "benchmarks/micro/engagement_rows.h"
#include "millrace/sinks/clickhouse/clickhouse_client.h"
#include "millrace/sinks/clickhouse/clickhouse_sink.h"

namespace millrace::benchmarks {
namespace {

using sinks::clickhouse::ClickHouseClient;
using sinks::clickhouse::ClickHouseOptions;
using sinks::clickhouse::ClickHouseSink;

constexpr int kDeliveries = 10;
constexpr size_t kRowsEach = 100'000;

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Status Run(const std::string& url, bool append_only) {
  ClickHouseOptions options;
  MR_ASSIGN_OR_RETURN(options.http.url, http::ParseHttpUrl(url));
  options.database = "millrace_bench";
  options.tables = {{.stream = "enriched_engagements", .table = "enriched_engagements"}};
  options.tables[0].order_by = {{"event_ts", "content_id", "event_id"}};
  MR_ASSIGN_OR_RETURN(auto client, ClickHouseClient::Make(options.http));
  MR_RETURN_IF_ERROR(client->Execute("DROP DATABASE IF EXISTS millrace_bench", {}));

  sinks::testing::MemoryDeliveryLog log;
  sinks::SinkContext context;
  context.instance_id = std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
  const StreamPtr stream = EngagementStream(append_only);
  context.streams[stream->name] = stream;
  context.delivery_log = &log;
  MR_ASSIGN_OR_RETURN(auto sink, ClickHouseSink::Make(options, context));
  MR_ASSIGN_OR_RETURN(const auto position, sink->Open({}));
  if (position.delivered.has_value()) {
    return Internal("the target is not empty");
  }
  sinks::testing::OutputWriter writer;
  std::vector<sinks::DeliveryBatch> deliveries;
  for (int i = 0; i < kDeliveries; ++i) {
    std::vector<OutputBatchPtr> batches;
    for (size_t rows = 0; rows < kRowsEach; rows += 10'000) {
      batches.push_back(EngagementRows(writer, stream, 10'000));
    }
    deliveries.push_back(sinks::testing::MakeDelivery(batches));
  }
  const double cpu = CpuSeconds();
  const auto begin = std::chrono::steady_clock::now();
  for (const sinks::DeliveryBatch& delivery : deliveries) {
    MR_RETURN_IF_ERROR(sink->Deliver(delivery, {}));
  }
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  MR_ASSIGN_OR_RETURN(
      const auto rows,
      client->Select("SELECT toString(count()) FROM millrace_bench.enriched_engagements", {}));
  fmt::print("{}: {} rows in {:.2f} s: {:.0f} rows/s, {:.2f} CPU s of ours\n",
             append_only ? "MergeTree" : "ReplacingMergeTree", rows[0][0], wall.count(),
             kDeliveries * kRowsEach / wall.count(), CpuSeconds() - cpu);
  return client->Execute("DROP DATABASE millrace_bench", {});
}

}  // namespace
}  // namespace millrace::benchmarks

int main() {
  const char* url = std::getenv("MILLRACE_TEST_CLICKHOUSE_URL");
  if (url == nullptr) {
    std::fprintf(stderr, "MILLRACE_TEST_CLICKHOUSE_URL is not set\n");
    return 2;
  }
  for (const bool append_only : {true, false}) {
    if (const millrace::Status status = millrace::benchmarks::Run(url, append_only); !status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      return 1;
    }
  }
  return 0;
}
