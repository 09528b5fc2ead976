// SPDX-License-Identifier: Apache-2.0
// Rows a second into a real Kafka: kafka_sink_benchmark 127.0.0.1:9092 [rows] [batch].
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include <unistd.h>

#include "millrace/sinks/kafka/kafka_sink.h"
#include "millrace/sinks/testing/throughput.h"

int main(int argc, char** argv) {
  using namespace millrace;
  if (argc < 2) {
    std::fprintf(stderr, "usage: kafka_sink_benchmark BROKERS [ROWS] [BATCH]\n");
    return 2;
  }
  const size_t rows = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 500'000;
  const size_t batch = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 10'000;
  sinks::KafkaSinkOptions options;
  options.kafka.brokers = argv[1];
  options.topics = {{.stream = "enriched_engagements",
                     .topic = "enriched_engagement_events",
                     .key = "content_id"}};
  sinks::SinkContext context;
  // A run begins without a position.
  context.pipeline = "benchmark" + std::to_string(getpid());
  context.name = "events";
  context.instance_id = "benchmark";
  const StreamPtr stream = sinks::testing::EngagementStream();
  context.streams = {{stream->name, stream}};
  sinks::KafkaSink sink(std::move(options), std::move(context));
  return sinks::testing::MeasureThroughput(sink, rows, batch);
}
