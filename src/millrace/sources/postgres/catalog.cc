// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/catalog.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/sources/postgres/partitions.h"
#include "millrace/sources/postgres/published_tables.h"
#include "millrace/sources/postgres/table_condition.h"

namespace millrace::sources::postgres {
namespace {

// Numbers of the catalog; the server never sends others.
template <typename T>
T Number(std::string_view text) {
  T value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

bool IsTrue(std::string_view text) { return text == "t"; }

// A table while it is put together.
struct Draft {
  Table table;
  std::vector<ColumnTypeFacts> types;
  std::vector<int> attnums;  // of each column
  CatalogTable facts;
  bool has_identity_index = false;
  bool has_immediate_primary_key = false;
  bool has_primary_key_unpublished = false;
  bool is_exact = false;  // the configuration names it, and not by a pattern
  bool is_partitioned = false;
  bool is_partition = false;
  PartitionFacts partitions;
  std::optional<PublishedTable> published;
  bool has_generated_column = false;
};

Status CannotRead(const Draft& draft, std::string_view why) {
  return Unsupported(fmt::format("table {} {}", draft.table.FullName(), why));
}

ReplicaIdentity ParseIdentity(std::string_view text) {
  return text == "f"   ? ReplicaIdentity::kFull
         : text == "i" ? ReplicaIdentity::kIndex
         : text == "n" ? ReplicaIdentity::kNothing
                       : ReplicaIdentity::kDefault;
}

// Why a relation of this kind cannot be a source table; nothing if it can.
std::optional<std::string_view> KindProblem(std::string_view kind, std::string_view persistence) {
  if (kind != "r" && kind != "p") {
    return "is not a table: only tables have changes";
  }
  if (persistence != "p") {
    return "is unlogged or temporary: its changes are not in the WAL; ALTER TABLE ... SET LOGGED";
  }
  return std::nullopt;
}

constexpr std::string_view kTablesSql =
    "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident, "
    "has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), "
    "pg_has_role(c.relowner, 'USAGE'), row_security_active(c.oid), c.relispartition, "
    "coalesce(pg_relation_filenode(c.oid), 0) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ";

// Reads a row of kTablesSql.
template <typename Rows>
Result<Draft> ReadTable(const Rows& rows, size_t i) {
  Draft draft;
  draft.table.oid = Number<uint32_t>(rows.Text(i, 0));
  draft.table.schema = rows.Text(i, 1);
  draft.table.name = rows.Text(i, 2);
  draft.table.replica_identity = ParseIdentity(rows.Text(i, 5));
  draft.facts.can_select = IsTrue(rows.Text(i, 6));
  draft.facts.is_owner = IsTrue(rows.Text(i, 7));
  draft.facts.row_security_active = IsTrue(rows.Text(i, 8));
  draft.facts.source.file_node = Number<uint32_t>(rows.Text(i, 10));
  draft.is_partitioned = rows.Text(i, 3) == "p";
  draft.is_partition = IsTrue(rows.Text(i, 9));
  if (const auto problem = KindProblem(rows.Text(i, 3), rows.Text(i, 4))) {
    return CannotRead(draft, *problem);
  }
  return draft;
}

bool IsGiven(const std::vector<Draft>& drafts, uint32_t oid) {
  return std::any_of(drafts.begin(), drafts.end(),
                     [&](const Draft& draft) { return draft.table.oid == oid; });
}

// Partitions whose root is read too would be read twice: a pattern leaves them out, by name they
// are a mistake.
Status LoadPartitions(pg::Connection& connection, std::vector<Draft>& drafts, Catalog& catalog) {
  std::vector<uint32_t> oids;
  for (const Draft& draft : drafts) {
    if (draft.is_partitioned || draft.is_partition) {
      oids.push_back(draft.table.oid);
    }
  }
  MR_ASSIGN_OR_RETURN(auto facts, LoadPartitionFacts(connection, oids));
  std::vector<Draft> kept;
  for (Draft& draft : drafts) {
    draft.partitions = std::move(facts[draft.table.oid]);
    const std::vector<uint32_t>& ancestors = draft.partitions.ancestors;
    const auto root = std::find_if(ancestors.begin(), ancestors.end(),
                                   [&](uint32_t oid) { return IsGiven(drafts, oid); });
    if (root == ancestors.end()) {
      kept.push_back(draft);
    } else if (draft.is_exact) {
      catalog.problems.push_back(
          {.table = draft.table.FullName(),
           .is_exact = true,
           .status = InvalidArgument(fmt::format(
               "source.tables names {} and a partitioned table of which it is a partition: its "
               "rows would come twice; name the partitioned table, or its partitions",
               draft.table.FullName()))});
    }
  }
  drafts = std::move(kept);
  return Status::Ok();
}

// The tables that the configuration names, once each.
Status FindTables(pg::Connection& connection, const PostgresSourceConfig& config,
                  std::vector<Draft>& drafts, Catalog& catalog) {
  std::map<uint32_t, size_t> seen;
  for (const std::string& text : config.tables) {
    const auto pattern = config::TablePattern::Parse(text);
    if (!pattern) {
      return InvalidArgument(fmt::format("source.tables: '{}' names no table", text));
    }
    std::string sql = std::string(kTablesSql) + TableCondition(*pattern) +
                      " AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ";
    if (!pattern->exact()) {
      sql +=
          "AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' "
          "AND n.nspname <> 'information_schema' ";
    }
    sql += "ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\"";
    MR_ASSIGN_OR_RETURN(const pg::QueryResult rows, connection.Exec(sql));
    const bool is_exact = pattern->exact().has_value();
    if (rows.row_count() == 0 && (is_exact || !config.discover)) {
      catalog.problems.push_back(
          {.table = is_exact
                        ? fmt::format("{}.{}", pattern->exact()->schema, pattern->exact()->name)
                        : std::string(),
           .is_exact = is_exact,
           .status = NotFound(fmt::format(
               "source.tables: '{}' matches no table of {}: create it, or correct the name", text,
               connection.peer()))});
    }
    for (size_t i = 0; i < rows.row_count(); ++i) {
      const auto [at, is_new] = seen.emplace(Number<uint32_t>(rows.Text(i, 0)), SIZE_MAX);
      if (!is_new) {
        if (at->second != SIZE_MAX) {
          drafts[at->second].is_exact |= is_exact;
        }
        continue;
      }
      Result<Draft> draft = ReadTable(rows, i);
      if (!draft.ok()) {
        catalog.problems.push_back({.table = fmt::format("{}.{}", rows.Text(i, 1), rows.Text(i, 2)),
                                    .is_exact = is_exact,
                                    .status = draft.status()});
        continue;
      }
      draft->is_exact = is_exact;
      at->second = drafts.size();
      drafts.push_back(*std::move(draft));
    }
  }
  return LoadPartitions(connection, drafts, catalog);
}

Status LoadPublished(pg::Connection& connection, const PostgresSourceConfig& config,
                     std::vector<Draft>& drafts) {
  MR_ASSIGN_OR_RETURN(auto published, LoadPublishedTables(connection, config));
  for (Draft& draft : drafts) {
    if (const auto found = published.find(draft.table.oid); found != published.end()) {
      draft.published = std::move(found->second);
    }
  }
  return Status::Ok();
}

// Follows domains to their base and arrays to their element, however they are nested.
constexpr std::string_view kColumnsSql = R"(
WITH RECURSIVE declared AS (
  SELECT a.attrelid, a.attnum, a.attname, a.attnotnull, a.attstorage, a.atttypid, a.atttypmod,
         a.attndims::int AS attndims, a.attgenerated
  FROM pg_attribute a
  WHERE a.attrelid IN ({0}) AND a.attnum > 0 AND NOT a.attisdropped
), step AS (
  SELECT attrelid, attnum, atttypid AS typid, atttypmod AS typmod, attndims AS ndims, 0 AS arrays
  FROM declared
  UNION ALL
  SELECT s.attrelid, s.attnum,
         CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END,
         CASE WHEN t.typtype = 'd' AND t.typtypmod <> -1 THEN t.typtypmod ELSE s.typmod END,
         greatest(s.ndims, CASE WHEN t.typtype = 'd' THEN t.typndims::int ELSE 0 END),
         s.arrays + CASE WHEN t.typtype = 'd' THEN 0 ELSE 1 END
  FROM step s JOIN pg_type t ON t.oid = s.typid
  LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
  WHERE t.typtype = 'd' OR e.oid IS NOT NULL
)
SELECT d.attrelid, d.attnum, d.attname, d.attnotnull, d.attstorage, d.atttypid, d.atttypmod,
       s.typid, s.typmod, greatest(s.ndims, s.arrays), s.arrays > 0, t.typtype = 'e',
       t.typname = 'citext' AND EXISTS (
         SELECT 1 FROM pg_depend x JOIN pg_extension y ON y.oid = x.refobjid
         WHERE x.classid = 'pg_type'::regclass AND x.objid = t.oid AND x.deptype = 'e'
           AND x.refclassid = 'pg_extension'::regclass AND y.extname = 'citext'),
       d.attgenerated <> ''
FROM declared d JOIN step s USING (attrelid, attnum) JOIN pg_type t ON t.oid = s.typid
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
WHERE t.typtype <> 'd' AND e.oid IS NULL
ORDER BY d.attrelid, d.attnum)";

// Every column that there ever was. The text of attmissingval is that of an array with one element;
// a partitioned table has none, but those of its partitions that were there do.
constexpr std::string_view kAttributesSql = R"(
WITH RECURSIVE tree(root, relid) AS (
  SELECT c.oid, c.oid FROM pg_class c WHERE c.oid IN ({0}) AND c.relkind = 'p'
  UNION ALL
  SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.relid
), below AS (
  SELECT t.root, x.attname, min((x.attmissingval::text::text[])[1]) AS missing
  FROM tree t JOIN pg_attribute x ON x.attrelid = t.relid AND x.atthasmissing
  GROUP BY t.root, x.attname
)
SELECT a.attrelid, a.attnum, a.attname, a.attisdropped, a.attgenerated <> '',
       CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] ELSE b.missing END, a.xmin
FROM pg_attribute a LEFT JOIN below b ON b.root = a.attrelid AND b.attname = a.attname
WHERE a.attrelid IN ({0}) AND a.attnum > 0
ORDER BY a.attrelid, a.attnum)";

