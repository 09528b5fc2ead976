// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/status_json.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "millrace/model/lsn.h"

namespace millrace::admin {
namespace {

using Json = nlohmann::ordered_json;
using pipeline::StatusSnapshot;

Json ReadingJson(const StatusSnapshot::Reading& reading) {
  return {
      {"name", reading.name},
      {"state", reading.state},
      {"rows", reading.rows},
      {"rows_estimated", reading.rows_estimated},
  };
}

Json TableReasonsJson(const std::vector<StatusSnapshot::Source::PausedTable>& tables) {
  Json json = Json::array();
  for (const StatusSnapshot::Source::PausedTable& table : tables) {
    json.push_back({{"table", table.table}, {"reason", table.reason}});
  }
  return json;
}

Json SourceJson(const StatusSnapshot::Source& source) {
  Json tables = Json::array();
  for (const StatusSnapshot::Reading& reading : source.tables) {
    tables.push_back(ReadingJson(reading));
  }
  return {
      {"slot", source.slot},
      {"connected", source.connected},
      {"confirmed_lsn", FormatLsn(source.confirmed_lsn)},
      {"received_lsn", FormatLsn(source.received_lsn)},
      {"lag_bytes", source.lag_bytes},
      {"lag_seconds", source.lag_seconds},
      {"retained_wal_bytes", source.retained_wal_bytes},
      {"wal_status", source.wal_status},
      {"snapshot", source.snapshot},
      {"snapshot_rows", source.snapshot_rows},
      {"snapshot_rows_per_second", source.snapshot_rows_per_second},
      {"snapshot_seconds_left",
       source.snapshot_seconds_left ? Json(*source.snapshot_seconds_left) : Json()},
      {"tables", std::move(tables)},
      {"rows_per_second", source.rows_per_second},
      {"last_error", source.last_error},
      {"paused_tables", TableReasonsJson(source.paused_tables)},
      {"left_out_tables", TableReasonsJson(source.left_out_tables)},
  };
}

Json StreamJson(const StatusSnapshot::Stream& stream) {
  return {
      {"name", stream.name},
      {"rows", stream.rows},
      {"dead_letters", stream.dead_letters},
      {"state_bytes", stream.state_bytes},
  };
}

Json SinkJson(const StatusSnapshot::Sink& sink) {
  return {
      {"name", sink.name},
      {"type", sink.type},
      {"state", sink.state},
      {"rows", sink.rows},
      {"rows_per_second", sink.rows_per_second},
      {"lag_rows", sink.lag_rows},
      {"lag_seconds", sink.lag_seconds},
      {"last_error", sink.last_error},
  };
}

// Throws Json::type_error if `json` is no object.
template <typename T>
void Read(const Json& json, const char* name, T& to) {
  if (json.is_object() && !json.contains(name)) {
    return;
  }
  json.at(name).get_to(to);
}

Status ReadLsn(const Json& json, const char* name, Lsn& to) {
  std::string text;
  Read(json, name, text);
  if (!text.empty()) {
    MR_ASSIGN_OR_RETURN(to, ParseLsn(text));
  }
  return Status::Ok();
}

void ReadTableReasons(const Json& json, const char* name,
                      std::vector<StatusSnapshot::Source::PausedTable>& to) {
  if (const auto tables = json.find(name); tables != json.end()) {
    for (const Json& table : *tables) {
      StatusSnapshot::Source::PausedTable& read = to.emplace_back();
      Read(table, "table", read.table);
      Read(table, "reason", read.reason);
    }
  }
}

Status ReadSource(const Json& json, StatusSnapshot::Source& source) {
  Read(json, "slot", source.slot);
  Read(json, "connected", source.connected);
  MR_RETURN_IF_ERROR(ReadLsn(json, "confirmed_lsn", source.confirmed_lsn));
  MR_RETURN_IF_ERROR(ReadLsn(json, "received_lsn", source.received_lsn));
  Read(json, "lag_bytes", source.lag_bytes);
  Read(json, "lag_seconds", source.lag_seconds);
  Read(json, "retained_wal_bytes", source.retained_wal_bytes);
  Read(json, "wal_status", source.wal_status);
  Read(json, "snapshot", source.snapshot);
  Read(json, "snapshot_rows", source.snapshot_rows);
  Read(json, "snapshot_rows_per_second", source.snapshot_rows_per_second);
  if (json.contains("snapshot_seconds_left") && !json.at("snapshot_seconds_left").is_null()) {
    source.snapshot_seconds_left = json.at("snapshot_seconds_left").get<double>();
  }
  if (json.contains("tables")) {
    for (const Json& table : json.at("tables")) {
      StatusSnapshot::Reading& reading = source.tables.emplace_back();
      Read(table, "name", reading.name);
      Read(table, "state", reading.state);
      Read(table, "rows", reading.rows);
      Read(table, "rows_estimated", reading.rows_estimated);
    }
  }
  Read(json, "rows_per_second", source.rows_per_second);
  Read(json, "last_error", source.last_error);
  ReadTableReasons(json, "paused_tables", source.paused_tables);
  ReadTableReasons(json, "left_out_tables", source.left_out_tables);
  return Status::Ok();
}

void ReadStream(const Json& json, StatusSnapshot::Stream& stream) {
  Read(json, "name", stream.name);
  Read(json, "rows", stream.rows);
  Read(json, "dead_letters", stream.dead_letters);
  Read(json, "state_bytes", stream.state_bytes);
}

void ReadSink(const Json& json, StatusSnapshot::Sink& sink) {
  Read(json, "name", sink.name);
  Read(json, "type", sink.type);
  Read(json, "state", sink.state);
  Read(json, "rows", sink.rows);
  Read(json, "rows_per_second", sink.rows_per_second);
  Read(json, "lag_rows", sink.lag_rows);
  Read(json, "lag_seconds", sink.lag_seconds);
  Read(json, "last_error", sink.last_error);
}

Result<StatusSnapshot> ReadStatus(const Json& json) {
  StatusSnapshot status;
  Read(json, "pipeline", status.pipeline);
  Read(json, "state", status.state);
  Read(json, "ready", status.ready);
  Read(json, "not_ready_reason", status.not_ready_reason);
  Read(json, "output_log_bytes", status.output_log_bytes);
  if (const auto source = json.find("source"); source != json.end()) {
    MR_RETURN_IF_ERROR(ReadSource(*source, status.source));
  }
  if (const auto streams = json.find("streams"); streams != json.end()) {
    for (const Json& stream : *streams) {
      ReadStream(stream, status.streams.emplace_back());
    }
  }
  if (const auto sinks = json.find("sinks"); sinks != json.end()) {
    for (const Json& sink : *sinks) {
      ReadSink(sink, status.sinks.emplace_back());
    }
  }
  return status;
}

}  // namespace

std::string ToJson(const StatusSnapshot& status) {
  Json streams = Json::array();
  for (const StatusSnapshot::Stream& stream : status.streams) {
    streams.push_back(StreamJson(stream));
  }
  Json sinks = Json::array();
  for (const StatusSnapshot::Sink& sink : status.sinks) {
    sinks.push_back(SinkJson(sink));
  }
  const Json json = {
      {"pipeline", status.pipeline},
      {"state", status.state},
      {"ready", status.ready},
      {"not_ready_reason", status.not_ready_reason},
      {"output_log_bytes", status.output_log_bytes},
      {"source", SourceJson(status.source)},
      {"streams", std::move(streams)},
      {"sinks", std::move(sinks)},
  };
  // A peer's error text may be anything: what is not UTF-8 in it is replaced.
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

Result<StatusSnapshot> ParseStatusJson(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return Corruption("read the status: not a JSON object");
  }
  try {
    return ReadStatus(json);
  } catch (const Json::exception& error) {
    return Corruption(fmt::format("read the status: {}", error.what()));
  }
}

}  // namespace millrace::admin
