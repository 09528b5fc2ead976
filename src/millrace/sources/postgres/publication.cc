// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/publication.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/sources/postgres/partitions.h"

namespace millrace::sources::postgres {
namespace {

using pg::QuoteIdentifier;
using pg::QuoteLiteral;

// A publication as the server has it.
struct Publication {
  bool exists = false;
  bool is_for_all_tables = false;
  bool publishes_inserts = false;  // and truncates
  bool publishes_updates = false;  // and deletes
  bool publishes_any_update = false;
  bool is_for_schemas = false;
  bool is_via_root = false;    // changes of partitions come as their root's
  std::set<uint32_t> tables;   // that it publishes, also by schema or for all tables
  std::set<uint32_t> members;  // that it names
};

std::string QuotedName(const SourceTable& table) {
  return pg::QuoteQualified(table.table->schema, table.table->name);
}

Result<std::map<std::string, Publication>> ReadPublications(pg::Connection& connection,
                                                            const PostgresSourceConfig& config) {
  const std::string names = fmt::format("({}, {})", QuoteLiteral(config.publication),
                                        QuoteLiteral(config.InsertsPublication()));
  std::map<std::string, Publication> publications;
  publications[config.publication];
  publications[config.InsertsPublication()];
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult rows,
      connection.Exec(
          "SELECT pubname, puballtables, pubinsert AND pubtruncate, pubupdate AND "
          "pubdelete, pubupdate OR pubdelete, pubviaroot FROM pg_publication WHERE pubname IN " +
          names));
  for (size_t i = 0; i < rows.row_count(); ++i) {
    Publication& publication = publications[std::string(rows.Text(i, 0))];
    publication.exists = true;
    publication.is_for_all_tables = rows.Text(i, 1) == "t";
    publication.publishes_inserts = rows.Text(i, 2) == "t";
    publication.publishes_updates = rows.Text(i, 3) == "t";
    publication.publishes_any_update = rows.Text(i, 4) == "t";
    publication.is_via_root = rows.Text(i, 5) == "t";
  }
  const auto add = [&](const pg::QueryResult& found, std::set<uint32_t> Publication::*to) {
    for (size_t i = 0; i < found.row_count(); ++i) {
      const std::string_view text = found.Text(i, 1);
      uint32_t oid = 0;
      std::from_chars(text.data(), text.data() + text.size(), oid);
      (publications[std::string(found.Text(i, 0))].*to).insert(oid);
    }
  };
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult tables,
      connection.Exec(
          "SELECT t.pubname, c.oid FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = "
          "t.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename "
          "WHERE t.pubname IN " +
          names));
  add(tables, &Publication::tables);
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult members,
      connection.Exec("SELECT p.pubname, r.prrelid FROM pg_publication_rel r JOIN pg_publication p "
                      "ON p.oid = r.prpubid WHERE p.pubname IN " +
                      names));
  add(members, &Publication::members);
  if (connection.server_version() >= 150000) {
    MR_ASSIGN_OR_RETURN(
        const pg::QueryResult by_schema,
        connection.Exec("SELECT DISTINCT p.pubname FROM pg_publication_namespace s JOIN "
                        "pg_publication p ON p.oid = s.pnpubid WHERE p.pubname IN " +
                        names));
    for (size_t i = 0; i < by_schema.row_count(); ++i) {
      publications[std::string(by_schema.Text(i, 0))].is_for_schemas = true;
    }
  }
  return publications;
}

