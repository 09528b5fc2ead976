// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/model/table.h"

namespace millrace::sources::postgres {

// What the catalog says of a partitioned table, or of a partition.
struct PartitionFacts {
  std::vector<uint32_t> ancestors;  // nearest first; of a partition
  std::vector<uint32_t> leaves;     // ascending; of a partitioned table
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

// Why partitioned `root` cannot be followed as one table, one sentence with the remedy; or nothing.
std::string PartitionProblem(const Table& root, const PartitionFacts& facts);

}  // namespace millrace::sources::postgres
