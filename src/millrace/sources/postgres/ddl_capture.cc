// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/ddl_capture.h"

#include <array>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/ddl_message.h"

namespace millrace::sources::postgres {
namespace {

struct Trigger {
  std::string_view name;
  std::string_view event;
  std::string_view when;
};
constexpr std::array<Trigger, 3> kTriggers = {{
    {"millrace_ddl_command_end", "ddl_command_end", " WHEN TAG IN ('ALTER TABLE')"},
    {"millrace_sql_drop", "sql_drop", ""},
    {"millrace_table_rewrite", "table_rewrite", ""},
}};

constexpr std::string_view kSchemaSql = "CREATE SCHEMA millrace";
constexpr std::string_view kKeySql =
    "CREATE MATERIALIZED VIEW millrace.ddl_key AS SELECT pg_catalog.gen_random_uuid()::text AS key";

// Settings as those of our connections, so that a column's value for older rows has the same text.
constexpr std::string_view kFunctionSql = R"(CREATE OR REPLACE FUNCTION millrace.capture_ddl()
  RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
  SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'iso_8601'
  SET extra_float_digits = 3 SET bytea_output = 'hex' SET lc_monetary = 'C'
  SET quote_all_identifiers = off
AS $millrace${}$millrace$)";

// Decoding puts the changes of a transaction and its subtransactions in order by where each record
// begins, and messages by where theirs ends (14 to 18; logicalmsg_decode() in decode.c): the block
// with EXCEPTION is a subtransaction, and a row right behind its message could come before it. One
// more record, which nobody reads, stands between.
//
// Whether a type's conversion has a USING can be told where the statement's text is at hand: it is
// the client's own, and no function's.
constexpr std::string_view kBody = R"(
DECLARE
  mr_oid oid;
  mr_oids oid[];
  mr_context text;
  mr_message bytea;
  mr_is_written bool := false;
BEGIN
  IF TG_EVENT = 'table_rewrite' THEN
    GET DIAGNOSTICS mr_context = PG_CONTEXT;
    mr_oid := pg_event_trigger_table_rewrite_oid();
    PERFORM pg_logical_emit_message(true, '{prefix}', convert_to(json_build_object(
        'format', 1, 'key', (SELECT k.key FROM millrace.ddl_key k),
        'rewrite', json_build_object(
          'oids', (SELECT json_agg(DISTINCT a.oid::bigint) FROM (
              SELECT mr_oid UNION SELECT p.relid::oid FROM pg_partition_ancestors(mr_oid) p) AS a(oid)),
          'reason', pg_event_trigger_table_rewrite_reason(),
          'may_convert', coalesce(strpos(mr_context, chr(10)) > 0
              OR current_query() ~* 'using|extension' OR current_query() !~* 'alter', true))
      )::text, 'UTF8'))
    FROM pg_class c WHERE c.oid = mr_oid AND c.relpersistence = 'p';
    RETURN;
  END IF;
  IF TG_EVENT = 'ddl_command_end' THEN
    mr_oids := ARRAY(SELECT DISTINCT o.objid FROM pg_event_trigger_ddl_commands() o
                     WHERE o.classid = 'pg_class'::regclass);
  ELSIF TG_TAG <> 'ALTER TABLE' THEN
    mr_oids := ARRAY(SELECT DISTINCT o.objid FROM pg_event_trigger_dropped_objects() o
                     WHERE o.classid = 'pg_class'::regclass AND o.objsubid > 0);
  END IF;
  FOR mr_oid IN
    WITH RECURSIVE changed(oid) AS (
      SELECT unnest(mr_oids)
      UNION
      SELECT i.inhrelid FROM pg_inherits i JOIN changed h ON i.inhparent = h.oid)
    SELECT c.oid FROM pg_class c JOIN changed h ON c.oid = h.oid
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND (c.oid = ANY (mr_oids)
      OR EXISTS (SELECT 1 FROM pg_publication_rel r WHERE r.prrelid = c.oid))
  LOOP
    mr_message := convert_to(json_build_object(
      'format', 1, 'key', (SELECT k.key FROM millrace.ddl_key k), 'oid', mr_oid::bigint,
      'table', {tables},
      'columns', {columns},
      'attributes', {attributes},
      'keys', {keys},
      'publications', (
        SELECT json_object_agg(p.pubname, json_build_object(
          'columns', to_jsonb(r) -> 'prattrs', 'generated', to_jsonb(p) -> 'pubgencols'))
        FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
        WHERE r.prrelid = mr_oid)
    )::text, 'UTF8');
    IF octet_length(mr_message) <= {message_max} THEN
      PERFORM pg_logical_emit_message(true, '{prefix}', mr_message);
      mr_is_written := true;
    END IF;
  END LOOP;
  IF mr_is_written THEN
    PERFORM pg_logical_emit_message(true, '{prefix}.end', '');
  END IF;
EXCEPTION WHEN OTHERS THEN
  RETURN;
END
)";

