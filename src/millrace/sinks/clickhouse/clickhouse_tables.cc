// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_tables.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/common/backoff.h"
#include "millrace/common/failpoint.h"
#include "millrace/sinks/clickhouse/clickhouse_alter.h"

namespace millrace::sinks::clickhouse {

namespace {

// ReplacingMergeTree(version, is_deleted) and tokens that reach views work since then.
constexpr int kMajorMin = 23;
constexpr int kMinorMin = 8;
// A chain of views longer than this is refused rather than followed.
constexpr size_t kViewsMax = 1000;
constexpr std::chrono::milliseconds kMutationWaitMin{2};
constexpr std::chrono::milliseconds kMutationWaitMax{1000};

using Rows = ClickHouseClient::Rows;

// What makes one INSERT one block, deduplicated by its token, whatever the user's profile says. The
// server ignores a token on asynchronous inserts, and matches retries by token and number of
// blocks.
struct PinnedSetting {
  std::string_view name;
  std::string_view value;
};
constexpr std::array kPinned = {
    PinnedSetting{"async_insert", "0"},
    PinnedSetting{"insert_deduplicate", "1"},
    PinnedSetting{"deduplicate_insert", "enable"},
    PinnedSetting{"deduplicate_blocks_in_dependent_materialized_views", "1"},
    // A view that fails must fail the insert.
    PinnedSetting{"materialized_views_ignore_errors", "0"},
    PinnedSetting{"max_insert_block_size", "1000000000"},
    PinnedSetting{"max_insert_block_size_bytes", "0"},
    PinnedSetting{"min_insert_block_size_rows", "1000000000"},
    PinnedSetting{"min_insert_block_size_bytes", "0"},
    PinnedSetting{"min_insert_block_size_rows_for_materialized_views", "0"},
    PinnedSetting{"min_insert_block_size_bytes_for_materialized_views", "0"},
    PinnedSetting{"use_strict_insert_block_limits", "0"},
    PinnedSetting{"max_insert_threads", "1"},
    PinnedSetting{"input_format_parallel_parsing", "0"},
    // A plan cannot be cut, so that no number of partitions may stop it.
    PinnedSetting{"max_partitions_per_insert_block", "0"},
    // NULL never becomes a default in silence, and no row is skipped.
    PinnedSetting{"input_format_null_as_default", "0"},
    PinnedSetting{"insert_null_as_default", "0"},
    PinnedSetting{"input_format_allow_errors_num", "0"},
    PinnedSetting{"input_format_allow_errors_ratio", "0"},
    PinnedSetting{"input_format_native_allow_types_conversion", "1"},
    PinnedSetting{"input_format_native_decode_types_in_binary_format", "0"},
    PinnedSetting{"implicit_transaction", "0"},
};
constexpr std::array<std::string_view, 5> kMergeTreeSettings = {
    "non_replicated_deduplication_window", "replicated_deduplication_window",
    "replicated_deduplication_window_seconds", "allow_nullable_key", "index_granularity"};

template <typename Range, typename Name>
std::string QuotedList(const Range& range, Name name) {
  std::vector<std::string> quoted;
  for (const auto& item : range) {
    quoted.push_back(QuoteString(name(item)));
  }
  return fmt::format("{}", fmt::join(quoted, ", "));
}

Status CheckVersion(std::string_view version) {
  int major = 0;
  int minor = 0;
  const size_t dot = version.find('.');
  std::from_chars(version.data(), version.data() + version.size(), major);
  if (dot != std::string_view::npos) {
    std::from_chars(version.data() + dot + 1, version.data() + version.size(), minor);
  }
  if (std::pair(major, minor) < std::pair(kMajorMin, kMinorMin)) {
    return Unsupported(fmt::format("ClickHouse {} is too old; at least {}.{} is needed", version,
                                   kMajorMin, kMinorMin));
  }
  return Status::Ok();
}

bool IsUtc(const std::string& zone) {
  return zone == "UTC" || zone == "Etc/UTC" || zone == "Universal" || zone == "Zulu" ||
         zone == "Etc/Universal" || zone == "Etc/Zulu" || zone == "GMT" || zone == "Etc/GMT";
}

// One row of system.tables.
struct TableRow {
  std::string uuid;
  std::string create_sql;
  TableFacts facts;
};

class TablePreparer {
 public:
  TablePreparer(ClickHouseClient& client, const ServerFacts& facts, const PrepareOptions& options,
                const telemetry::Logger& log, std::stop_token stop)
      : client_(client), facts_(facts), options_(options), log_(log), stop_(std::move(stop)) {}