constexpr std::string_view kKeysSql = R"(
SELECT i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate,
       array_to_string(ARRAY(SELECT u.k FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u(k, o)
                             WHERE u.o <= i.indnkeyatts ORDER BY u.o), ' ')
FROM pg_index i
WHERE i.indrelid IN ({0}) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
  AND i.indexprs IS NULL
ORDER BY i.indrelid, i.indexrelid)";

// Before 18 generated columns are never published, although the server lists them as if they were.
constexpr int kFirstWithGenerated = 180000;

// Without a word from the server, every column but generated ones.
bool IsPublished(const Draft& draft, std::string_view column, bool is_generated,
                 int server_version) {
  if (!draft.published || !draft.published->columns ||
      (is_generated && server_version < kFirstWithGenerated)) {
    return !is_generated;
  }
  const std::vector<std::string>& columns = *draft.published->columns;
  return std::find(columns.begin(), columns.end(), column) != columns.end();
}

using DraftsByOid = std::map<uint32_t, Draft*>;

template <typename Rows>
void AddColumns(const Rows& rows, int server_version, DraftsByOid& by_oid) {
  std::map<uint32_t, Schema> schemas;
  for (size_t i = 0; i < rows.row_count(); ++i) {
    const auto oid = Number<uint32_t>(rows.Text(i, 0));
    Draft& draft = *by_oid.at(oid);
    const bool is_generated = IsTrue(rows.Text(i, 13));
    if (!IsPublished(draft, rows.Text(i, 2), is_generated, server_version)) {
      continue;
    }
    draft.has_generated_column |= is_generated;
    ColumnTypeFacts type;
    type.declared_oid = Number<uint32_t>(rows.Text(i, 5));
    type.declared_typmod = Number<int32_t>(rows.Text(i, 6));
    type.type.oid = Number<uint32_t>(rows.Text(i, 7));
    type.type.typmod = Number<int32_t>(rows.Text(i, 8));
    type.dimensions = Number<int32_t>(rows.Text(i, 9));
    type.is_array = IsTrue(rows.Text(i, 10));
    type.type.is_enum = IsTrue(rows.Text(i, 11));
    type.type.is_text_extension = IsTrue(rows.Text(i, 12));
    schemas[oid].push_back(
        {std::string(rows.Text(i, 2)), MapColumnType(type), !IsTrue(rows.Text(i, 3))});
    draft.table.toastable.push_back(rows.Text(i, 4) != "p");
    draft.attnums.push_back(Number<int>(rows.Text(i, 1)));
    draft.types.push_back(type);
  }
  for (auto& [oid, draft] : by_oid) {
    draft->table.columns = std::make_shared<const Schema>(std::move(schemas[oid]));
  }
}

