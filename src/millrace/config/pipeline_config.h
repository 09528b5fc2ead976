// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/status.h"
#include "millrace/config/pipeline_spec.h"
#include "millrace/config/section.h"
#include "millrace/config/table_name.h"
#include "millrace/model/stream.h"

namespace millrace::config {

// The configuration file, checked, with its defaults filled in. A plain value. The Section in each
// part knows where its fields stand, for later messages.

enum class SourceKind { kPostgres, kDebezium };
enum class SnapshotMode { kInitial, kNever, kWhenNeeded };
enum class ConfirmPolicy { kStored, kDelivered, kBackedUp };
enum class OnSlotLost { kStop, kSnapshot };

struct SourceConfig {
  explicit SourceConfig(Section s) : section(std::move(s)) {}

  Section section;
  SourceKind kind = SourceKind::kPostgres;
  std::vector<std::string> tables;  // as written
  std::vector<TablePattern> table_patterns;
  // Of kPostgres. Credentials are in the URLs: never print them.
  std::string url;
  std::string heartbeat_url;  // empty: url
  std::string slot;
  std::string publication;
  bool manage_publication = true;
  bool capture_ddl = false;
  SnapshotMode snapshot_mode = SnapshotMode::kInitial;
  int snapshot_parallelism = 1;
  uint64_t snapshot_chunk_rows = 0;
  std::chrono::milliseconds heartbeat_interval{0};  // 0: off
  ConfirmPolicy confirm = ConfirmPolicy::kStored;
  OnSlotLost on_slot_lost = OnSlotLost::kStop;
  bool discover = false;
};

enum class EngineKind { kDuckDb, kSpark };

struct EngineConfig {
  explicit EngineConfig(Section s) : section(std::move(s)) {}

  Section section;
  EngineKind kind = EngineKind::kDuckDb;
  BatchLimits batch;
  uint64_t memory_bytes = 0;
};

struct StorageConfig {
  explicit StorageConfig(Section s) : section(std::move(s)) {}

  Section section;
  uint64_t max_bytes = 0;
  std::chrono::milliseconds retain_time{0};
  uint64_t retain_bytes = 0;
  uint64_t cache_bytes = 0;
};

// What a stream reads: a table of the source, or another stream.
struct StreamInput {
  std::string text;  // as written
  Location location;
  std::string stream;  // empty: a table
  TableName table;

  bool is_stream() const { return !stream.empty(); }
};

enum class OnError { kStop, kDeadLetter };
enum class Emit { kUpdate, kClose };

struct StreamConfig {
  explicit StreamConfig(Section s) : section(std::move(s)) {}

  Section section;
  std::string name;
  StreamInput from;
  std::vector<StreamInput> lookups;
  std::string sql;  // empty: a mirror
  std::vector<std::string> key;
  bool append_only = false;
  OnError on_error = OnError::kStop;
  OutOfRange out_of_range = OutOfRange::kError;
  Emit emit = Emit::kUpdate;
  bool has_window = false;  // its fields are in section

  bool is_mirror() const { return sql.empty(); }
};

enum class OnFull { kPark, kBackpressure };

struct SinkConfig {
  explicit SinkConfig(Section s) : section(std::move(s)) {}

  Section section;  // with the fields of the sink's type: what SinkType::make takes
  std::string name;
  std::string type;
  BatchLimits batch;
  std::chrono::milliseconds retry_wait_min{0};
  std::chrono::milliseconds retry_wait_max{0};
  OnFull on_full = OnFull::kBackpressure;
};

struct AdminConfig {
  explicit AdminConfig(Section s) : section(std::move(s)) {}

  Section section;
  bool is_configured = false;  // the file has an `admin` section
  std::string host;            // without brackets; empty: every address
  int port = 0;
  std::string token;  // never print it; empty: none
};

struct PipelineConfig {
  explicit PipelineConfig(Section s)
      : section(s),
        source(s.GetSection("source")),
        storage(s.GetSection("storage")),
        engine(s.GetSection("engine")),
        admin(s.GetSection("admin")) {}

  Section section;  // the whole file
  std::string file;
  std::string pipeline;
  std::string data_dir;  // made one of the file's directory
  SourceConfig source;
  StorageConfig storage;
  EngineConfig engine;
  std::vector<StreamConfig> streams;  // in the file's order
  std::vector<SinkConfig> sinks;      // in the file's order
  AdminConfig admin;
};

struct LoadOptions {
  std::vector<SinkTypeSpec> sink_types;
  // Judges a stream's SQL, without a connection; called for streams that have any.
  std::function<void(const StreamConfig&, Findings&)> check_sql;
  ReadOptions read;
};

// Reads a configuration and checks all that can be checked without a connection. Findings of every
// kind are added to `findings`; there is no configuration if one of them is an error. With
// read.lenient_references a configuration may hold unknown values: it is for lint alone.
std::optional<PipelineConfig> LoadPipelineConfig(std::string_view yaml, const std::string& file,
                                                 const LoadOptions& options, Findings& findings);

// The text of a configuration file, up to 4 MiB; nothing, with a finding, if it cannot be read.
std::optional<std::string> ReadConfigText(const std::string& file, Findings& findings);

// kUnsupported with one sentence that names the first thing asked for that this version does not
// run. What it names is checked by lint all the same.
Status CheckSupported(const PipelineConfig& config);

}  // namespace millrace::config