  Status CreateDatabase(const std::string& database) {
    MR_ASSIGN_OR_RETURN(const Rows rows,
                        Select(fmt::format("SELECT name FROM system.databases WHERE name = {}",
                                           QuoteString(database))));
    if (!rows.empty()) {
      return Status::Ok();
    }
    log_.Info("Database created", {{"database", database}});
    return client_.Execute(CreateDatabaseSql(database), stop_)
        .WithContext(fmt::format("create database {}", QuoteIdentifier(database)));
  }

  Result<PreparedTable> Prepare(const TableNeed& need) {
    MR_ASSIGN_OR_RETURN(std::optional<TableRow> row, ReadTable(need.database, need.table));
    if (!row.has_value()) {
      MR_RETURN_IF_ERROR(Create(need));
      MR_ASSIGN_OR_RETURN(row, ReadTable(need.database, need.table));
      if (!row.has_value()) {
        return PermissionDenied(fmt::format(
            "table {} was created but does not show; grant SHOW TABLES and SHOW COLUMNS "
            "on it to the user of the sink",
            need.QualifiedName()));
      }
    }
    MR_RETURN_IF_ERROR(ReadColumns(need, row->facts));
    MR_RETURN_IF_ERROR(Alter(need, row->facts));
    MR_RETURN_IF_ERROR(CheckTable(need, row->facts, facts_.merge_tree));
    PreparedTable prepared;
    prepared.uuid = row->uuid;
    prepared.is_replicated = IsReplicated(row->facts.engine);
    if (prepared.is_replicated) {
      prepared.token_lifetime = ReadTokenLifetime(row->facts);
    }
    MR_ASSIGN_OR_RETURN(prepared.has_views, CheckViews(need.database, need.table));
    return prepared;
  }

 private:
  Result<Rows> Select(const std::string& sql) { return client_.Select(sql, stop_); }

  Result<std::optional<TableRow>> ReadTable(const std::string& database, const std::string& table) {
    MR_ASSIGN_OR_RETURN(
        Rows rows,
        Select(fmt::format("SELECT toString(uuid), create_table_query, engine, engine_full, "
                           "sorting_key FROM system.tables WHERE database = {} AND name = {}",
                           QuoteString(database), QuoteString(table))));
    if (rows.empty() || rows[0].size() != 5) {
      return std::optional<TableRow>();
    }
    TableRow row;
    row.uuid = rows[0][0];
    row.create_sql = rows[0][1];
    row.facts.engine = rows[0][2];
    row.facts.engine_full = rows[0][3];
    row.facts.sorting_key = rows[0][4];
    return std::optional<TableRow>(std::move(row));
  }

  Status ReadColumns(const TableNeed& need, TableFacts& facts) {
    MR_ASSIGN_OR_RETURN(
        const Rows rows,
        Select(fmt::format("SELECT name, type, default_kind, toString(is_in_partition_key), "
                           "toString(is_in_sorting_key), compression_codec, comment FROM "
                           "system.columns WHERE database = {} AND table = {}",
                           QuoteString(need.database), QuoteString(need.table))));
    facts.columns.clear();
    for (const auto& row : rows) {
      facts.columns[row[0]] = {row[1], row[2], row[3] == "1", row[4] == "1", row[5], row[6]};
    }
    return Status::Ok();
  }

  // Brings the columns of an earlier version of the stream up to this one.
  Status Alter(const TableNeed& need, TableFacts& facts) {
    MR_ASSIGN_OR_RETURN(const std::vector<std::string> statements,
                        AlterTableSql(need, need.earlier, facts));
    if (statements.empty()) {
      return Status::Ok();
    }
    const std::string context = fmt::format("alter table {}", need.QualifiedName());
    // A try that was given up may have left one to the server.
    MR_RETURN_IF_ERROR(WaitForMutations(need).WithContext(context));
    for (const std::string& sql : statements) {
      MR_FAILPOINT("clickhouse.before_alter");
      MR_RETURN_IF_ERROR(client_.Execute(sql, stop_).WithContext(context));
      MR_RETURN_IF_ERROR(WaitForMutations(need).WithContext(context));
    }
    log_.Info("Table altered, its stream has other columns",
              {{"table", need.QualifiedName()},
               {"schema_version", need.stream->schema_version.value()},
               {"statements", statements.size()}});
    return ReadColumns(need, facts);
  }