template <typename Rows>
void AddAttributes(const Rows& rows, DraftsByOid& by_oid) {
  for (size_t i = 0; i < rows.row_count(); ++i) {
    Draft& draft = *by_oid.at(Number<uint32_t>(rows.Text(i, 0)));
    const CatalogColumn column{.attnum = Number<int>(rows.Text(i, 1)),
                               .name = std::string(rows.Text(i, 2)),
                               .is_dropped = IsTrue(rows.Text(i, 3)),
                               .is_generated = IsTrue(rows.Text(i, 4))};
    SourceTable& source = draft.facts.source;
    source.attnum_max = column.attnum;
    draft.facts.all_columns.push_back(column);
    const size_t next = source.columns.size();
    if (next < draft.attnums.size() && draft.attnums[next] == column.attnum) {
      SourceColumn& known = source.columns.emplace_back();
      known.attnum = column.attnum;
      known.catalog_xid = Number<uint32_t>(rows.Text(i, 6));
      if (!rows.IsNull(i, 5)) {
        known.missing = rows.Text(i, 5);
      }
    }
  }
}

// The columns of an index, or nothing if one of them is not published.
std::optional<std::vector<uint32_t>> KeyColumns(const Draft& draft, std::string_view attnums) {
  std::vector<uint32_t> key;
  while (!attnums.empty()) {
    const size_t space = std::min(attnums.find(' '), attnums.size());
    const int attnum = Number<int>(attnums.substr(0, space));
    const auto found = std::find(draft.attnums.begin(), draft.attnums.end(), attnum);
    if (found == draft.attnums.end()) {
      return std::nullopt;
    }
    key.push_back(static_cast<uint32_t>(found - draft.attnums.begin()));
    attnums.remove_prefix(std::min(space + 1, attnums.size()));
  }
  return key;
}

