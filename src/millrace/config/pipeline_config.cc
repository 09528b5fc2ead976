// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/pipeline_config.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "millrace/config/listen_address.h"
#include "millrace/config/pipeline_lint.h"
#include "millrace/config/references.h"
#include "millrace/config/scalar_text.h"
#include "millrace/config/section_reader.h"
#include "millrace/config/yaml_tree.h"

namespace millrace::config {

namespace {

constexpr size_t kConfigBytesMax = size_t{4} << 20;

// The enumerator whose word the field holds; the first one if the value is unknown.
template <typename Enum>
Enum ToEnum(const Section& section, std::string_view field,
            std::initializer_list<std::pair<std::string_view, Enum>> words) {
  const std::string text = section.GetString(field);
  for (const auto& [word, value] : words) {
    if (word == text) {
      return value;
    }
  }
  return words.begin()->second;
}

BatchLimits ReadBatch(const Section& batch, const BatchLimits& defaults) {
  const auto is_given = [&](std::string_view field) {
    return batch.Has(field) && !batch.IsUnknown(field);
  };
  BatchLimits limits = defaults;
  if (is_given("max_rows")) {
    limits.rows_max = static_cast<uint64_t>(batch.GetInteger("max_rows"));
  }
  if (is_given("max_bytes")) {
    limits.bytes_max = batch.GetBytes("max_bytes");
  }
  if (is_given("max_wait")) {
    limits.wait_max = batch.GetDuration("max_wait");
  }
  return limits;
}

void ReadSource(const std::string& pipeline, SourceConfig& source) {
  const Section& section = source.section;
  source.tables = section.GetStringList("tables");
  for (const std::string& table : source.tables) {
    if (auto pattern = TablePattern::Parse(table)) {
      source.table_patterns.push_back(*std::move(pattern));
    }
  }
  if (section.GetString("type") == "debezium") {
    source.kind = SourceKind::kDebezium;
    return;
  }
  if (!section.Knows("url")) {
    return;  // the type is unknown, and that is a finding
  }
  const auto name = [&](std::string_view field) {
    return section.Has(field) ? section.GetString(field) : "millrace_" + pipeline;
  };
  const Section snapshot = section.GetSection("snapshot");
  source.url = section.GetString("url");
  source.heartbeat_url = section.GetString("heartbeat_url");
  source.slot = name("slot");
  source.publication = name("publication");
  source.manage_publication = section.GetBoolean("manage_publication");
  source.capture_ddl = section.GetBoolean("capture_ddl");
  source.snapshot_mode = ToEnum<SnapshotMode>(snapshot, "mode",
                                              {{"initial", SnapshotMode::kInitial},
                                               {"never", SnapshotMode::kNever},
                                               {"when_needed", SnapshotMode::kWhenNeeded}});
  source.snapshot_parallelism = static_cast<int>(snapshot.GetInteger("parallelism"));
  source.snapshot_chunk_rows = static_cast<uint64_t>(snapshot.GetInteger("chunk_rows"));
  source.heartbeat_interval = section.GetDuration("heartbeat_interval");
  source.confirm = ToEnum<ConfirmPolicy>(section, "confirm",
                                         {{"stored", ConfirmPolicy::kStored},
                                          {"delivered", ConfirmPolicy::kDelivered},
                                          {"backed_up", ConfirmPolicy::kBackedUp}});
  source.on_slot_lost = ToEnum<OnSlotLost>(
      section, "on_slot_lost", {{"stop", OnSlotLost::kStop}, {"snapshot", OnSlotLost::kSnapshot}});
  source.discover = section.GetBoolean("discover");
}

void ReadEngineAndStorage(PipelineConfig& config) {
  EngineConfig& engine = config.engine;
  engine.kind = ToEnum<EngineKind>(
      engine.section, "type", {{"duckdb", EngineKind::kDuckDb}, {"spark", EngineKind::kSpark}});
  const Section batch = engine.section.GetSection("batch");
  engine.batch = {static_cast<uint64_t>(batch.GetInteger("max_rows")), batch.GetBytes("max_bytes"),
                  batch.GetDuration("max_wait")};
  engine.memory_bytes = engine.section.GetBytes("memory");
  StorageConfig& storage = config.storage;
  storage.max_bytes = storage.section.GetBytes("max_bytes");
  storage.retain_time = storage.section.GetDuration("retain_time");
  storage.retain_bytes = storage.section.GetBytes("retain_bytes");
  storage.cache_bytes = storage.section.GetBytes("cache");
}

// A bare name is a stream if there is one (but not the stream itself), else a table.
StreamInput ReadInput(const std::string& text, Location location, const std::string& reader,
                      const std::vector<std::string>& stream_names) {
  StreamInput input{.text = text, .location = std::move(location)};
  const bool is_stream = text != reader && std::find(stream_names.begin(), stream_names.end(),
                                                     text) != stream_names.end();
  if (is_stream) {
    input.stream = text;
  } else if (const auto table = ParseTableName(text)) {
    input.table = *table;
  }
  return input;
}

void ReadStreams(PipelineConfig& config) {
  const auto sections = config.section.GetSectionMap("streams");
  std::vector<std::string> names;
  names.reserve(sections.size());
  for (const auto& [name, section] : sections) {
    names.push_back(name);
  }
  for (const auto& [name, section] : sections) {
    StreamConfig stream(section);
    stream.name = name;
    stream.from = ReadInput(section.GetString("from"), section.LocationOf("from"), name, names);
    const std::vector<std::string> lookups = section.GetStringList("lookup");
    for (size_t i = 0; i < lookups.size(); ++i) {
      stream.lookups.push_back(ReadInput(lookups[i], section.LocationOf("lookup", i), name, names));
    }
    stream.sql = section.GetString("sql");
    stream.key = section.GetStringList("key");
    stream.append_only = section.GetBoolean("append_only");
    stream.on_error = ToEnum<OnError>(
        section, "on_error", {{"stop", OnError::kStop}, {"dead_letter", OnError::kDeadLetter}});
    stream.out_of_range = ToEnum<OutOfRange>(section, "out_of_range",
                                             {{"error", OutOfRange::kError},
                                              {"clamp", OutOfRange::kClamp},
                                              {"null", OutOfRange::kNull}});
    stream.emit =
        ToEnum<Emit>(section, "emit", {{"update", Emit::kUpdate}, {"close", Emit::kClose}});
    stream.has_window = section.Has("window");
    config.streams.push_back(std::move(stream));
  }
}

void ReadSinks(PipelineConfig& config, const std::vector<SinkTypeSpec>& types) {
  const auto sections = config.section.GetSectionMap("sinks");
  const OnFull on_full_default = sections.size() > 1 ? OnFull::kPark : OnFull::kBackpressure;
  for (const auto& [name, section] : sections) {
    SinkConfig sink(section);
    sink.name = name;
    sink.type = section.GetString("type");
    BatchLimits defaults;
    for (const SinkTypeSpec& type : types) {
      if (type.type == sink.type) {
        defaults = type.batch_defaults;
      }
    }
    sink.batch = ReadBatch(section.GetSection("batch"), defaults);
    const Section retry = section.GetSection("retry");
    sink.retry_wait_min = retry.GetDuration("wait_min");
    sink.retry_wait_max = retry.GetDuration("wait_max");
    sink.on_full = on_full_default;
    if (section.Has("on_full")) {
      sink.on_full = ToEnum<OnFull>(
          section, "on_full", {{"park", OnFull::kPark}, {"backpressure", OnFull::kBackpressure}});
    }
    config.sinks.push_back(std::move(sink));
  }
}

void ReadAdmin(PipelineConfig& config) {
  AdminConfig& admin = config.admin;
  admin.is_configured = config.section.Has("admin");
  if (const auto address = ParseListenAddress(admin.section.GetString("listen"))) {
    admin.host = address->first;
    admin.port = address->second;
  }
  admin.token = admin.section.GetString("token");
}

PipelineConfig ReadPipeline(const Section& section, const std::string& file,
                            const LoadOptions& options) {
  PipelineConfig config(section);
  config.file = file;
  config.pipeline = section.GetString("pipeline");
  config.data_dir = section.Has("data_dir") ? section.GetString("data_dir")
                                            : ResolvePath("var/" + config.pipeline, file);
  ReadSource(config.pipeline, config.source);
  ReadEngineAndStorage(config);
  ReadStreams(config);
  ReadSinks(config, options.sink_types);
  ReadAdmin(config);
  return config;
}

}  // namespace

std::optional<PipelineConfig> LoadPipelineConfig(std::string_view yaml, const std::string& file,
                                                 const LoadOptions& options, Findings& findings) {
  Findings found;
  std::optional<PipelineConfig> config;
  if (const YamlNodePtr root = ParseYaml(yaml, file, options.read, found)) {
    const Section section =
        ReadTree(*root, file, PipelineFields(options.sink_types), found, options.read);
    if (root->kind == YamlNode::Kind::kMapping) {
      config = ReadPipeline(section, file, options);
      LintPipeline(*config, options, found);
    }
  }
  for (const Finding& finding : found.all()) {
    findings.Add(finding);
  }
  return found.has_errors() ? std::nullopt : std::move(config);
}

std::optional<std::string> ReadConfigText(const std::string& file, Findings& findings) {
  const auto refuse = [&](const std::string& reason) {
    findings.Error({file, 0, 0}, "cannot be read: " + reason, "unreadable-file");
    return std::nullopt;
  };
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored)) {
    return refuse("it is a directory");
  }
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    return refuse(errno != 0 ? std::generic_category().message(errno) : "it cannot be opened");
  }
  std::string text(kConfigBytesMax + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(stream.gcount()));
  if (stream.bad()) {
    return refuse("the disk does not give it");
  }
  if (text.size() > kConfigBytesMax) {
    return refuse("it is larger than 4MiB");
  }
  return text;
}

}  // namespace millrace::config
