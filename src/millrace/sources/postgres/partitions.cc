// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/partitions.h"

#include <algorithm>
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

// ATTACH writes the entries of all columns anew: where one is still that of the CREATE, which wrote
// the system columns too, the table was created as a partition.
//
// By pg_inherits, because pg_partition_tree() locks the leaves before anything locks their root:
// with a TRUNCATE of the root that is a deadlock.
constexpr std::string_view kLeavesSql = R"(
WITH RECURSIVE tree(root, relid, attached_by) AS (
  SELECT c.oid, c.oid, NULL::xid FROM pg_class c WHERE c.oid IN ({}) AND c.relkind = 'p'
  UNION ALL
  SELECT t.root, i.inhrelid, i.xmin FROM tree t JOIN pg_inherits i ON i.inhparent = t.relid
  WHERE NOT i.inhdetachpending)
SELECT t.root, l.oid, n.nspname, l.relname, l.relkind, l.relpersistence, l.relreplident,
       EXISTS (SELECT 1 FROM pg_index i
               WHERE i.indrelid = l.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate),
       t.attached_by, l.relfilenode, l.xmin,
       EXISTS (SELECT 1 FROM pg_attribute s JOIN pg_attribute u ON u.attrelid = s.attrelid
               WHERE s.attrelid = l.oid AND s.attnum = -1 AND u.attnum > 0
                 AND u.xmin = s.xmin AND u.cmin = s.cmin)
FROM tree t JOIN pg_class l ON l.oid = t.relid JOIN pg_namespace n ON n.oid = l.relnamespace
WHERE t.attached_by IS NOT NULL
ORDER BY t.root, l.oid)";

uint32_t Oid(std::string_view text) {
  uint32_t oid = 0;
  std::from_chars(text.data(), text.data() + text.size(), oid);
  return oid;
}

void AddPartition(const pg::QueryResult& rows, size_t row, PartitionFacts& facts) {
  const std::string name = pg::QuoteQualified(rows.Text(row, 2), rows.Text(row, 3));
  facts.partitions.push_back({.oid = Oid(rows.Text(row, 1)),
                              .name = name,
                              .attached_by = Oid(rows.Text(row, 8)),
                              .file_node = Oid(rows.Text(row, 9)),
                              .written_by = Oid(rows.Text(row, 10)),
                              .is_born = rows.Text(row, 11) == "t"});
  if (rows.Text(row, 4) == "p") {
    return;
  }
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

bool Contains(const std::vector<Partition>& partitions, const Partition& wanted) {
  return std::any_of(partitions.begin(), partitions.end(),
                     [&](const Partition& other) { return other.IsSame(wanted); });
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
  MR_ASSIGN_OR_RETURN(const pg::QueryResult partitions,
                      connection.Exec(fmt::format(fmt::runtime(kLeavesSql), list)));
  for (size_t i = 0; i < partitions.row_count(); ++i) {
    AddPartition(partitions, i, facts[Oid(partitions.Text(i, 0))]);
  }
  return facts;
}

Status FindEmpty(pg::Connection& connection, const std::vector<Partition>& known,
                 std::vector<Partition>& partitions) {
  std::vector<uint32_t> attached;
  for (const Partition& partition : partitions) {
    if (!partition.is_born && partition.file_node != 0 && !Contains(known, partition)) {
      attached.push_back(partition.oid);
    }
  }
  if (attached.empty()) {
    return Status::Ok();
  }
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult rows,
      connection.Exec(fmt::format("SELECT c.oid FROM pg_class c WHERE c.oid IN ({}) "
                                  "AND pg_relation_size(c.oid) = 0",
                                  fmt::join(attached, ", "))));
  for (size_t i = 0; i < rows.row_count(); ++i) {
    const uint32_t oid = Oid(rows.Text(i, 0));
    for (Partition& partition : partitions) {
      partition.is_empty |= partition.oid == oid;
    }
  }
  return Status::Ok();
}

std::vector<PartitionChange> ComparePartitions(const std::vector<Partition>& known,
                                               const std::vector<Partition>& now,
                                               const std::vector<uint32_t>& truncations) {
  std::vector<PartitionChange> changes;
  for (const Partition& partition : now) {
    const auto before = std::find_if(known.begin(), known.end(), [&](const Partition& other) {
      return other.oid == partition.oid;
    });
    const bool is_new = before == known.end() || before->attached_by != partition.attached_by;
    // A file that is as it was made has the number of its table.
    const uint32_t file_node = is_new ? partition.oid : before->file_node;
    const bool is_truncated_with_root = std::find(truncations.begin(), truncations.end(),
                                                  partition.written_by) != truncations.end();
    const bool is_replaced =
        partition.file_node != 0 && partition.file_node != file_node && !is_truncated_with_root;
    if (is_new && !partition.is_born && partition.file_node == 0) {
      // Its own partitions are looked at, but they may have been created in it with rows since.
      changes.push_back({partition.name, "was attached with its partitions", true});
    } else if (is_new && !partition.is_born && (!partition.is_empty || is_replaced)) {
      changes.push_back({partition.name, "was attached with rows", true});
    } else if (is_replaced) {
      changes.push_back({partition.name, "was truncated by its own name, or written anew", false});
    }
  }
  for (const Partition& partition : known) {
    if (std::none_of(now.begin(), now.end(),
                     [&](const Partition& other) { return other.oid == partition.oid; })) {
      changes.push_back({partition.name, "was dropped or detached", false});
    }
  }
  return changes;
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