template <typename Rows>
void AddKeys(const Rows& rows, DraftsByOid& by_oid) {
  for (size_t i = 0; i < rows.row_count(); ++i) {
    Draft& draft = *by_oid.at(Number<uint32_t>(rows.Text(i, 0)));
    const bool is_primary = IsTrue(rows.Text(i, 1));
    const bool is_immediate = IsTrue(rows.Text(i, 3));
    std::optional<std::vector<uint32_t>> key = KeyColumns(draft, rows.Text(i, 4));
    if (!key.has_value()) {
      draft.has_primary_key_unpublished |= is_primary;
      continue;
    }
    if (IsTrue(rows.Text(i, 2))) {
      draft.has_identity_index = true;
      if (draft.table.replica_identity == ReplicaIdentity::kIndex) {
        draft.table.identity_index = *key;
      }
    }
    if (is_primary) {
      draft.has_immediate_primary_key = is_immediate;
      draft.table.primary_key = std::move(*key);
    } else if (is_immediate) {
      draft.table.unique_keys.push_back(std::move(*key));
    }
  }
}

bool HasUsableIdentity(const Draft& draft) {
  if (draft.is_partitioned && !draft.partitions.have_usable_identity) {
    return false;
  }
  switch (draft.table.replica_identity) {
    case ReplicaIdentity::kFull:
      return true;
    case ReplicaIdentity::kIndex:
      return draft.has_identity_index;
    case ReplicaIdentity::kNothing:
      return false;
    case ReplicaIdentity::kDefault:
      return draft.has_immediate_primary_key;
  }
  return false;
}

