// SPDX-License-Identifier: Apache-2.0
// Rows a second into a real Redis: redis_sink_benchmark redis://127.0.0.1:6379 [rows] [batch].
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "millrace/sinks/redis/redis_sink.h"
#include "millrace/sinks/testing/throughput.h"

int main(int argc, char** argv) {
  using namespace millrace;
  if (argc < 2) {
    std::fprintf(stderr, "usage: redis_sink_benchmark URL [ROWS] [BATCH]\n");
    return 2;
  }
  const size_t rows = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 500'000;
  const size_t batch = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 10'000;
  Result<redis::RedisUrl> url = redis::ParseRedisUrl(argv[1]);
  if (!url.ok()) {
    std::fprintf(stderr, "%s\n", url.status().ToString().c_str());
    return 2;
  }
  sinks::RedisOptions options;
  options.client.url = *url;
  options.writes = {{.stream = "enriched_engagements",
                     .command = sinks::RedisCommand::kXadd,
                     .key = *sinks::KeyTemplate::Parse("enriched_events:{content_type}"),
                     .maxlen = 100'000}};
  sinks::SinkContext context;
  context.pipeline = "benchmark";
  context.name = "live";
  context.instance_id = "benchmark";
  const StreamPtr stream = sinks::testing::EngagementStream();
  context.streams = {{stream->name, stream}};
  // A run begins without a position.
  const auto client = redis::RedisClient::Connect(options.client, {});
  if (client.ok()) {
    Buffer command;
    command.Append("DEL millrace:benchmark:live:position\r\n");
    (void)(*client)->Execute(command, 1, {}).ok();
  }
  sinks::RedisSink sink(std::move(options), std::move(context));
  return sinks::testing::MeasureThroughput(sink, rows, batch);
}