// The rows of a statement as an array of arrays.
std::string RowsSql(const std::string& statement, size_t width) {
  std::vector<std::string> names;
  std::vector<std::string> values;
  for (size_t i = 0; i < width; ++i) {
    names.push_back(fmt::format("c{}", i));
    values.push_back(fmt::format("q.c{}", i));
  }
  return fmt::format("(SELECT coalesce(json_agg(json_build_array({})), '[]') FROM ({}) AS q({}))",
                     fmt::join(values, ", "), statement, fmt::join(names, ", "));
}

std::string Body() {
  const CatalogStatements sql = MakeCatalogStatements("mr_oid");
  return fmt::format(fmt::runtime(kBody), fmt::arg("prefix", kDdlPrefix),
                     fmt::arg("tables", RowsSql(sql.tables, kTablesWidth)),
                     fmt::arg("columns", RowsSql(sql.columns, kColumnsWidth)),
                     fmt::arg("attributes", RowsSql(sql.attributes, kAttributesWidth)),
                     fmt::arg("keys", RowsSql(sql.keys, kKeysWidth)),
                     fmt::arg("message_max", kDdlMessageMax));
}

std::string FunctionSql() { return fmt::format(fmt::runtime(kFunctionSql), Body()); }

std::vector<std::string> TriggerSql() {
  std::vector<std::string> statements;
  for (const Trigger& trigger : kTriggers) {
    statements.push_back(
        fmt::format("CREATE EVENT TRIGGER {} ON {}{} EXECUTE FUNCTION "
                    "millrace.capture_ddl()",
                    trigger.name, trigger.event, trigger.when));
    // Also for statements under session_replication_role = replica.
    statements.push_back(fmt::format("ALTER EVENT TRIGGER {} ENABLE ALWAYS", trigger.name));
  }
  return statements;
}

std::string TriggerNames() {
  std::vector<std::string> names;
  for (const Trigger& trigger : kTriggers) {
    names.push_back(pg::QuoteLiteral(trigger.name));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string Grants(const std::string& role) {
  const std::string to = pg::QuoteIdentifier(role);
  return fmt::format("GRANT USAGE ON SCHEMA millrace TO {}; GRANT SELECT ON millrace.ddl_key TO {}",
                     to, to);
}

std::vector<std::string> PlanInstallation(const DdlCaptureState& state) {
  std::vector<std::string> statements;
  if (!state.has_schema) {
    statements.emplace_back(kSchemaSql);
  }
  if (!state.has_key) {
    statements.emplace_back(kKeySql);
  }
  if (!state.is_current) {
    statements.push_back(FunctionSql());
  }
  if (!state.is_complete) {
    for (const Trigger& trigger : kTriggers) {
      statements.push_back(fmt::format("DROP EVENT TRIGGER IF EXISTS {}", trigger.name));
    }
    for (std::string& statement : TriggerSql()) {
      statements.push_back(std::move(statement));
    }
  }
  return statements;
}

Result<std::string> Install(pg::Connection& connection) {
  // Pipelines that start together install it once.
  MR_RETURN_IF_ERROR(
      connection.Exec("SELECT pg_advisory_xact_lock(hashtextextended('millrace.capture_ddl', 0))")
          .status());
  MR_ASSIGN_OR_RETURN(const DdlCaptureState state, LookAtDdlCapture(connection));
  if (!state.is_trusted && (state.is_superuser || !state.is_complete)) {
    return FailedPrecondition(
        "schema 'millrace' or what is in it belongs to a role that is no superuser and not ours, "
        "which could make the triggers of source.capture_ddl run what it likes: have its owner or "
        "a DBA move it out of the way");
  }
  if (state.is_superuser) {
    for (const std::string& statement : PlanInstallation(state)) {
      MR_RETURN_IF_ERROR(connection.Exec(statement).status().WithContext(
          "install the event triggers of source.capture_ddl"));
    }
  } else if (const std::string remedy = DdlCaptureRemedy(state); !remedy.empty()) {
    return PermissionDenied(remedy);
  }
  return ReadDdlKey(connection);
}

}  // namespace

Result<DdlCaptureState> LookAtDdlCapture(pg::Connection& connection) {
  MR_ASSIGN_OR_RETURN(const pg::QueryResult row,
                      connection.Exec(fmt::format(
                          R"(
SELECT EXISTS (SELECT 1 FROM pg_event_trigger e WHERE e.evtname IN ({0})),
       (SELECT count(*) FROM pg_event_trigger e WHERE e.evtname IN ({0}) AND e.evtfoid = p.oid
          AND e.evtenabled = 'A') = {1},
       coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(k.oid, 'SELECT'),
                false),
       coalesce(p.prosrc = {2}, false),
       NOT EXISTS (SELECT 1 FROM pg_roles r WHERE r.oid IN (n.nspowner, k.relowner, p.proowner)
                   AND NOT r.rolsuper AND r.rolname <> current_user),
       n.oid IS NOT NULL, k.oid IS NOT NULL,
       (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user), current_user
FROM (SELECT 1) AS one
LEFT JOIN pg_namespace n ON n.nspname = 'millrace'
LEFT JOIN pg_class k ON k.relnamespace = n.oid AND k.relname = 'ddl_key' AND k.relkind = 'm'
LEFT JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = 'capture_ddl' AND p.pronargs = 0)",
                          TriggerNames(), kTriggers.size(), pg::QuoteLiteral(Body()))));
  const auto is = [&row](size_t column) { return row.Text(0, column) == "t"; };
  return DdlCaptureState{.has_triggers = is(0),
                         .is_complete = is(1),
                         .can_read_key = is(2),
                         .is_current = is(3),
                         .is_trusted = is(4),
                         .has_schema = is(5),
                         .has_key = is(6),
                         .is_superuser = is(7),
                         .role = std::string(row.Text(0, 8))};
}