Result<CatalogTable> Finish(Draft draft) {
  if (draft.table.columns->empty()) {
    return CannotRead(draft, "has no columns, so that its rows have no values");
  }
  if (draft.facts.source.columns.size() != draft.attnums.size()) {
    return Unavailable(
        fmt::format("table {} was altered while it was looked at", draft.table.FullName()));
  }
  if (draft.has_primary_key_unpublished) {
    return CannotRead(
        draft,
        "has a column in its primary key that is not published, because it is generated or not in "
        "the publication's column list: publish it");
  }
  if (const std::string problem = PartitionProblem(draft.table, draft.partitions);
      !problem.empty()) {
    return FailedPrecondition(problem);
  }
  draft.facts.source.has_usable_identity = HasUsableIdentity(draft);
  draft.facts.source.types = std::move(draft.types);
  draft.facts.source.is_partitioned = draft.is_partitioned;
  if (draft.is_partitioned) {
    draft.facts.source.partitions = std::move(draft.partitions.partitions);
  }
  draft.facts.source.has_generated_column = draft.has_generated_column;
  draft.facts.is_published = draft.published.has_value();
  draft.facts.is_exact = draft.is_exact;
  if (draft.published) {
    draft.facts.source.row_filter = std::move(draft.published->row_filter);
  }
  draft.facts.source.table = std::make_shared<const Table>(std::move(draft.table));
  return std::move(draft.facts);
}

// The rest of what the catalog says of `drafts`, which need not be all there any more.
Status LoadDetails(pg::Connection& connection, std::vector<Draft>& drafts) {
  DraftsByOid by_oid;
  std::vector<uint32_t> oids;
  for (Draft& draft : drafts) {
    by_oid[draft.table.oid] = &draft;
    oids.push_back(draft.table.oid);
  }
  const CatalogStatements sql = MakeCatalogStatements(fmt::format("{}", fmt::join(oids, ", ")));
  MR_ASSIGN_OR_RETURN(const pg::QueryResult columns, connection.Exec(sql.columns));
  AddColumns(columns, connection.server_version(), by_oid);
  MR_ASSIGN_OR_RETURN(const pg::QueryResult attributes, connection.Exec(sql.attributes));
  AddAttributes(attributes, by_oid);
  MR_ASSIGN_OR_RETURN(const pg::QueryResult keys, connection.Exec(sql.keys));
  AddKeys(keys, by_oid);
  return Status::Ok();
}

}  // namespace

namespace {

Result<Catalog> LoadAsOfSnapshot(pg::Connection& connection, const PostgresSourceConfig& config) {
  Catalog catalog;
  std::vector<Draft> drafts;
  MR_RETURN_IF_ERROR(FindTables(connection, config, drafts, catalog));
  MR_RETURN_IF_ERROR(LoadPublished(connection, config, drafts));
  if (drafts.empty()) {
    return catalog;
  }
  MR_RETURN_IF_ERROR(LoadDetails(connection, drafts));
  for (Draft& draft : drafts) {
    const bool is_left_out = !draft.is_exact && draft.table.columns->empty();
    const std::string name = draft.table.FullName();
    const bool is_exact = draft.is_exact;
    Result<CatalogTable> table = Finish(std::move(draft));
    if (table.ok()) {
      catalog.tables.push_back(*std::move(table));
    } else if (is_left_out) {
      catalog.left_out.push_back(table.status().message());
    } else {
      catalog.problems.push_back({.table = name, .is_exact = is_exact, .status = table.status()});
    }
  }
  return catalog;
}

}  // namespace