// The statements that make `name` publish exactly `wanted`, or where others are not ours to take
// out, `wanted` too.
void PlanOne(const std::string& name, const Publication& current, std::string_view publish,
             bool has_right_operations, const std::vector<const SourceTable*>& wanted,
             const std::map<uint32_t, std::string>& current_names,
             std::vector<std::string>& statements) {
  const std::string quoted = QuoteIdentifier(name);
  std::vector<std::string> missing;
  std::set<uint32_t> extra = current.members;
  bool needs_root = false;
  for (const SourceTable* table : wanted) {
    const uint32_t oid = table->table->oid;
    extra.erase(oid);
    needs_root |= table->is_partitioned && !current.is_via_root;
    // A partitioned table whose partitions are published by themselves is not shown as published.
    const bool is_there = current.tables.contains(oid) || current.members.contains(oid) ||
                          (table->is_partitioned && current.is_for_all_tables);
    if (!is_there) {
      missing.push_back("ONLY " + QuotedName(*table));
    }
  }
  if (!current.exists) {
    statements.push_back(fmt::format(
        "CREATE PUBLICATION {}{} WITH (publish = '{}', publish_via_partition_root = true)", quoted,
        missing.empty() ? "" : fmt::format(" FOR TABLE {}", fmt::join(missing, ", ")), publish));
    return;
  }
  for (const uint32_t oid : extra) {
    // One that was dropped meanwhile has left by itself.
    if (const auto found = current_names.find(oid); found != current_names.end()) {
      statements.push_back(
          fmt::format("ALTER PUBLICATION {} DROP TABLE ONLY {}", quoted, found->second));
    }
  }
  if (!has_right_operations) {
    statements.push_back(fmt::format("ALTER PUBLICATION {} SET (publish = '{}')", quoted, publish));
  }
  if (needs_root) {
    statements.push_back(
        fmt::format("ALTER PUBLICATION {} SET (publish_via_partition_root = true)", quoted));
  }
  if (!missing.empty()) {
    statements.push_back(
        fmt::format("ALTER PUBLICATION {} ADD TABLE {}", quoted, fmt::join(missing, ", ")));
  }
}

Result<std::map<uint32_t, std::string>> NamesOf(pg::Connection& connection,
                                                const std::set<uint32_t>& oids) {
  std::map<uint32_t, std::string> names;
  if (oids.empty()) {
    return names;
  }
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult rows,
      connection.Exec(fmt::format("SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN "
                                  "pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ({})",
                                  fmt::join(oids, ", "))));
  for (size_t i = 0; i < rows.row_count(); ++i) {
    const std::string_view text = rows.Text(i, 0);
    uint32_t oid = 0;
    std::from_chars(text.data(), text.data() + text.size(), oid);
    names[oid] = pg::QuoteQualified(rows.Text(i, 1), rows.Text(i, 2));
  }
  return names;
}

Status CheckOurs(const PostgresSourceConfig& config,
                 const std::map<std::string, Publication>& publications) {
  for (const auto& [name, publication] : publications) {
    if (config.manage_publication &&
        (publication.is_for_all_tables || publication.is_for_schemas)) {
      return FailedPrecondition(fmt::format(
          "publication '{}' is FOR {}, which Millrace neither makes nor alters: name another "
          "source.publication, or set source.manage_publication: false",
          name, publication.is_for_all_tables ? "ALL TABLES" : "TABLES IN SCHEMA"));
    }
  }
  return Status::Ok();
}

// A partition whose changes a DBA's publication sends as its root's cannot be followed by itself.
Status CheckPartition(pg::Connection& connection, const Publication& publication,
                      const SourceTable& table) {
  if (!publication.is_via_root || publication.tables.contains(table.table->oid)) {
    return Status::Ok();
  }
  MR_ASSIGN_OR_RETURN(auto facts, LoadPartitionFacts(connection, {table.table->oid}));
  const std::vector<uint32_t>& ancestors = facts[table.table->oid].ancestors;
  if (std::any_of(ancestors.begin(), ancestors.end(),
                  [&](uint32_t oid) { return publication.tables.contains(oid); })) {
    return FailedPrecondition(fmt::format(
        "the publication sends the changes of partition {} as those of the partitioned table: name "
        "that in source.tables, or have publish_via_partition_root set to false",
        table.table->FullName()));
  }
  return Status::Ok();
}

}  // namespace

