// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/testing/example_config.h"

#include <utility>

namespace millrace::config::testing {

namespace {

constexpr const char* kEmbeddedHead = R"yaml(pipeline: engagement
data_dir: ./var/engagement

source:
  type: postgres
  url: ${env:DATABASE_URL}        # any libpq URI
  tables: [public.content, public.engagement_events]
  slot: millrace_engagement
  publication: millrace_engagement
  manage_publication: true
  snapshot: {mode: initial}
  heartbeat_interval: 10s
  confirm: stored
  on_slot_lost: stop

engine:
  type: duckdb
  batch: {max_rows: 16384, max_bytes: 8MiB, max_wait: 5ms}
)yaml";

constexpr const char* kDistributedHead = R"yaml(pipeline: engagement
log:    {type: kafka, brokers: 127.0.0.1:9092, topic_prefix: postgres, format: debezium_json, partitions: 12}
engine: {type: spark, remote: "sc://127.0.0.1:15002", checkpoint: /var/lib/millrace, trigger: 100ms}
source: {type: debezium, brokers: 127.0.0.1:9092, topic_prefix: postgres, tables: [public.content, public.engagement_events]}
)yaml";

constexpr const char* kStreamsAndSinks = R"yaml(
streams:
  content_dim: {from: public.content}
  enriched_engagements:
    from: public.engagement_events
    lookup: [public.content]
    key: [event_id]
    append_only: false
    on_error: dead_letter
    sql: |
      SELECT e.id AS event_id, c.title AS content_title
      FROM engagement_events AS e LEFT JOIN content AS c ON c.id = e.content_id
  top_engaging_content:
    from: enriched_engagements
    window: {hop: 10s, size: 10m, time: event_ts, lateness: 1m}
    emit: update
    key: [content_type, content_id]
    sql: SELECT content_type, content_id, sum(engagement_seconds) AS score FROM enriched_engagements GROUP BY ALL
  content_summary:
    from: enriched_engagements
    key: [content_id]
    sql: SELECT content_id, count(*) AS events FROM enriched_engagements GROUP BY ALL

sinks:
  warehouse:
    type: clickhouse
    url: http://user:${env:CH_PASSWORD}@127.0.0.1:8123
    database: app
    batch: {max_rows: 100000, max_wait: 200ms}
    tables:
      - {stream: content_dim}
      - {stream: enriched_engagements, order_by: [event_ts, content_id, event_id]}
  live:
    type: redis
    url: redis://127.0.0.1:6379
    writes:
      - {stream: enriched_engagements, xadd: "enriched_events:{content_type}", maxlen: 100000}
      - {stream: top_engaging_content, zadd: "top_engaging_content:{content_type}", member: content_id, score: score, top: 100, ttl: 10m}
      - {stream: content_summary, hset: "content_summary:{content_id}", ttl: 24h}
  events:
    type: kafka
    brokers: 127.0.0.1:9092
    topics:
      - {stream: enriched_engagements, topic: enriched_engagement_events, key: content_id, format: json}
admin:
  listen: 127.0.0.1:7070
  token: ${env:MILLRACE_TOKEN}
)yaml";

FieldSpec StreamField() {
  return {.name = "stream", .description = "The stream that is delivered.", .required = true};
}

}  // namespace

std::string EmbeddedExample() { return std::string(kEmbeddedHead) + kStreamsAndSinks; }

std::string DistributedExample() { return std::string(kDistributedHead) + kStreamsAndSinks; }

std::vector<SinkTypeSpec> ExampleSinkTypes() {
  FieldSpec url{.name = "url", .description = "The server.", .required = true, .secret = true};
  FieldSpec tables{
      .name = "tables",
      .type = FieldType::kSectionList,
      .description = "The streams, each with its table.",
      .required = true,
      .fields = {
          StreamField(),
          {.name = "table", .description = "The table's name."},
          {.name = "order_by", .type = FieldType::kStringList, .description = "The sorting key."},
          {.name = "partition_by", .description = "An expression."},
          {.name = "as", .type = FieldType::kStringMap, .description = "Column types."}}};
  FieldSpec writes{
      .name = "writes",
      .type = FieldType::kSectionList,
      .description = "The streams, each with what is written.",
      .required = true,
      .fields = {StreamField(),
                 {.name = "xadd", .description = "Key of a stream."},
                 {.name = "hset", .description = "Key of a hash."},
                 {.name = "zadd", .description = "Key of a sorted set."},
                 {.name = "member", .description = "A column."},
                 {.name = "score", .description = "A column."},
                 {.name = "top", .type = FieldType::kInteger, .description = "Members."},
                 {.name = "maxlen",
                  .type = FieldType::kInteger,
                  .description = "Entries that are kept.",
                  .min = 1},
                 {.name = "ttl", .type = FieldType::kDuration, .description = "Expiry."}}};
  FieldSpec topics{
      .name = "topics",
      .type = FieldType::kSectionList,
      .description = "The streams, each with its topic.",
      .required = true,
      .fields = {StreamField(),
                 {.name = "topic", .description = "The topic's name."},
                 {.name = "key", .type = FieldType::kStringList, .description = "Columns."},
                 {.name = "format",
                  .description = "How rows are written.",
                  .default_value = "json",
                  .one_of = {"json", "debezium_json"}}}};
  return {
      {.type = "clickhouse",
       .description = "ClickHouse.",
       .fields = {url, {.name = "database", .description = "The database."}, std::move(tables)},
       .batch_defaults = {100'000, uint64_t{64} << 20, std::chrono::milliseconds(200)}},
      {.type = "redis",
       .description = "Redis.",
       .fields = {url, std::move(writes)},
       .batch_defaults = {1'000, uint64_t{4} << 20, std::chrono::milliseconds(5)}},
      {.type = "kafka",
       .description = "Kafka.",
       .fields = {{.name = "brokers",
                   .type = FieldType::kStringList,
                   .description = "The brokers.",
                   .required = true},
                  std::move(topics)},
       .batch_defaults = {10'000, uint64_t{4} << 20, std::chrono::milliseconds(20)}},
  };
}

}  // namespace millrace::config::testing
