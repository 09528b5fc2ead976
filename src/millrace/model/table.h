// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "millrace/common/strong_id.h"
#include "millrace/model/data_type.h"

namespace millrace {

// What the old image of an UPDATE or DELETE holds: pg_class.relreplident.
enum class ReplicaIdentity : uint8_t { kDefault, kFull, kIndex, kNothing };

// A table of the source, as it was when the source opened. Immutable and shared.
struct Table {
  uint32_t oid = 0;
  std::string schema;
  std::string name;
  SchemaPtr columns;  // published columns in attnum order; nullable = not attnotnull
  // Indexes into columns: the primary key in key order (empty: none), and the unique constraints.
  std::vector<uint32_t> primary_key;
  std::vector<std::vector<uint32_t>> unique_keys;
  ReplicaIdentity replica_identity = ReplicaIdentity::kDefault;
  // With kIndex: the columns of the identity index, by which old images name their row.
  std::vector<uint32_t> identity_index;
  // Columns whose values PostgreSQL may store out of line (attstorage other than plain).
  std::vector<bool> toastable;

  // Old images name their row by the identity index, and that does not hold the whole primary key.
  bool OldImagesLackKey() const {
    return !identity_index.empty() &&
           !std::all_of(primary_key.begin(), primary_key.end(), [this](uint32_t column) {
             return std::find(identity_index.begin(), identity_index.end(), column) !=
                    identity_index.end();
           });
  }

  // `public.content`, quoted only where PostgreSQL needs it; for people.
  std::string FullName() const { return schema + "." + name; }
};
using TablePtr = std::shared_ptr<const Table>;

}  // namespace millrace