Result<PublicationPlan> PlanPublications(pg::Connection& connection,
                                         const PostgresSourceConfig& config,
                                         const std::vector<SourceTable>& tables) {
  MR_ASSIGN_OR_RETURN(auto publications, ReadPublications(connection, config));
  MR_RETURN_IF_ERROR(CheckOurs(config, publications));
  const Publication& all = publications[config.publication];
  const Publication& inserts = publications[config.InsertsPublication()];
  std::vector<const SourceTable*> with_identity;
  std::vector<const SourceTable*> without;
  PublicationPlan plan;
  for (const SourceTable& table : tables) {
    const uint32_t oid = table.table->oid;
    // In a DBA's publication a table may stand where the DBA wants it.
    const bool in_all =
        table.has_usable_identity || (!config.manage_publication && all.tables.contains(oid));
    (in_all ? with_identity : without).push_back(&table);
    if (!config.manage_publication) {
      MR_RETURN_IF_ERROR(CheckPartition(connection, all, table));
    }
    const bool has_updates = !table.has_usable_identity && all.publishes_any_update;
    if (has_updates && all.tables.contains(oid)) {
      plan.warnings.push_back(fmt::format(
          "publication '{}' publishes updates and deletes of table {}, which has no usable replica "
          "identity, so that the application's own UPDATE and DELETE fail there: add a primary "
          "key, or run ALTER TABLE {} REPLICA IDENTITY FULL",
          config.publication, table.table->FullName(), QuotedName(table)));
    }
  }
  std::set<uint32_t> members = all.members;
  members.insert(inserts.members.begin(), inserts.members.end());
  std::map<uint32_t, std::string> names;
  if (config.manage_publication) {
    MR_ASSIGN_OR_RETURN(names, NamesOf(connection, members));
  }
  PlanOne(config.publication, all, "insert, update, delete, truncate",
          all.publishes_inserts && all.publishes_updates, with_identity, names, plan.statements);
  plan.names.push_back(config.publication);
  // Made with the slot also while it is empty: the WAL behind a position is read with the catalog
  // of its time, where one that was made later does not exist.
  if (config.manage_publication || !without.empty() || inserts.exists) {
    PlanOne(config.InsertsPublication(), inserts, "insert, truncate",
            inserts.publishes_inserts && !inserts.publishes_any_update, without, names,
            plan.statements);
    plan.names.push_back(config.InsertsPublication());
  }
  return plan;
}

Result<std::vector<std::string>> EnsurePublications(pg::Connection& connection,
                                                    const PostgresSourceConfig& config,
                                                    const std::vector<SourceTable>& tables) {
  MR_ASSIGN_OR_RETURN(PublicationPlan plan, PlanPublications(connection, config, tables));
  if (plan.statements.empty()) {
    return std::move(plan.names);
  }
  const std::string statements = fmt::format("{};", fmt::join(plan.statements, "; "));
  if (!config.manage_publication) {
    return FailedPrecondition(fmt::format(
        "publication '{}' is not what source.tables needs and source.manage_publication is false: "
        "have a DBA run: {}",
        config.publication, statements));
  }
  for (const std::string& statement : plan.statements) {
    const Result<pg::QueryResult> done = connection.Exec(statement);
    if (done.status().code() == Code::kPermissionDenied) {
      return PermissionDenied(fmt::format(
          "make publication '{}': {}; it takes CREATE on the database and ownership of the tables: "
          "have a DBA run: {} and set source.manage_publication: false",
          config.publication, done.status().message(), statements));
    }
    if (done.status().code() == Code::kNotFound) {
      return Unavailable(fmt::format("make publication '{}': a table went meanwhile: {}",
                                     config.publication, done.status().message()));
    }
    if (!done.ok()) {
      return done.status().WithContext(fmt::format("make publication '{}'", config.publication));
    }
  }
  return std::move(plan.names);
}

}  // namespace millrace::sources::postgres