std::string DdlCaptureRemedy(const DdlCaptureState& state) {
  if (state.is_superuser || (state.is_complete && state.can_read_key)) {
    return "";
  }
  const std::string first =
      state.is_complete
          ? ""
          : fmt::format("{}the SQL that `millrace docs capture-ddl` prints, and then ",
                        state.has_schema ? fmt::format("{}, ", kDropDdlCapture) : "");
  return fmt::format(
      "source.capture_ddl takes event triggers, which role '{}' may not {}: have a superuser run "
      "{}{}",
      state.role, state.is_complete ? "read the key of" : "make", first, Grants(state.role));
}

Result<std::string> EnsureDdlCapture(pg::Connection& connection) {
  MR_RETURN_IF_ERROR(connection.Exec("BEGIN").status());
  Result<std::string> key = Install(connection);
  if (!key.ok()) {
    // The connection may be of no further use; the error at hand says why.
    (void)connection.Exec("ROLLBACK");
    return key;
  }
  MR_RETURN_IF_ERROR(connection.Exec("COMMIT").status().WithContext(
      "install the event triggers of source.capture_ddl"));
  return key;
}

Result<std::string> ReadDdlKey(pg::Connection& connection) {
  MR_ASSIGN_OR_RETURN(const pg::QueryResult key,
                      connection.Exec("SELECT key FROM millrace.ddl_key"));
  if (key.row_count() != 1 || key.Text(0, 0).empty()) {
    return FailedPrecondition(fmt::format(
        "millrace.ddl_key, by which the event triggers of source.capture_ddl are known, is empty: "
        "have a superuser run {}, and install them again",
        kDropDdlCapture));
  }
  return std::string(key.Text(0, 0));
}

std::string DdlCaptureScript() {
  std::string script =
      "-- The event triggers of source.capture_ddl: once in a database, by a superuser. A "
      "pipeline's\n"
      "-- role needs USAGE on schema millrace and SELECT on millrace.ddl_key.\n"
      "-- To remove them: " +
      std::string(kDropDdlCapture) + ";\nBEGIN;\n";
  std::vector<std::string> statements = {std::string(kSchemaSql), std::string(kKeySql),
                                         FunctionSql()};
  for (std::string& statement : TriggerSql()) {
    statements.push_back(std::move(statement));
  }
  for (const std::string& statement : statements) {
    script += statement + ";\n";
  }
  return script + "COMMIT;\n";
}

}  // namespace millrace::sources::postgres
