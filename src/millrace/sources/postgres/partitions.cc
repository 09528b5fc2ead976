// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/partitions.h"

#include <charconv>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/clients/postgres/quoting.h"

namespace millrace::sources::postgres {
namespace {

constexpr std::string_view kAncestorsSql = R"(
SELECT c.oid, a.relid::oid FROM pg_class c
CROSS JOIN LATERAL pg_partition_ancestors(c.oid) WITH ORDINALITY AS a(relid, i)
WHERE c.oid IN ({}) AND a.relid <> c.oid ORDER BY c.oid, a.i)";

// By pg_inherits, because pg_partition_tree() locks the leaves before anything locks their root:
// with a TRUNCATE of the root that is a deadlock.
constexpr std::string_view kLeavesSql = R"(
WITH RECURSIVE tree(root, relid) AS (
  SELECT c.oid, c.oid FROM pg_class c WHERE c.oid IN ({}) AND c.relkind = 'p'
  UNION ALL
  SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.relid)
SELECT t.root, l.oid, n.nspname, l.relname, l.relkind, l.relpersistence, l.relreplident,
       EXISTS (SELECT 1 FROM pg_index i
               WHERE i.indrelid = l.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate)
FROM tree t JOIN pg_class l ON l.oid = t.relid JOIN pg_namespace n ON n.oid = l.relnamespace
WHERE l.relkind <> 'p'
ORDER BY t.root, l.oid)";

uint32_t Oid(std::string_view text) {
  uint32_t oid = 0;
  std::from_chars(text.data(), text.data() + text.size(), oid);
  return oid;
}

void AddLeaf(const pg::QueryResult& rows, size_t row, PartitionFacts& facts) {
  facts.leaves.push_back(Oid(rows.Text(row, 1)));
  const std::string name = pg::QuoteQualified(rows.Text(row, 2), rows.Text(row, 3));
  const std::string_view identity = rows.Text(row, 6);
  if (rows.Text(row, 4) != "r" || rows.Text(row, 5) != "p") {
    facts.unreadable_leaf = name;
  }
  if (identity == "i") {
    facts.index_leaf = name;
  }
  if (identity != "f") {
    facts.not_full_leaf = name;
  }
  const bool is_usable =
      identity == "f" || identity == "i" || (identity == "d" && rows.Text(row, 7) == "t");
  facts.have_usable_identity &= is_usable;
}

}  // namespace

Result<std::map<uint32_t, PartitionFacts>> LoadPartitionFacts(pg::Connection& connection,
                                                              const std::vector<uint32_t>& oids) {
  std::map<uint32_t, PartitionFacts> facts;
  if (oids.empty()) {
    return facts;
  }
  const std::string list = fmt::format("{}", fmt::join(oids, ", "));
  MR_ASSIGN_OR_RETURN(const pg::QueryResult ancestors,
                      connection.Exec(fmt::format(fmt::runtime(kAncestorsSql), list)));
  for (size_t i = 0; i < ancestors.row_count(); ++i) {
    facts[Oid(ancestors.Text(i, 0))].ancestors.push_back(Oid(ancestors.Text(i, 1)));
  }
  MR_ASSIGN_OR_RETURN(const pg::QueryResult leaves,
                      connection.Exec(fmt::format(fmt::runtime(kLeavesSql), list)));
  for (size_t i = 0; i < leaves.row_count(); ++i) {
    AddLeaf(leaves, i, facts[Oid(leaves.Text(i, 0))]);
  }
  return facts;
}

std::string PartitionProblem(const Table& root, const PartitionFacts& facts) {
  if (!facts.unreadable_leaf.empty()) {
    return fmt::format(
        "partition {} of table {} is a foreign or unlogged table, whose changes are not in the "
        "WAL: detach it, or name the other partitions in source.tables",
        facts.unreadable_leaf, root.FullName());
  }
  if (!facts.index_leaf.empty()) {
    return fmt::format(
        "partition {0} of table {1} has an index as its replica identity, and old rows come as the "
        "root describes them: ALTER TABLE {0} REPLICA IDENTITY DEFAULT, or FULL",
        facts.index_leaf, root.FullName());
  }
  if (root.replica_identity == ReplicaIdentity::kFull && !facts.not_full_leaf.empty()) {
    return fmt::format(
        "table {1} has replica identity full and its partition {0} has not: ALTER TABLE {0} "
        "REPLICA IDENTITY FULL, or set the root's to DEFAULT",
        facts.not_full_leaf, root.FullName());
  }
  return {};
}

}  // namespace millrace::sources::postgres
