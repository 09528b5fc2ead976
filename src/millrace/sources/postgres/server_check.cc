// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/server_check.h"

#include <charconv>

#include <fmt/format.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/sources/source.h"

namespace millrace::sources::postgres {
namespace {

constexpr int kServerVersionMin = 140000;
// The first whose standbys decode WAL.
constexpr int kStandbyVersionMin = 160000;

int Number(std::string_view text) {
  int value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

void CheckSettings(const pg::QueryResult& row, ServerReport& report) {
  const std::string_view wal_level = row.Text(0, 0);
  if (wal_level != "logical") {
    report.errors.push_back(FailedPrecondition(fmt::format(
        "the server's wal_level is {}: run ALTER SYSTEM SET wal_level = logical and restart the "
        "server",
        wal_level)));
  } else {
    report.facts.emplace_back("wal_level is logical");
  }
  if (row.Text(0, 2) == "SQL_ASCII") {
    report.warnings.emplace_back(
        "the database has encoding SQL_ASCII, so that nothing keeps bytes out that are no UTF-8: a "
        "row that holds such text is a bad row; dump the database and restore it into one of "
        "encoding UTF8");
  }
  if (row.Text(0, 3) == "-1") {
    report.warnings.emplace_back(
        "max_slot_wal_keep_size is -1: a pipeline that stands still for long fills the server's "
        "disk; run ALTER SYSTEM SET max_slot_wal_keep_size = '64GB', or what the disk can spare");
  }
}

void CheckStandby(int server_version, bool has_feedback, const PostgresSourceConfig& config,
                  ServerReport& report) {
  if (server_version < kStandbyVersionMin) {
    report.errors.push_back(Unsupported(fmt::format(
        "the server is a standby of PostgreSQL {}, whose standbys have no logical slots "
        "(16 and newer do): point source.url to the primary",
        server_version / 10000)));
    return;
  }
  report.facts.emplace_back("the server is a standby");
  if (config.heartbeat_url.empty() && config.heartbeat_interval.count() > 0) {
    report.errors.push_back(
        FailedPrecondition("the server is a standby, to which no heartbeat can be written: set "
                           "source.heartbeat_url to "
                           "the primary, or source.heartbeat_interval: 0"));
  }
  if (!has_feedback) {
    report.warnings.emplace_back(
        "hot_standby_feedback is off, so that the primary may remove rows that the slot needs, and "
        "the standby then invalidates it: run ALTER SYSTEM SET hot_standby_feedback = on and "
        "SELECT "
        "pg_reload_conf() on the standby, and give it a primary_slot_name");
  }
}

void CheckRole(const pg::QueryResult& row, ServerReport& report) {
  const std::string_view role = row.Text(0, 4);
  if (row.Text(0, 5) != "t") {
    report.errors.push_back(PermissionDenied(
        fmt::format("role '{0}' may not replicate: have a DBA run ALTER ROLE {1} REPLICATION", role,
                    pg::QuoteIdentifier(role))));
  } else {
    report.facts.push_back(fmt::format("role '{}' may replicate", role));
  }
}

void CheckFreePlaces(const pg::QueryResult& row, const PostgresSourceConfig& config,
                     ServerReport& report) {
  const int slots = Number(row.Text(0, 6));
  const int slots_max = Number(row.Text(0, 7));
  const int senders = Number(row.Text(0, 8));
  const int senders_max = Number(row.Text(0, 9));
  const bool has_slot = row.Text(0, 10) == "t";
  if (!has_slot && slots >= slots_max) {
    report.warnings.push_back(fmt::format(
        "all {} replication slots are taken, and slot '{}' is not made yet: drop one, or raise "
        "max_replication_slots and restart the server",
        slots_max, config.slot));
  }
  if (senders >= senders_max) {
    report.warnings.push_back(fmt::format(
        "all {} walsenders are busy: raise max_wal_senders and restart the server", senders_max));
  }
}

// Why our role cannot read the table; OK if it can, or need not.
Status CheckReadable(const CatalogTable& entry, const PostgresSourceConfig& config,
                     std::string_view role) {
  const Table& table = *entry.source.table;
  const std::string quoted_role = pg::QuoteIdentifier(role);
  if (config.snapshot_mode == SnapshotMode::kNever) {
    return Status::Ok();
  }
  if (!entry.can_select) {
    return PermissionDenied(fmt::format(
        "role '{}' may not read table {}: have a DBA run GRANT USAGE ON SCHEMA {} TO {}; GRANT "
        "SELECT ON {} TO {}",
        role, table.FullName(), pg::QuoteIdentifier(table.schema), quoted_role,
        pg::QuoteQualified(table.schema, table.name), quoted_role));
  }
  if (entry.row_security_active) {
    return PermissionDenied(fmt::format(
        "row security hides rows of table {} from role '{}': have a DBA run ALTER ROLE {} "
        "BYPASSRLS",
        table.FullName(), role, quoted_role));
  }
  return Status::Ok();
}

// Why a table cannot be taken in beside those that are; OK if it can.
Status CheckNewcomer(const CatalogTable& entry, const PostgresSourceConfig& config,
                     std::string_view role, bool is_standby) {
  const Table& table = *entry.source.table;
  const std::string quoted = pg::QuoteQualified(table.schema, table.name);
  if (!config.manage_publication && !entry.is_published) {
    return FailedPrecondition(fmt::format(
        "publication '{0}' does not publish it: have a DBA run ALTER PUBLICATION {1} ADD TABLE {2}",
        config.publication, pg::QuoteIdentifier(config.publication), quoted));
  }
  // On a standby another role may publish it, on the primary.
  if (!entry.is_published && !entry.is_owner && !is_standby) {
    return PermissionDenied(fmt::format(
        "role '{}' does not own it, which takes to publish it: have a DBA run ALTER TABLE {} OWNER "
        "TO {}",
        role, quoted, pg::QuoteIdentifier(role)));
  }
  return CheckReadable(entry, config, role);
}

// Takes out of `report` what only a pattern matches and cannot be taken in.
void LeaveOutNewcomers(const PostgresSourceConfig& config, std::string_view role,
                       const std::set<std::string>& taken, ServerReport& report) {
  std::erase_if(report.catalog.problems, [&](const TableProblem& problem) {
    if (taken.contains(problem.table)) {
      return problem.status.code() == Code::kNotFound;
    }
    if (problem.is_exact || problem.table.empty()) {
      return false;
    }
    report.left_out[problem.table] = LeftOutSentence(problem.table, problem.status);
    return true;
  });
  std::erase_if(report.catalog.tables, [&](const CatalogTable& entry) {
    const std::string name = entry.source.table->FullName();
    if (entry.is_exact || taken.contains(name)) {
      return false;
    }
    const Status why = CheckNewcomer(entry, config, role, report.is_standby);
    if (!why.ok()) {
      report.left_out[name] = LeftOutSentence(name, why);
    }
    return !why.ok();
  });
}

void CheckTables(const PostgresSourceConfig& config, std::string_view role, ServerReport& report) {
  for (const TableProblem& problem : report.catalog.problems) {
    report.errors.push_back(problem.status);
  }
  for (const std::string& left_out : report.catalog.left_out) {
    report.warnings.push_back(left_out);
  }
  for (const CatalogTable& entry : report.catalog.tables) {
    const Table& table = *entry.source.table;
    const std::string name = table.FullName();
    const std::string quoted_name = pg::QuoteQualified(table.schema, table.name);
    if (Status readable = CheckReadable(entry, config, role); !readable.ok()) {
      report.errors.push_back(std::move(readable));
    } else {
      report.facts.push_back(fmt::format("table {} can be read", name));
    }
    if (table.primary_key.empty()) {
      report.warnings.push_back(
          fmt::format("table {} has no primary key: its streams need append_only: true", name));
    }
    if (!entry.source.has_usable_identity) {
      report.warnings.push_back(fmt::format(
          "table {0} has no usable replica identity, so that only its inserts and truncates are "
          "published ('{1}') and updates and deletes never arrive: add a primary key, or run ALTER "
          "TABLE {2} REPLICA IDENTITY FULL",
          name, config.InsertsPublication(), quoted_name));
    }
  }
}

Status AddTables(pg::Connection& connection, const PostgresSourceConfig& config,
                 std::string_view role, const std::set<std::string>* taken, ServerReport& report) {
  MR_ASSIGN_OR_RETURN(report.catalog, LoadCatalog(connection, config));
  if (taken != nullptr) {
    LeaveOutNewcomers(config, role, *taken, report);
  }
  CheckTables(config, role, report);
  return Status::Ok();
}

}  // namespace

Result<ServerReport> InspectTables(pg::Connection& connection, const PostgresSourceConfig& config,
                                   const std::set<std::string>& taken) {
  ServerReport report;
  MR_ASSIGN_OR_RETURN(const pg::QueryResult row,
                      connection.Exec("SELECT current_user, pg_is_in_recovery()"));
  report.is_standby = row.Text(0, 1) == "t";
  MR_RETURN_IF_ERROR(AddTables(connection, config, row.Text(0, 0), &taken, report));
  return report;
}

Result<ServerReport> InspectServer(pg::Connection& connection, const PostgresSourceConfig& config,
                                   const std::set<std::string>* taken) {
  ServerReport report;
  if (connection.server_version() < kServerVersionMin) {
    report.errors.push_back(Unsupported(
        fmt::format("the server is PostgreSQL {}, and Millrace needs 14 or newer: upgrade it",
                    connection.server_version() / 10000)));
    return report;
  }
  report.facts.push_back(fmt::format("PostgreSQL {}", connection.server_version() / 10000));
  // On managed services the privilege is membership in a role.
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult row,
      connection.Exec(
          "SELECT current_setting('wal_level'), pg_is_in_recovery(), "
          "current_setting('server_encoding'), current_setting('max_slot_wal_keep_size'), "
          "current_user, (SELECT r.rolsuper OR r.rolreplication OR EXISTS (SELECT 1 FROM pg_roles "
          "x "
          "WHERE x.rolname = 'rds_replication' AND pg_has_role(r.oid, x.oid, 'member')) "
          "FROM pg_roles r WHERE r.rolname = current_user), "
          "(SELECT count(*) FROM pg_replication_slots), "
          "current_setting('max_replication_slots'), "
          "(SELECT count(*) FROM pg_stat_replication), current_setting('max_wal_senders'), "
          "EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = " +
          pg::QuoteLiteral(config.slot) + "), current_setting('hot_standby_feedback')"));
  CheckSettings(row, report);
  report.is_standby = row.Text(0, 1) == "t";
  if (report.is_standby) {
    CheckStandby(connection.server_version(), row.Text(0, 11) == "on", config, report);
  }
  CheckRole(row, report);
  CheckFreePlaces(row, config, report);
  MR_RETURN_IF_ERROR(AddTables(connection, config, row.Text(0, 4), taken, report));
  return report;
}

Result<uint64_t> ReadSystemIdentifier(pg::Connection& connection) {
  MR_ASSIGN_OR_RETURN(const pg::QueryResult row,
                      connection.Exec("SELECT system_identifier FROM pg_control_system()"));
  const std::string_view text = row.Text(0, 0);
  uint64_t identifier = 0;
  std::from_chars(text.data(), text.data() + text.size(), identifier);
  return identifier;
}

Status CheckIsPrimaryOf(pg::Connection& primary, uint64_t system_identifier) {
  MR_ASSIGN_OR_RETURN(const pg::QueryResult row, primary.Exec("SELECT pg_is_in_recovery()"));
  if (row.Text(0, 0) == "t") {
    return FailedPrecondition(
        fmt::format("the server at {} is a standby too: set source.heartbeat_url to the primary",
                    primary.peer()));
  }
  MR_ASSIGN_OR_RETURN(const uint64_t identifier, ReadSystemIdentifier(primary));
  if (identifier != system_identifier) {
    return FailedPrecondition(fmt::format(
        "the server at {} has system identifier {}, and the standby {}, so that it is not its "
        "primary: correct source.heartbeat_url",
        primary.peer(), identifier, system_identifier));
  }
  return Status::Ok();
}

}  // namespace millrace::sources::postgres