Result<Catalog> LoadCatalog(pg::Connection& connection, const PostgresSourceConfig& config) {
  if (connection.InTransaction()) {
    return LoadAsOfSnapshot(connection, config);
  }
  // A column that came between two statements would count as one that is not published.
  MR_RETURN_IF_ERROR(connection.Exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").status());
  Result<Catalog> catalog = LoadAsOfSnapshot(connection, config);
  const Status ended = connection.Exec(catalog.ok() ? "COMMIT" : "ROLLBACK").status();
  return catalog.ok() && !ended.ok() ? Result<Catalog>(ended) : std::move(catalog);
}

Result<std::set<std::string>> ListTables(pg::Connection& connection,
                                         const PostgresSourceConfig& config) {
  Catalog catalog;
  std::vector<Draft> drafts;
  MR_RETURN_IF_ERROR(FindTables(connection, config, drafts, catalog));
  std::set<std::string> names;
  for (const Draft& draft : drafts) {
    names.insert(draft.table.FullName());
  }
  return names;
}

CatalogStatements MakeCatalogStatements(std::string_view oids) {
  return {.tables = fmt::format("{}c.oid IN ({})", kTablesSql, oids),
          .columns = fmt::format(fmt::runtime(kColumnsSql), oids),
          .attributes = fmt::format(fmt::runtime(kAttributesSql), oids),
          .keys = fmt::format(fmt::runtime(kKeysSql), oids)};
}

Result<CatalogTable> ReadCatalogRows(const CatalogRows& rows,
                                     std::optional<PublishedTable> published) {
  MR_ASSIGN_OR_RETURN(Draft draft, ReadTable(rows.tables, 0));
  draft.published = std::move(published);
  DraftsByOid by_oid = {{draft.table.oid, &draft}};
  // Whether generated columns are published is for `published` to say.
  AddColumns(rows.columns, kFirstWithGenerated, by_oid);
  AddAttributes(rows.attributes, by_oid);
  AddKeys(rows.keys, by_oid);
  return Finish(std::move(draft));
}

const CatalogTable* CatalogMoment::Find(uint32_t oid) const {
  const auto found = std::find_if(tables.begin(), tables.end(), [&](const CatalogTable& table) {
    return table.source.table->oid == oid;
  });
  return found == tables.end() ? nullptr : &*found;
}

Result<CatalogMoment> LoadMoment(pg::Connection& connection, const PostgresSourceConfig& config,
                                 const std::vector<SourceTablePtr>& tables) {
  CatalogMoment moment;
  std::vector<uint32_t> oids;
  std::string names;
  for (const SourceTablePtr& table : tables) {
    oids.push_back(table->table->oid);
    names +=
        fmt::format("{}({}, {})", names.empty() ? "" : ", ", pg::QuoteLiteral(table->table->schema),
                    pg::QuoteLiteral(table->table->name));
  }
  if (oids.empty()) {
    return moment;
  }
  // One snapshot for all statements.
  MR_RETURN_IF_ERROR(connection.Exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").status());
  MR_ASSIGN_OR_RETURN(const pg::QueryResult now, connection.Exec("SELECT pg_current_snapshot()"));
  MR_ASSIGN_OR_RETURN(moment.snapshot, XidSnapshot::Parse(now.Text(0, 0)));
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult rows,
      connection.Exec(fmt::format("{}c.oid IN ({}) OR (n.nspname, c.relname) IN ({})", kTablesSql,
                                  fmt::join(oids, ", "), names)));
  std::vector<Draft> drafts;
  std::vector<uint32_t> partition_oids;
  for (size_t i = 0; i < rows.row_count(); ++i) {
    Result<Draft> draft = ReadTable(rows, i);
    if (draft.ok()) {
      moment.oid_of_name[draft->table.FullName()] = draft->table.oid;
      if (draft->is_partitioned || draft->is_partition) {
        partition_oids.push_back(draft->table.oid);
      }
      drafts.push_back(*std::move(draft));
    }
  }
  if (!drafts.empty()) {
    MR_ASSIGN_OR_RETURN(auto partitions, LoadPartitionFacts(connection, partition_oids));
    for (Draft& draft : drafts) {
      draft.partitions = std::move(partitions[draft.table.oid]);
      const auto known = std::find_if(tables.begin(), tables.end(), [&](const auto& table) {
        return table->table->oid == draft.table.oid && table->partitions.has_value();
      });
      if (known != tables.end()) {
        MR_RETURN_IF_ERROR(
            FindEmpty(connection, *(*known)->partitions, draft.partitions.partitions));
      }
    }
    MR_RETURN_IF_ERROR(LoadPublished(connection, config, drafts));
    MR_RETURN_IF_ERROR(LoadDetails(connection, drafts));
  }
  for (Draft& draft : drafts) {
    if (Result<CatalogTable> table = Finish(std::move(draft)); table.ok()) {
      moment.tables.push_back(*std::move(table));
    }
  }
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult end,
      connection.Exec("SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE "
                      "pg_current_wal_insert_lsn() END"));
  MR_ASSIGN_OR_RETURN(moment.wal_end, ParseLsn(end.Text(0, 0)));
  MR_RETURN_IF_ERROR(connection.Exec("COMMIT").status());
  return moment;
}

}  // namespace millrace::sources::postgres