  // Until the server has rewritten the parts of the table as it was told to. It takes as long as it
  // takes: a large column is copied.
  Status WaitForMutations(const TableNeed& need) {
    for (auto wait = kMutationWaitMin;; wait = std::min(wait * 2, kMutationWaitMax)) {
      MR_ASSIGN_OR_RETURN(
          const Rows rows,
          Select(fmt::format("SELECT mutation_id, latest_fail_reason FROM system.mutations WHERE "
                             "database = {} AND table = {} AND NOT is_done",
                             QuoteString(need.database), QuoteString(need.table))));
      if (rows.empty()) {
        return Status::Ok();
      }
      for (const auto& row : rows) {
        if (!row[1].empty()) {
          return Unavailable(fmt::format(
              "the server does not get done with mutation '{}': {}; mend the cause, or end it by "
              "KILL MUTATION",
              row[0], row[1]));
        }
      }
      if (!WaitUnlessStopped(wait, stop_)) {
        return Cancelled("stopped while the server rewrites parts of the table");
      }
    }
  }

  Status Create(const TableNeed& need) {
    if (options_.planned_tables.count(need.table) != 0) {
      return FailedPrecondition(
          fmt::format("table {} is gone, with the rows that were delivered to it: restore it, or "
                      "rebuild what the sink holds in a new data_dir",
                      need.QualifiedName()));
    }
    MR_RETURN_IF_ERROR(client_.Execute(CreateTableSql(need), stop_)
                           .WithContext(fmt::format("create table {}", need.QualifiedName())));
    if (options_.has_position) {
      log_.Warn("Table created in a sink that has delivered before: it gets rows from here on only",
                {{"table", need.QualifiedName()}});
    } else {
      log_.Info("Table created", {{"table", need.QualifiedName()}});
    }
    return Status::Ok();
  }

  std::chrono::seconds ReadTokenLifetime(const TableFacts& facts) const {
    const std::string value = TableSetting(
        facts.engine_full, "replicated_deduplication_window_seconds", facts_.merge_tree);
    int64_t seconds = 0;
    std::from_chars(value.data(), value.data() + value.size(), seconds);
    return std::chrono::seconds(seconds);
  }

  // Follows every view behind a table. True if there are any.
  Result<bool> CheckViews(const std::string& database, const std::string& table) {
    std::vector<ViewTarget> tables = {{database, table}};
    std::set<std::pair<std::string, std::string>> seen = {{database, table}};
    bool has_views = false;
    for (size_t i = 0; i < tables.size(); ++i) {
      const ViewTarget from = tables[i];
      MR_ASSIGN_OR_RETURN(
          const Rows views,
          Select(
              fmt::format("SELECT d, t FROM system.tables ARRAY JOIN dependencies_database AS d, "
                          "dependencies_table AS t WHERE database = {} AND name = {}",
                          QuoteString(from.database), QuoteString(from.table))));
      for (const auto& view : views) {
        has_views = true;
        MR_ASSIGN_OR_RETURN(const std::optional<ViewTarget> target, CheckView(view[0], view[1]));
        if (target.has_value() && seen.emplace(target->database, target->table).second) {
          tables.push_back(*target);
        }
      }
      if (tables.size() > kViewsMax) {
        return FailedPrecondition(fmt::format("more than {} materialized views hang on {}.{}",
                                              kViewsMax, QuoteIdentifier(database),
                                              QuoteIdentifier(table)));
      }
    }
    return has_views;
  }

  // The table that a view writes to in an insert; nothing if it writes later by itself.
  Result<std::optional<ViewTarget>> CheckView(const std::string& database,
                                              const std::string& view) {
    const std::string name = QuoteIdentifier(database) + "." + QuoteIdentifier(view);
    MR_ASSIGN_OR_RETURN(const std::optional<TableRow> row, ReadTable(database, view));
    if (!row.has_value()) {
      MR_RETURN_IF_ERROR(Refuse(fmt::format(
          "view {} hangs on the table, but the user of the sink cannot see it; run: GRANT SHOW "
          "TABLES, SHOW COLUMNS ON {}.* TO the user",
          name, QuoteIdentifier(database))));
      return std::optional<ViewTarget>();
    }
    if (row->facts.engine != "MaterializedView") {
      MR_RETURN_IF_ERROR(Refuse(fmt::format(
          "{} is a {}, which takes a retried insert twice; drop it", name, row->facts.engine)));
      return std::optional<ViewTarget>();
    }
    ViewTarget target = ParseViewTarget(row->create_sql);
    MR_ASSIGN_OR_RETURN(std::optional<TableRow> to, FindTarget(database, view, row->uuid, target));
    if (!to.has_value()) {
      MR_RETURN_IF_ERROR(
          Refuse(fmt::format("the table that materialized view {} writes to cannot be seen; run: "
                             "GRANT SHOW TABLES, SHOW "
                             "COLUMNS ON {}.* TO the user of the sink",
                             name, QuoteIdentifier(database))));
      return std::optional<ViewTarget>();
    }
    MR_RETURN_IF_ERROR(CheckViewTarget(name, target, to->facts));
    return std::optional<ViewTarget>(std::move(target));
  }

