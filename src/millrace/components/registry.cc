// SPDX-License-Identifier: Apache-2.0
#include "millrace/components/registry.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "millrace/config/sql_words.h"
#include "millrace/pipeline/stored_source_state.h"
#include "millrace/sinks/blackhole/blackhole_sink.h"
#include "millrace/sinks/clickhouse/clickhouse_config.h"
#include "millrace/sinks/kafka/kafka_sink.h"
#include "millrace/sinks/redis/redis_sink.h"
#include "millrace/sinks/stdout/stdout_sink.h"
#include "millrace/sources/postgres/ddl_capture.h"
#include "millrace/sources/postgres/postgres_source.h"
#include "millrace/sources/postgres/slot_commands.h"
#include "millrace/sql/duckdb/duckdb_engine.h"
#include "millrace/storage/rocksdb/rocksdb_store.h"

namespace millrace::components {

namespace {

sources::postgres::PostgresSourceConfig SourceConfigOf(const config::PipelineConfig& config) {
  sources::postgres::PostgresSourceConfig source;
  source.url = config.source.url;
  source.heartbeat_url = config.source.heartbeat_url;
  source.tables = config.source.tables;
  source.slot = config.source.slot;
  source.publication = config.source.publication;
  source.discover = config.source.discover;
  for (const config::StreamConfig& stream : config.streams) {
    std::vector<config::StreamInput> inputs = stream.lookups;
    inputs.push_back(stream.from);
    for (const config::StreamInput& input : inputs) {
      source.stream_tables.insert(input.table.schema + "." + input.table.name);
    }
  }
  source.manage_publication = config.source.manage_publication;
  source.capture_ddl = config.source.capture_ddl;
  switch (config.source.snapshot_mode) {
    case config::SnapshotMode::kInitial:
      source.snapshot_mode = sources::postgres::SnapshotMode::kInitial;
      break;
    case config::SnapshotMode::kNever:
      source.snapshot_mode = sources::postgres::SnapshotMode::kNever;
      break;
    case config::SnapshotMode::kWhenNeeded:
      source.snapshot_mode = sources::postgres::SnapshotMode::kWhenNeeded;
      break;
  }
  source.snapshot_parallelism = config.source.snapshot_parallelism;
  source.snapshot_chunk_rows = config.source.snapshot_chunk_rows;
  source.heartbeat_interval = config.source.heartbeat_interval;
  source.staging_directory = config.data_dir + "/staging";
  source.on_slot_lost = config.source.on_slot_lost == config::OnSlotLost::kSnapshot
                            ? sources::postgres::OnSlotLost::kSnapshot
                            : sources::postgres::OnSlotLost::kStop;
  source.batch_rows_max = config.engine.batch.rows_max;
  source.batch_bytes_max = config.engine.batch.bytes_max;
  return source;
}

pipeline::DeadLetters::Limits DeadLetterLimitsOf(const config::PipelineConfig& config) {
  return {.bytes = config.storage.max_bytes / 10};
}

// The store of a data_dir that an earlier run made; null if there is none.
Result<std::unique_ptr<storage::Store>> OpenExistingStore(const config::PipelineConfig& config) {
  std::error_code error;
  if (!std::filesystem::exists(std::filesystem::path(config.data_dir) / "rocksdb", error)) {
    return std::unique_ptr<storage::Store>();
  }
  return storage::OpenRocksDbStore(
      {.path = config.data_dir, .cache_bytes = config.storage.cache_bytes});
}

}  // namespace

const std::vector<sinks::SinkType>& SinkTypes() {
  static const std::vector<sinks::SinkType> kTypes = {
      sinks::ClickHouseSinkType(), sinks::RedisSinkType(),     sinks::KafkaSinkType(),
      sinks::StdoutSinkType(),     sinks::BlackholeSinkType(),
  };
  return kTypes;
}

const sinks::SinkType& FindSinkType(const std::string& type) {
  const std::vector<sinks::SinkType>& types = SinkTypes();
  const auto found = std::find_if(types.begin(), types.end(),
                                  [&](const auto& known) { return known.spec.type == type; });
  MR_CHECK(found != types.end());
  return *found;
}

void CheckStreamSql(const config::StreamConfig& stream, config::Findings& findings) {
  // The shape that is checked is that of row-by-row SQL.
  if (stream.has_window || stream.from.is_stream() || config::HasGroupBy(stream.sql)) {
    return;
  }
  std::vector<std::string> lookups;
  for (const config::StreamInput& lookup : stream.lookups) {
    lookups.push_back(lookup.text);
  }
  const Status status = sql::CheckShape(stream.sql, stream.from.text, lookups);
  if (!status.ok()) {
    findings.Error(stream.section.LocationOf("sql"), status.message(), "sql");
  }
}

Result<pipeline::Parts> MakeParts(const config::PipelineConfig& config,
                                  const telemetry::Logger& log) {
  pipeline::Parts parts;
  for (const config::SinkConfig& sink : config.sinks) {
    parts.sink_types.push_back(&FindSinkType(sink.type));
  }
  MR_ASSIGN_OR_RETURN(parts.store,
                      storage::OpenRocksDbStore(
                          {.path = config.data_dir, .cache_bytes = config.storage.cache_bytes}));
  MR_ASSIGN_OR_RETURN(parts.dead_letters,
                      pipeline::DeadLetters::Open(*parts.store, DeadLetterLimitsOf(config)));
  MR_ASSIGN_OR_RETURN(parts.sql,
                      sql::MakeDuckDbEngine({.memory_limit_bytes = config.engine.memory_bytes}));
  parts.source = sources::postgres::MakePostgresSource(SourceConfigOf(config),
                                                       log.With("component", "source"));
  return parts;
}

std::vector<sources::CheckFinding> CheckSource(const config::PipelineConfig& config) {
  return sources::postgres::CheckPostgres(SourceConfigOf(config));
}

std::string CaptureDdlScript() { return sources::postgres::DdlCaptureScript(); }

Result<std::optional<SourceState>> ReadSourceState(const config::PipelineConfig& config) {
  MR_ASSIGN_OR_RETURN(const std::unique_ptr<storage::Store> store, OpenExistingStore(config));
  if (store == nullptr) {
    return std::optional<SourceState>();
  }
  MR_ASSIGN_OR_RETURN(SourceState state, store->LoadSourceState());
  return std::optional<SourceState>(std::move(state));
}

Result<std::optional<StoredDeadLetters>> OpenDeadLetters(const config::PipelineConfig& config) {
  StoredDeadLetters stored;
  MR_ASSIGN_OR_RETURN(stored.store, OpenExistingStore(config));
  if (stored.store == nullptr) {
    return std::optional<StoredDeadLetters>();
  }
  MR_ASSIGN_OR_RETURN(stored.letters,
                      pipeline::DeadLetters::Open(*stored.store, DeadLetterLimitsOf(config)));
  return std::optional<StoredDeadLetters>(std::move(stored));
}

Result<std::string> ShowSlot(const config::PipelineConfig& config, const SourceState* state) {
  MR_ASSIGN_OR_RETURN(const auto report,
                      sources::postgres::ShowPostgresSlot(SourceConfigOf(config)));
  return sources::postgres::RenderSlotReport(config.source.slot, report, state);
}

Result<bool> DropSlot(const config::PipelineConfig& config) {
  return sources::postgres::DropPostgresSlot(SourceConfigOf(config));
}

Result<AdoptedSlot> AdoptSlot(const config::PipelineConfig& config) {
  MR_ASSIGN_OR_RETURN(const std::unique_ptr<storage::Store> store, OpenExistingStore(config));
  if (store == nullptr) {
    return FailedPrecondition(fmt::format(
        "data_dir {} does not exist, so that there is nothing to go on with: restore it, or start "
        "anew with `millrace run`",
        config.data_dir));
  }
  MR_ASSIGN_OR_RETURN(const SourceState state, store->LoadSourceState());
  pipeline::StoredSourceState source_state(*store);
  MR_ASSIGN_OR_RETURN(const auto adoption, sources::postgres::AdoptPostgresSlot(
                                               SourceConfigOf(config), state, source_state));
  return AdoptedSlot{adoption.from, adoption.to, adoption.made_slot};
}

}  // namespace millrace::components
