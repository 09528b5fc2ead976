// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_config.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "millrace/sinks/clickhouse/clickhouse_client.h"
#include "millrace/sinks/clickhouse/clickhouse_schema.h"
#include "millrace/sinks/clickhouse/clickhouse_sink.h"

namespace millrace::sinks::clickhouse {

namespace {

using config::FieldSpec;
using config::FieldType;
using config::Section;

// Answers are small but for the versions that settle an old plan: up to 60 bytes a row.
constexpr size_t kAnswerBytesMax = size_t{256} << 20;

FieldSpec TlsFields() {
  return {.name = "tls",
          .type = FieldType::kSection,
          .description = "Certificates for an https URL.",
          .fields = {{.name = "ca_file",
                      .type = FieldType::kPath,
                      .description = "Certificates (PEM) that the server's must be signed by. "
                                     "Default: those of the system."},
                     {.name = "cert_file",
                      .type = FieldType::kPath,
                      .description = "Our own certificate (PEM), where the server asks for one."},
                     {.name = "key_file",
                      .type = FieldType::kPath,
                      .description = "The key (PEM) of `cert_file`."}}};
}

FieldSpec TableFields() {
  return {
      .name = "tables",
      .type = FieldType::kSectionList,
      .description = "Which stream goes into which table. A stream may go into several.",
      .required = true,
      .fields = {
          {.name = "stream", .description = "The stream.", .required = true},
          {.name = "table",
           .description = "The table, created if it is missing. Default: the stream's name."},
          {.name = "order_by",
           .type = FieldType::kStringList,
           .description =
               "The sorting key, columns of the stream. With updates and deletes it holds "
               "all key columns. Default: the stream's key."},
          {.name = "partition_by",
           .description = "An expression such as toYYYYMM(event_ts). With updates and deletes it "
                          "uses columns of order_by only."},
          {.name = "engine",
           .description = "Another engine of the MergeTree family, with its arguments. Default: "
                          "ReplacingMergeTree(_version, _deleted), or MergeTree for append_only "
                          "streams."},
          {.name = "as",
           .type = FieldType::kStringMap,
           .description = "Columns that are kept as their exact text: {column: string}."},
          {.name = "snapshot",
           .type = FieldType::kBoolean,
           .description = "Whether rows of snapshots are delivered too.",
           .default_value = "true"}}};
}

std::string TableName(const Section& table) {
  const std::string name = table.GetString("table");
  return name.empty() ? table.GetString("stream") : name;
}

void LintStatus(const Section& table, std::string_view field, const Status& status,
                config::Findings& findings) {
  if (!status.ok()) {
    findings.Error(table.LocationOf(field), table.PathOf(field) + ": " + status.message(),
                   "wrong-value");
  }
}

}  // namespace

std::vector<FieldSpec> ClickHouseFields() {
  return {
      {.name = "url",
       .description = "Address of the HTTP interface: http://user:password@host:8123, or https.",
       .required = true,
       .secret = true},
      {.name = "database",
       .description = "The database of the tables, created if it is missing.",
       .default_value = "default"},
      {.name = "accept_inexact_views",
       .type = FieldType::kBoolean,
       .description =
           "Run although a materialized view behind a table would count a retried insert "
           "twice.",
       .default_value = "false"},
      {.name = "connect_timeout",
       .type = FieldType::kDuration,
       .description = "How long a connection may take.",
       .default_value = "10s"},
      {.name = "request_timeout",
       .type = FieldType::kDuration,
       .description =
           "How long one insert or query may take. What has not been answered by then is "
           "sent again, under the same token.",
       .default_value = "5m"},
      TlsFields(),
      TableFields(),
  };
}

void LintClickHouse(const Section& section, config::Findings& findings) {
  if (const auto url = http::ParseHttpUrl(section.GetString("url")); !url.ok()) {
    findings.Error(section.LocationOf("url"), section.PathOf("url") + ": " + url.status().message(),
                   "wrong-value");
  }
  std::set<std::string> tables;
  for (const Section& table : section.GetSectionList("tables")) {
    const std::string name = TableName(table);
    if (!tables.insert(name).second) {
      findings.Error(
          table.LocationOf(table.Has("table") ? "table" : "stream"),
          fmt::format("{}: two streams would go into the table '{}'", table.path(), name),
          "duplicate-table");
    }
    for (const auto& [column, as] : table.GetStringMap("as")) {
      if (as != "string") {
        findings.Error(table.LocationOf("as"),
                       fmt::format("{}: '{}' cannot be kept as '{}', only as string",
                                   table.PathOf("as"), column, as),
                       "wrong-value");
      }
    }
    std::set<std::string> order_by;
    for (const std::string& column : table.GetStringList("order_by")) {
      if (!order_by.insert(column).second) {
        findings.Error(table.LocationOf("order_by"),
                       fmt::format("{}: '{}' stands twice", table.PathOf("order_by"), column),
                       "wrong-value");
      }
    }
    LintStatus(table, "engine", CheckEngine(table.GetString("engine"), /*is_mutable=*/false),
               findings);
    LintStatus(table, "partition_by", CheckExpression(table.GetString("partition_by")), findings);
  }
}

Result<ClickHouseOptions> ReadClickHouseOptions(const Section& section) {
  config::Findings findings;
  LintClickHouse(section, findings);
  if (findings.has_errors()) {
    return InvalidArgument(findings.all().front().text);
  }
  ClickHouseOptions options;
  MR_ASSIGN_OR_RETURN(options.http.url, http::ParseHttpUrl(section.GetString("url")));
  options.http.connect_timeout = section.GetDuration("connect_timeout");
  options.http.request_timeout = section.GetDuration("request_timeout");
  options.http.response_bytes_max = kAnswerBytesMax;
  const Section tls = section.GetSection("tls");
  options.http.ca_file = tls.GetString("ca_file");
  options.http.cert_file = tls.GetString("cert_file");
  options.http.key_file = tls.GetString("key_file");
  options.database = section.GetString("database");
  options.accept_inexact_views = section.GetBoolean("accept_inexact_views");
  for (const Section& entry : section.GetSectionList("tables")) {
    TableOptions table;
    table.stream = entry.GetString("stream");
    table.table = TableName(entry);
    if (entry.Has("order_by")) {
      table.order_by = entry.GetStringList("order_by");
    }
    table.partition_by = entry.GetString("partition_by");
    table.engine = entry.GetString("engine");
    for (const auto& [column, as] : entry.GetStringMap("as")) {
      table.as_string.insert(column);
    }
    table.snapshot = entry.GetBoolean("snapshot");
    options.tables.push_back(std::move(table));
  }
  return options;
}

namespace {

// One entry for each stream; its address is the sorting keys of all its tables.
std::vector<StreamUse> ClickHouseUses(const Section& section) {
  std::vector<StreamUse> uses;
  for (const Section& table : section.GetSectionList("tables")) {
    const std::string stream = table.GetString("stream");
    auto use = std::find_if(uses.begin(), uses.end(),
                            [&](const StreamUse& other) { return other.stream == stream; });
    if (use == uses.end()) {
      use = uses.insert(uses.end(), StreamUse{stream, {}});
    }
    for (const std::string& column : table.GetStringList("order_by")) {
      if (std::find(use->address_columns.begin(), use->address_columns.end(), column) ==
          use->address_columns.end()) {
        use->address_columns.push_back(column);
      }
    }
  }
  return uses;
}

Status CheckTarget(const Section& section, const telemetry::Logger& /*log*/) {
  MR_ASSIGN_OR_RETURN(const ClickHouseOptions options, ReadClickHouseOptions(section));
  MR_ASSIGN_OR_RETURN(const auto client, ClickHouseClient::Make(options.http));
  return client->Select("SELECT 1", {}).status();
}

Result<std::unique_ptr<Sink>> MakeSink(const Section& section, SinkContext context) {
  MR_ASSIGN_OR_RETURN(ClickHouseOptions options, ReadClickHouseOptions(section));
  std::erase_if(options.tables,
                [&](const TableOptions& table) { return !context.streams.contains(table.stream); });
  MR_ASSIGN_OR_RETURN(std::unique_ptr<ClickHouseSink> sink,
                      ClickHouseSink::Make(std::move(options), std::move(context)));
  return std::unique_ptr<Sink>(std::move(sink));
}

}  // namespace

}  // namespace millrace::sinks::clickhouse

namespace millrace::sinks {

SinkType ClickHouseSinkType() {
  return {.spec = {.type = "clickhouse",
                   .description = "Inserts into tables of ClickHouse over HTTP, each row once: by "
                                  "tokens under which the server knows a repeated insert.",
                   .fields = clickhouse::ClickHouseFields(),
                   .batch_defaults = {.rows_max = 100'000,
                                      .bytes_max = uint64_t{32} << 20,
                                      .wait_max = std::chrono::milliseconds(200)},
                   .lint = clickhouse::LintClickHouse},
          .uses = clickhouse::ClickHouseUses,
          .make = clickhouse::MakeSink,
          .check = clickhouse::CheckTarget};
}

}  // namespace millrace::sinks