  // Completes `target` where the view has a table of its own.
  Result<std::optional<TableRow>> FindTarget(const std::string& database, const std::string& view,
                                             const std::string& uuid, ViewTarget& target) {
    if (!target.table.empty()) {
      target.database = target.database.empty() ? database : target.database;
      return ReadTable(target.database, target.table);
    }
    target.database = database;
    for (const std::string& table : {".inner_id." + uuid, ".inner." + view}) {
      target.table = table;
      MR_ASSIGN_OR_RETURN(std::optional<TableRow> row, ReadTable(database, table));
      if (row.has_value()) {
        return row;
      }
    }
    return std::optional<TableRow>();
  }

  Status CheckViewTarget(const std::string& view, const ViewTarget& target,
                         const TableFacts& facts) {
    const std::string table =
        QuoteIdentifier(target.database) + "." + QuoteIdentifier(target.table);
    if (facts.engine == "Null") {
      return Status::Ok();
    }
    if (facts.engine.find("MergeTree") == std::string::npos) {
      return Refuse(fmt::format(
          "materialized view {} writes to {}, whose engine {} takes a retried insert twice", view,
          table, facts.engine));
    }
    if (DeduplicationWindow(facts, facts_.merge_tree) != 0) {
      return Status::Ok();
    }
    return Refuse(fmt::format(
        "materialized view {} writes to {}, which has no deduplication window, so that a retried "
        "insert would count twice there; run: ALTER TABLE {} MODIFY SETTING {} = {}",
        view, table, table,
        IsReplicated(facts.engine) ? "replicated_deduplication_window"
                                   : "non_replicated_deduplication_window",
        kDeduplicationWindow));
  }

  Status Refuse(const std::string& sentence) {
    if (options_.accept_inexact_views) {
      log_.Warn("Materialized view is not exact, accepted by accept_inexact_views",
                {{"reason", sentence}});
      return Status::Ok();
    }
    return FailedPrecondition(sentence + "; or set accept_inexact_views: true");
  }

