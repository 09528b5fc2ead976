// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/model/table.h"
#include "millrace/sources/postgres/source_table.h"

namespace millrace::sources::postgres {

// What the catalog says of a partitioned table, or of a partition.
struct PartitionFacts {
  std::vector<uint32_t> ancestors;    // nearest first; of a partition
  std::vector<Partition> partitions;  // by oid; of a partitioned table, at every depth
  // The application's UPDATE and DELETE look at each leaf's own identity.
  bool have_usable_identity = true;
  // Names of leaves, one of each kind: foreign tables and unlogged ones, of which nothing comes;
  // those with an identity index; those without identity full.
  std::string unreadable_leaf;
  std::string index_leaf;
  std::string not_full_leaf;
};

Result<std::map<uint32_t, PartitionFacts>> LoadPartitionFacts(pg::Connection& connection,
                                                              const std::vector<uint32_t>& oids);

// Finds out which of `partitions` hold no rows, of those that `known` has not and that were not
// created as partitions. Waits for whoever has one of them locked.
Status FindEmpty(pg::Connection& connection, const std::vector<Partition>& known,
                 std::vector<Partition>& partitions);

// How the rows of a root changed without row events.
struct PartitionChange {
  std::string partition;
  std::string_view what;     // "was attached with rows"
  bool brings_rows = false;  // that are not downstream
};

// What became of the partitions `known`, which are `now`. `truncations` of the whole root came as
// row events do. One that was created as a partition is no change, nor is one that was attached
// empty; VACUUM FULL looks like TRUNCATE.
std::vector<PartitionChange> ComparePartitions(const std::vector<Partition>& known,
                                               const std::vector<Partition>& now,
                                               const std::vector<uint32_t>& truncations);

// Why partitioned `root` cannot be followed as one table, one sentence with the remedy; or nothing.
std::string PartitionProblem(const Table& root, const PartitionFacts& facts);

}  // namespace millrace::sources::postgres
