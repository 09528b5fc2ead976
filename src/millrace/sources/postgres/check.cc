// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/sources/postgres/ddl_capture.h"
#include "millrace/sources/postgres/key_order.h"
#include "millrace/sources/postgres/postgres_source.h"
#include "millrace/sources/postgres/publication.h"
#include "millrace/sources/postgres/server_check.h"

namespace millrace::sources::postgres {
namespace {

using Level = CheckFinding::Level;

constexpr std::chrono::milliseconds kLockTimeout{5'000};

Result<std::unique_ptr<pg::Connection>> Open(const PostgresSourceConfig& config) {
  return pg::Connection::Connect(
      config.url, {.application_name = "millrace check", .lock_timeout = kLockTimeout});
}

void Add(std::vector<CheckFinding>& findings, Level level, std::string text) {
  findings.push_back({.level = level, .subject = "source", .text = std::move(text)});
}

// Whether the publications are there, or could be made by this role.
void CheckPublications(pg::Connection& connection, const PostgresSourceConfig& config,
                       const Catalog& catalog, std::vector<CheckFinding>& findings) {
  std::vector<SourceTable> tables;
  std::vector<std::string> foreign;
  for (const CatalogTable& entry : catalog.tables) {
    tables.push_back(entry.source);
    if (!entry.is_owner) {
      foreign.push_back(entry.source.table->FullName());
    }
  }
  const Result<PublicationPlan> plan = PlanPublications(connection, config, tables);
  if (!plan.ok()) {
    return Add(findings, Level::kError, plan.status().message());
  }
  for (const std::string& warning : plan.value().warnings) {
    Add(findings, Level::kWarning, warning);
  }
  const std::vector<std::string>& statements = plan.value().statements;
  if (statements.empty()) {
    return Add(findings, Level::kOk,
               fmt::format("publication '{}' matches source.tables", config.publication));
  }
  const std::string remedy = fmt::format("have a DBA run: {};", fmt::join(statements, "; "));
  if (!config.manage_publication) {
    return Add(findings, Level::kError,
               fmt::format("publication '{}' is not what source.tables needs: {}",
                           config.publication, remedy));
  }
  const Result<pg::QueryResult> row =
      connection.Exec("SELECT has_database_privilege(current_database(), 'CREATE'), current_user");
  if (!row.ok()) {
    return Add(findings, Level::kError, row.status().message());
  }
  if (row.value().Text(0, 0) != "t") {
    return Add(findings, Level::kError,
               fmt::format("role '{}' may not make publication '{}' for lack of CREATE on the "
                           "database: {} and set source.manage_publication: false",
                           row.value().Text(0, 1), config.publication, remedy));
  }
  if (!foreign.empty()) {
    return Add(findings, Level::kError,
               fmt::format("role '{}' does not own {}, which takes to publish them: {} and set "
                           "source.manage_publication: false",
                           row.value().Text(0, 1), fmt::join(foreign, ", "), remedy));
  }
  Add(findings, Level::kOk,
      fmt::format("publication '{}' will be made or altered by `millrace run`",
                  config.publication));
}

// Which way the rows of each table are read.
void CheckReading(pg::Connection& connection, const PostgresSourceConfig& config,
                  const Catalog& catalog, std::vector<CheckFinding>& findings) {
  if (config.snapshot_mode == SnapshotMode::kNever) {
    return Add(findings, Level::kOk,
               "source.snapshot.mode is never: rows that are there before the start are not read");
  }
  std::vector<SourceTable> tables;
  for (const CatalogTable& entry : catalog.tables) {
    tables.push_back(entry.source);
  }
  const Result<std::vector<Result<KeyOrder>>> orders = LoadKeyOrders(connection, tables);
  if (!orders.ok()) {
    return Add(findings, Level::kError, orders.status().message());
  }
  for (size_t i = 0; i < tables.size(); ++i) {
    const std::string name = tables[i].table->FullName();
    const Result<KeyOrder>& order = (*orders)[i];
    Add(findings, Level::kOk,
        order.ok() ? fmt::format("table {} is read in chunks of its key, beside the stream; a "
                                 "crash costs a chunk",
                                 name)
                   : fmt::format("table {} is read in one piece, because it {}: its snapshot is "
                                 "held until all is read, and a crash begins it again",
                                 name, order.status().message()));
  }
}

// The slot, if there is one, and what the server thinks of it.
void CheckSlot(pg::Connection& connection, const PostgresSourceConfig& config,
               std::vector<CheckFinding>& findings) {
  const Result<std::optional<SlotInfo>> slot = ReadSlot(connection, config.slot);
  if (!slot.ok()) {
    return Add(findings, Level::kError, slot.status().message());
  }
  if (!slot->has_value()) {
    return Add(findings, Level::kOk,
               fmt::format("slot '{}' will be made by `millrace run`", config.slot));
  }
  const SlotInfo& info = **slot;
  SystemInfo system;
  system.database = connection.Database();
  if (const SlotVerdict kind = JudgeSlotKind(config.slot, info, system);
      kind.fault != SlotFault::kNone) {
    return Add(findings, Level::kError, kind.status.message());
  }
  if (info.wal_status == "lost" || !info.invalidation_reason.empty()) {
    return Add(findings, Level::kError,
               fmt::format("slot '{}' was invalidated by the server ({}): `millrace run` says the "
                           "choices",
                           config.slot,
                           info.invalidation_reason.empty() ? "its WAL was removed"
                                                            : info.invalidation_reason));
  }
  if (info.wal_status == "unreserved") {
    return Add(findings, Level::kWarning,
               fmt::format("slot '{}' holds more WAL than max_slot_wal_keep_size, and the server "
                           "removes it at the next checkpoint: start the pipeline",
                           config.slot));
  }
  Add(findings, Level::kOk,
      fmt::format("slot '{}' is there{}", config.slot, info.is_active ? " and in use" : ""));
}

// The event triggers, where they are asked for or there.
void CheckDdlCapture(pg::Connection& connection, const PostgresSourceConfig& config,
                     bool is_standby, std::vector<CheckFinding>& findings) {
  const Result<DdlCaptureState> state = LookAtDdlCapture(connection);
  if (!state.ok()) {
    return Add(findings, Level::kError, state.status().message());
  }
  if (!config.capture_ddl) {
    if (state->has_triggers) {
      Add(findings, Level::kWarning,
          fmt::format("event triggers of source.capture_ddl are in the database, and this pipeline "
                      "does not use them: once none does, have a superuser run {}",
                      kDropDdlCapture));
    }
    return;
  }
  if (!state->is_trusted && !state->is_complete) {
    return Add(findings, Level::kError,
               "schema 'millrace' belongs to a role that is no superuser and not ours, so that no "
               "event triggers are installed in it: have it moved out of the way");
  }
  if (const std::string remedy = DdlCaptureRemedy(*state); !remedy.empty()) {
    return Add(findings, Level::kError, remedy);
  }
  Add(findings, Level::kOk,
      state->is_complete ? "event triggers capture changes of columns"
                         : fmt::format("event triggers that capture changes of columns will be "
                                       "installed by `millrace run`{}",
                                       is_standby ? " on the primary" : ""));
}

// What a standby needs of its primary.
void CheckPrimary(pg::Connection& standby, const PostgresSourceConfig& config,
                  std::vector<CheckFinding>& findings) {
  const auto fail = [&findings](const Status& status) {
    Add(findings, Level::kError, "heartbeat_url: " + status.message());
  };
  const Result<uint64_t> system_identifier = ReadSystemIdentifier(standby);
  if (!system_identifier.ok()) {
    return fail(system_identifier.status());
  }
  const Result<std::unique_ptr<pg::Connection>> primary = pg::Connection::Connect(
      config.heartbeat_url, {.application_name = "millrace check", .lock_timeout = kLockTimeout});
  if (!primary.ok()) {
    return fail(primary.status());
  }
  if (const Status status = CheckIsPrimaryOf(**primary, *system_identifier); !status.ok()) {
    return fail(status);
  }
  Add(findings, Level::kOk, "heartbeat_url reaches the standby's primary");
}

}  // namespace

std::vector<CheckFinding> CheckPostgres(const PostgresSourceConfig& config) {
  std::vector<CheckFinding> findings;
  const Result<std::unique_ptr<pg::Connection>> connection = Open(config);
  if (!connection.ok()) {
    Add(findings, Level::kError, connection.status().message());
    return findings;
  }
  const Result<ServerReport> report = InspectServer(*connection.value(), config);
  if (!report.ok()) {
    Add(findings, Level::kError, report.status().message());
    return findings;
  }
  for (const std::string& fact : report.value().facts) {
    Add(findings, Level::kOk, fact);
  }
  for (const std::string& warning : report.value().warnings) {
    Add(findings, Level::kWarning, warning);
  }
  for (const Status& error : report.value().errors) {
    Add(findings, Level::kError, error.message());
  }
  CheckSlot(*connection.value(), config, findings);
  CheckDdlCapture(*connection.value(), config, report->is_standby, findings);
  if (report->is_standby && !config.heartbeat_url.empty()) {
    CheckPrimary(*connection.value(), config, findings);
  }
  if (!report.value().catalog.tables.empty()) {
    CheckPublications(*connection.value(), config, report.value().catalog, findings);
    CheckReading(*connection.value(), config, report.value().catalog, findings);
  }
  return findings;
}

}  // namespace millrace::sources::postgres