  ClickHouseClient& client_;
  const ServerFacts& facts_;
  const PrepareOptions& options_;
  const telemetry::Logger& log_;
  std::stop_token stop_;
};

// Reads `name` or `a name` in backticks at `at`, which moves behind it; empty if there is none.
std::string ReadIdentifier(const std::string& sql, size_t& at) {
  std::string name;
  if (at < sql.size() && sql[at] == '`') {
    for (++at; at < sql.size() && sql[at] != '`'; ++at) {
      at += sql[at] == '\\' && at + 1 < sql.size() ? 1 : 0;
      name += sql[at];
    }
    ++at;
    return name;
  }
  while (at < sql.size() &&
         (std::isalnum(static_cast<unsigned char>(sql[at])) != 0 || sql[at] == '_')) {
    name += sql[at++];
  }
  return name;
}

// `name` or `database.name`.
ViewTarget ReadQualifiedName(const std::string& sql, size_t& at) {
  ViewTarget name;
  name.table = ReadIdentifier(sql, at);
  if (at < sql.size() && sql[at] == '.') {
    ++at;
    name.database = std::move(name.table);
    name.table = ReadIdentifier(sql, at);
  }
  return name;
}

// A profile may forbid the user to change settings: better seen now than by the first insert.
Status CheckMayPin(ClickHouseClient& client, const Settings& settings,
                   const std::stop_token& stop) {
  std::string list;
  for (const auto& [name, value] : settings) {
    list += fmt::format("{}{} = {}", list.empty() ? "" : ", ", name, QuoteString(value));
  }
  const Status status = client.Execute("SELECT 1 SETTINGS " + list + " FORMAT Null", stop);
  if (status.code() != Code::kFailedPrecondition && status.code() != Code::kPermissionDenied) {
    return status;
  }
  return FailedPrecondition(fmt::format(
      "{}; each insert must set it, or a retried one could be doubled: take this constraint, or "
      "readonly, out of the profile of the sink's user, or give the sink a user of its own",
      status.message()));
}

}  // namespace

ViewTarget ParseViewTarget(const std::string& create_sql) {
  constexpr std::string_view kCreate = "CREATE MATERIALIZED VIEW ";
  if (!create_sql.starts_with(kCreate)) {
    return {};
  }
  size_t at = kCreate.size();
  ReadQualifiedName(create_sql, at);
  // Words up to the columns: UUID '...', ON CLUSTER c, TO db.table.
  while (at < create_sql.size() && create_sql[at] == ' ') {
    const size_t word = at + 1;
    if (create_sql.compare(word, 3, "TO ") == 0) {
      at = word + 3;
      return ReadQualifiedName(create_sql, at);
    }
    if (word < create_sql.size() && create_sql[word] == '(') {
      return {};
    }
    at = create_sql.find(' ', word);
    if (at == std::string::npos) {
      return {};
    }
  }
  return {};
}

Result<ServerFacts> ReadServerFacts(ClickHouseClient& client, std::stop_token stop) {
  ServerFacts facts;
  MR_ASSIGN_OR_RETURN(const Rows server, client.Select("SELECT version(), timezone()", stop));
  if (server.size() != 1 || server[0].size() != 2) {
    return Unavailable("the server does not answer like ClickHouse");
  }
  facts.version = server[0][0];
  facts.naive_zone = IsUtc(server[0][1]) ? "" : "UTC";
  MR_RETURN_IF_ERROR(CheckVersion(facts.version));

  MR_ASSIGN_OR_RETURN(
      const Rows known,
      client.Select(fmt::format("SELECT name FROM system.settings WHERE name IN ({})",
                                QuotedList(kPinned, [](const auto& s) { return s.name; })),
                    stop));
  for (const PinnedSetting& setting : kPinned) {
    const bool is_known = std::any_of(known.begin(), known.end(),
                                      [&](const auto& row) { return row[0] == setting.name; });
    if (is_known) {
      facts.insert_settings.emplace(setting.name, setting.value);
    }
  }
  MR_RETURN_IF_ERROR(CheckMayPin(client, facts.insert_settings, stop));
  MR_ASSIGN_OR_RETURN(
      const Rows defaults,
      client.Select(
          fmt::format("SELECT name, value FROM system.merge_tree_settings WHERE name IN ({})",
                      QuotedList(kMergeTreeSettings, [](const auto& s) { return s; })),
          stop));
  for (const auto& row : defaults) {
    facts.merge_tree[row[0]] = row[1];
  }
  return facts;
}

Result<std::vector<PreparedTable>> PrepareTables(ClickHouseClient& client, const ServerFacts& facts,
                                                 const std::vector<TableNeed>& needs,
                                                 const PrepareOptions& options,
                                                 const telemetry::Logger& log,
                                                 std::stop_token stop) {
  TablePreparer preparer(client, facts, options, log, std::move(stop));
  std::vector<PreparedTable> prepared;
  for (const TableNeed& need : needs) {
    if (prepared.empty()) {
      MR_RETURN_IF_ERROR(preparer.CreateDatabase(need.database));
    }
    MR_ASSIGN_OR_RETURN(PreparedTable table, preparer.Prepare(need));
    prepared.push_back(std::move(table));
  }
  return prepared;
}

Result<std::map<std::string, std::string>> ReadTableUuids(ClickHouseClient& client,
                                                          const std::string& database,
                                                          const std::vector<std::string>& tables,
                                                          std::stop_token stop,
                                                          std::chrono::milliseconds timeout) {
  std::map<std::string, std::string> uuids;
  MR_ASSIGN_OR_RETURN(
      const Rows rows,
      client.Select(
          fmt::format("SELECT name, toString(uuid) FROM system.tables WHERE database = {} "
                      "AND name IN ({})",
                      QuoteString(database),
                      QuotedList(tables, [](const auto& name) { return name; })),
          std::move(stop), timeout));
  for (const auto& row : rows) {
    uuids[row[0]] = row[1];
  }
  return uuids;
}

}  // namespace millrace::sinks::clickhouse
