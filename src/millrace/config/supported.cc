// SPDX-License-Identifier: Apache-2.0
// What this version knows and does not run, in one table.
#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/config/pipeline_config.h"
#include "millrace/config/sql_words.h"

namespace millrace::config {

namespace {

// Where a feature is asked for; nothing if it is not.
using Use = std::optional<Location>;

struct Feature {
  std::string_view sentence;
  Use (*find)(const PipelineConfig&);
};

Use At(const Section& section, std::string_view field, bool is_asked_for) {
  return is_asked_for ? Use(section.LocationOf(field)) : std::nullopt;
}

template <typename Predicate>
Use AtStream(const PipelineConfig& config, std::string_view field, Predicate predicate) {
  for (const StreamConfig& stream : config.streams) {
    if (predicate(stream)) {
      return stream.section.LocationOf(field);
    }
  }
  return std::nullopt;
}

// Of an option of an entry under `writes` or `topics`.
template <typename Predicate>
Use AtEntry(const PipelineConfig& config, std::string_view list, std::string_view field,
            Predicate predicate) {
  for (const SinkConfig& sink : config.sinks) {
    if (!sink.section.Knows(list)) {
      continue;
    }
    for (const Section& entry : sink.section.GetSectionList(list)) {
      if (entry.Knows(field) && entry.Has(field) && predicate(entry)) {
        return entry.LocationOf(field);
      }
    }
  }
  return std::nullopt;
}

constexpr std::array kFeatures = {
    Feature{"source type debezium: read the database itself with type postgres",
            [](const PipelineConfig& c) {
              return At(c.source.section, "type", c.source.kind == SourceKind::kDebezium);
            }},
    Feature{"a log between processes: remove `log`, everything runs in one process",
            [](const PipelineConfig& c) { return At(c.section, "log", c.section.Has("log")); }},
    Feature{"engine type spark: use type duckdb",
            [](const PipelineConfig& c) {
              return At(c.engine.section, "type", c.engine.kind == EngineKind::kSpark);
            }},
    Feature{
        "backups: remove `backup`",
        [](const PipelineConfig& c) { return At(c.section, "backup", c.section.Has("backup")); }},
    Feature{"source.confirm other than stored",
            [](const PipelineConfig& c) {
              return At(c.source.section, "confirm", c.source.confirm != ConfirmPolicy::kStored);
            }},
    Feature{"windows: a stream is a mirror or row by row",
            [](const PipelineConfig& c) {
              return AtStream(c, "window", [](const StreamConfig& s) { return s.has_window; });
            }},
    Feature{"streams that read other streams: name a table",
            [](const PipelineConfig& c) -> Use {
              for (const StreamConfig& stream : c.streams) {
                if (stream.from.is_stream()) {
                  return stream.from.location;
                }
                for (const StreamInput& lookup : stream.lookups) {
                  if (lookup.is_stream()) {
                    return lookup.location;
                  }
                }
              }
              return std::nullopt;
            }},
    Feature{"totals (GROUP BY): a stream is a mirror or row by row",
            [](const PipelineConfig& c) {
              return AtStream(c, "sql", [](const StreamConfig& s) { return HasGroupBy(s.sql); });
            }},
    Feature{"stream option state_ttl: remove it",
            [](const PipelineConfig& c) {
              return AtStream(c, "state_ttl",
                              [](const StreamConfig& s) { return s.section.Has("state_ttl"); });
            }},
    Feature{"stream option ttl: remove it",
            [](const PipelineConfig& c) {
              return AtStream(c, "ttl", [](const StreamConfig& s) { return s.section.Has("ttl"); });
            }},
    Feature{"sorted sets (zadd): use xadd, hset, set or publish",
            [](const PipelineConfig& c) {
              return AtEntry(c, "writes", "zadd", [](const Section&) { return true; });
            }},
    Feature{"topic format debezium_json: use json",
            [](const PipelineConfig& c) {
              return AtEntry(c, "topics", "format", [](const Section& entry) {
                return entry.GetString("format") == "debezium_json";
              });
            }},
};

}  // namespace

Status CheckSupported(const PipelineConfig& config) {
  for (const Feature& feature : kFeatures) {
    if (const Use use = feature.find(config)) {
      return Unsupported(use->file + ":" + std::to_string(use->line) + ":" +
                         std::to_string(use->column) + ": this version does not run " +
                         std::string(feature.sentence));
    }
  }
  return Status::Ok();
}

}  // namespace millrace::config
