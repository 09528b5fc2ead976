// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/pipeline_spec.h"

#include <utility>

namespace millrace::config {

namespace {

std::vector<FieldSpec> SnapshotFields() {
  return {
      {.name = "mode",
       .description = "`initial`: read each table once, beside the stream: at the first start, or "
                      "when it joins `tables`. `never`: stream changes only. `when_needed`: also "
                      "read them again after the slot was lost.",
       .default_value = "initial",
       .one_of = {"initial", "never", "when_needed"}},
      {.name = "parallelism",
       .type = FieldType::kInteger,
       .description = "Connections that read at the same time, over tables and within one.",
       .default_value = "1",
       .min = 1,
       .max = 64},
      {.name = "chunk_rows",
       .type = FieldType::kInteger,
       .description = "Rows of one chunk, which is read in a transaction of at most 10 s. A crash "
                      "costs what was read ahead of the stream: less than a chunk for each "
                      "connection.",
       .default_value = "50000",
       .min = 1,
       .max = 10'000'000}};
}

std::vector<FieldSpec> PostgresSourceFields() {
  return {
      {.name = "url",
       .description = "The database: a libpq URI or keyword list. The role needs REPLICATION and "
                      "SELECT on the tables.",
       .required = true,
       .secret = true},
      {.name = "slot",
       .description = "The replication slot; `millrace_<pipeline>` if not given. Made if missing."},
      {.name = "publication",
       .description = "The publication; `millrace_<pipeline>` if not given. Made, and altered to "
                      "match `tables`."},
      {.name = "manage_publication",
       .type = FieldType::kBoolean,
       .description = "`false`: a DBA made the publication; it is only checked.",
       .default_value = "true"},
      {.name = "capture_ddl",
       .type = FieldType::kBoolean,
       .description = "Changes of columns are followed exactly: event triggers write each ALTER "
                      "TABLE into the stream, and the server sends a transaction once it has "
                      "committed. Installed at the start by a superuser, or once by a DBA "
                      "(`millrace docs capture-ddl`).",
       .default_value = "false"},
      {.name = "snapshot",
       .type = FieldType::kSection,
       .description = "How rows that were there before the first start are read.",
       .fields = SnapshotFields()},
      {.name = "heartbeat_interval",
       .type = FieldType::kDuration,
       .description = "How often a logical message is written to the source, so that an idle "
                      "database holds no WAL and readiness is seen. `0`: never.",
       .default_value = "10s",
       .min = 0,
       .max = 86'400'000},
      {.name = "heartbeat_url",
       .description =
           "Where heartbeats are written if not to `url`: the primary, for a source that "
           "is a standby.",
       .secret = true},
      {.name = "confirm",
       .description =
           "When PostgreSQL may forget WAL. `stored`: data_dir has it. `delivered`: every "
           "sink has it. `backed_up`: the newest backup has it.",
       .default_value = "stored",
       .one_of = {"stored", "delivered", "backed_up"}},
      {.name = "on_slot_lost",
       .description = "When the server dropped WAL that the slot needs: `stop`, or read everything "
                      "again (`snapshot`).",
       .default_value = "stop",
       .one_of = {"stop", "snapshot"}},
      {.name = "discover",
       .type = FieldType::kBoolean,
       .description =
           "Take in new tables that match a pattern of `tables` while running; streams wait "
           "for theirs. `false`: at the next start.",
       .default_value = "false"},
  };
}

std::vector<FieldSpec> KafkaLogFields() {
  return {
      {.name = "brokers",
       .type = FieldType::kStringList,
       .description = "Kafka or Redpanda: `host:port`, one or several.",
       .required = true},
      {.name = "topic_prefix",
       .description = "What the names of the change topics begin with.",
       .required = true},
      {.name = "format",
       .description = "How changes are written in the topics.",
       .default_value = "debezium_json",
       .one_of = {"debezium_json"}},
  };
}

FieldSpec SourceField() {
  return {
      .name = "source",
      .type = FieldType::kSection,
      .description = "Where changes come from.",
      .required = true,
      .fields = {{.name = "type", .description = "The kind of source.", .required = true},
                 {.name = "tables",
                  .type = FieldType::kStringList,
                  .description = "The tables to read: `schema.table`, a bare name (of schema "
                                 "`public`), `\"Quoted\".\"Names\"`, or patterns such as "
                                 "`shop.*`.",
                  .required = true}},
      .variants = {{.name = "postgres",
                    .description = "PostgreSQL 14 and later, by logical replication (pgoutput).",
                    .fields = PostgresSourceFields()},
                   {.name = "debezium",
                    .description = "Topics that Debezium writes.",
                    .fields = KafkaLogFields()}}};
}

FieldSpec StorageField() {
  return {
      .name = "storage",
      .type = FieldType::kSection,
      .description = "State on disk, in `data_dir`.",
      .fields = {
          {.name = "max_bytes",
           .type = FieldType::kBytes,
           .description = "Size of the output log at which `on_full` of the slowest sink acts.",
           .default_value = "50GiB",
           .min = int64_t{16} << 20},
          {.name = "retain_time",
           .type = FieldType::kDuration,
           .description = "How long delivered output is kept, for a sink that lost writes it had "
                          "acknowledged.",
           .default_value = "10m",
           .min = 0},
          {.name = "retain_bytes",
           .type = FieldType::kBytes,
           .description = "How much delivered output is kept at most.",
           .default_value = "1GiB"},
          {.name = "cache",
           .type = FieldType::kBytes,
           .description = "Memory for reading state.",
           .default_value = "64MiB",
           .min = int64_t{1} << 20},
      }};
}

FieldSpec BackupField() {
  return {.name = "backup",
          .type = FieldType::kSection,
          .description = "Incremental copies of `data_dir`, from which another machine goes on.",
          .fields = {{.name = "to",
                      .type = FieldType::kPath,
                      .description = "The directory, on another disk.",
                      .required = true},
                     {.name = "every",
                      .type = FieldType::kDuration,
                      .description = "Time between two copies.",
                      .default_value = "5m",
                      .min = 1'000}}};
}

FieldSpec EngineField() {
  FieldSpec batch{
      .name = "batch",
      .type = FieldType::kSection,
      .description =
          "What closes a micro-batch; it ends at a transaction boundary unless the "
          "transaction exceeds the bounds.",
      .fields = {{.name = "max_rows",
                  .type = FieldType::kInteger,
                  .description = "Rows.",
                  .default_value = "16384",
                  .min = 1,
                  .max = 10'000'000},
                 {.name = "max_bytes",
                  .type = FieldType::kBytes,
                  .description = "Bytes of row values.",
                  .default_value = "8MiB",
                  .min = 1024},
                 {.name = "max_wait",
                  .type = FieldType::kDuration,
                  .description = "The longest that a busy engine gathers; an idle one starts at "
                                 "once.",
                  .default_value = "5ms",
                  .min = 0,
                  .max = 60'000}}};
  return {
      .name = "engine",
      .type = FieldType::kSection,
      .description = "What runs the SQL of the streams.",
      .fields = {{.name = "type", .description = "The kind of engine.", .default_value = "duckdb"},
                 std::move(batch),
                 {.name = "memory",
                  .type = FieldType::kBytes,
                  .description = "Memory that SQL may use.",
                  .default_value = "128MiB",
                  .min = int64_t{16} << 20}},
      .variants = {{.name = "duckdb", .description = "DuckDB inside of this process."},
                   {.name = "spark",
                    .description = "A Spark cluster, over Spark Connect.",
                    .fields = {{.name = "remote",
                                .description = "The Spark Connect server, `sc://host:port`.",
                                .required = true},
                               {.name = "checkpoint",
                                .description = "Where Spark keeps its checkpoints: a path or "
                                               "URL that every executor reaches.",
                                .required = true},
                               {.name = "trigger",
                                .type = FieldType::kDuration,
                                .description = "Time between two micro-batches.",
                                .default_value = "100ms",
                                .min = 0}}}}};
}

FieldSpec LogField() {
  std::vector<FieldSpec> fields = {
      {.name = "type", .description = "The kind of log.", .required = true, .one_of = {"kafka"}}};
  for (FieldSpec& field : KafkaLogFields()) {
    fields.push_back(std::move(field));
  }
  fields.push_back({.name = "partitions",
                    .type = FieldType::kInteger,
                    .description = "Partitions of a topic that is made.",
                    .default_value = "12",
                    .min = 1,
                    .max = 100'000});
  return {.name = "log",
          .type = FieldType::kSection,
          .description =
              "The change log between capture, transform and deliver processes. Not given: "
              "everything runs in one process.",
          .fields = std::move(fields)};
}

FieldSpec WindowField() {
  const auto duration = [](std::string name, std::string description) {
    return FieldSpec{.name = std::move(name),
                     .type = FieldType::kDuration,
                     .description = std::move(description),
                     .min = 1};
  };
  return {.name = "window",
          .type = FieldType::kSection,
          .description =
              "Event-time windows: exactly one of `hop`, `tumble` and `session`, and `time`.",
          .fields = {
              duration("hop", "A window of `size` begins every so often."),
              duration("tumble", "Windows of this length follow each other."),
              duration("session", "A window ends after so long without a row of its group."),
              duration("size", "The length of a hopping window."),
              {.name = "time", .description = "The column that holds the event time."},
              {.name = "lateness",
               .type = FieldType::kDuration,
               .description = "How far the watermark stays behind the greatest event time.",
               .default_value = "0s",
               .min = 0},
              {.name = "late",
               .description = "What becomes of a row whose window has closed.",
               .default_value = "drop",
               .one_of = {"drop", "dead_letter"}},
              {.name = "future",
               .type = FieldType::kDuration,
               .description =
                   "A row whose event time is more than this after its commit is treated like "
                   "a late one.",
               .default_value = "1m",
               .min = 0},
              duration("idle",
                       "After so long without rows, heartbeats move the watermark on. Not "
                       "given: never."),
          }};
}

FieldSpec StreamsField() {
  return {
      .name = "streams",
      .type = FieldType::kSectionMap,
      .description = "Keyed sequences of rows, by name: mirrors of tables and results of SQL.",
      .required = true,
      .fields = {
          {.name = "from",
           .description =
               "The table, or the stream, whose changes drive this stream. A bare name is "
               "a stream or a table of schema `public`.",
           .required = true},
          {.name = "lookup",
           .type = FieldType::kStringList,
           .description = "Reference tables, kept as state and joined as of each change's commit."},
          {.name = "key",
           .type = FieldType::kStringList,
           .description = "The output columns that address a row: plain columns of the driving "
                          "table's primary key, or the group columns of a total."},
          {.name = "sql",
           .description =
               "One SELECT over `from` and `lookup`. Not given: a mirror, every column."},
          {.name = "append_only",
           .type = FieldType::kBoolean,
           .description = "Rows are only inserted; an update or delete is a bad row.",
           .default_value = "false"},
          {.name = "on_error",
           .description = "What becomes of a row that a sink cannot take: `stop` the run, or keep "
                          "it as a `dead_letter` and go on. One that the SQL cannot take ends the "
                          "run.",
           .default_value = "stop",
           .one_of = {"stop", "dead_letter"}},
          {.name = "out_of_range",
           .description = "What becomes of a value that a target's type, or an expression, cannot "
                          "hold: a bad row (`error`), the nearest value (`clamp`), or `null`. Of a "
                          "key column it is a bad row always. docs/TYPES.md lists such values.",
           .default_value = "error",
           .one_of = {"error", "clamp", "null"}},
          {.name = "state_ttl",
           .type = FieldType::kDuration,
           .description = "State of a row goes after so much commit time without a change. A later "
                          "correction is a bad row. Not given: never.",
           .min = 1},
          {.name = "ttl",
           .type = FieldType::kDuration,
           .description =
               "A total's state goes after so much commit time without a change, without "
               "an output. Not given: never.",
           .min = 1},
          {.name = "emit",
           .description = "`update`: early results of a window, corrected later. `close`: final "
                          "results only.",
           .default_value = "update",
           .one_of = {"update", "close"}},
          WindowField(),
      }};
}

FieldSpec SinksField(const std::vector<SinkTypeSpec>& sink_types) {
  FieldSpec batch{.name = "batch",
                  .type = FieldType::kSection,
                  .description = "What closes a delivery. The defaults are the type's.",
                  .fields = {{.name = "max_rows",
                              .type = FieldType::kInteger,
                              .description = "Rows.",
                              .min = 1,
                              .max = 10'000'000},
                             {.name = "max_bytes",
                              .type = FieldType::kBytes,
                              .description = "Bytes of row values.",
                              .min = 1024},
                             {.name = "max_wait",
                              .type = FieldType::kDuration,
                              .description = "The longest that rows wait for company.",
                              .min = 0,
                              .max = 3'600'000}}};
  FieldSpec retry{.name = "retry",
                  .type = FieldType::kSection,
                  .description =
                      "The wait between two tries while the target cannot be reached; it "
                      "grows from the first to the second. Tries do not end.",
                  .fields = {{.name = "wait_min",
                              .type = FieldType::kDuration,
                              .description = "The first wait.",
                              .default_value = "100ms",
                              .min = 1,
                              .max = 3'600'000},
                             {.name = "wait_max",
                              .type = FieldType::kDuration,
                              .description = "The longest wait.",
                              .default_value = "30s",
                              .min = 1,
                              .max = 3'600'000}}};
  FieldSpec sinks{
      .name = "sinks",
      .type = FieldType::kSectionMap,
      .description = "Where rows are delivered, by name.",
      .required = true,
      .fields = {
          {.name = "type", .description = "The kind of sink.", .required = true},
          std::move(batch),
          std::move(retry),
          {.name = "on_full",
           .description = "When the output log is full because of this sink: `park` it (it "
                          "gives up its backlog and needs `millrace replay`), or hold everyone "
                          "up (`backpressure`). Not given: `park` where there are several "
                          "sinks, else `backpressure`.",
           .one_of = {"park", "backpressure"}}}};
  for (const SinkTypeSpec& type : sink_types) {
    sinks.variants.push_back(
        {.name = type.type, .description = type.description, .fields = type.fields});
  }
  return sinks;
}

FieldSpec AdminField() {
  return {
      .name = "admin",
      .type = FieldType::kSection,
      .description = "The HTTP server for metrics, health, status and the console.",
      .fields = {{.name = "listen",
                  .description = "`host:port`; `[::1]:7070` for IPv6.",
                  .default_value = "127.0.0.1:7070"},
                 {.name = "token",
                  .description = "What clients must send as bearer token. Required when `listen` "
                                 "is not a loopback address.",
                  .secret = true}}};
}

}  // namespace

std::vector<FieldSpec> PipelineFields(const std::vector<SinkTypeSpec>& sink_types) {
  return {
      {.name = "pipeline",
       .description = "Names the pipeline, and by it the slot, publication, consumer groups and "
                      "metric labels: `[a-z][a-z0-9_]{0,39}`.",
       .required = true},
      {.name = "data_dir",
       .type = FieldType::kPath,
       .description =
           "State on disk, used by one process at a time. Not given: `./var/<pipeline>`. "
           "Relative paths are relative to the file."},
      SourceField(),
      StorageField(),
      BackupField(),
      LogField(),
      EngineField(),
      StreamsField(),
      SinksField(sink_types),
      AdminField(),
  };
}

}  // namespace millrace::config
