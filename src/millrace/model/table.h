// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "millrace/common/strong_id.h"
#include "millrace/model/data_type.h"
#include "millrace/model/row_batch.h"

namespace millrace {

// What the old image of an UPDATE or DELETE holds: pg_class.relreplident.
enum class ReplicaIdentity : uint8_t { kDefault, kFull, kIndex, kNothing };

// One version of a table of the source, as the stream of changes knows it. Immutable and shared.
//
// A column keeps its place in every later version: its name may change, its type widen, and it may
// become nullable. New columns come behind the last one. A column that was dropped stays, and is
// NULL from then on. evolution.h fits rows of earlier versions in.
struct Table {
  uint32_t oid = 0;
  std::string schema;
  std::string name;
  // Counts the versions, from 1. Of two versions the higher is the later one.
  uint32_t version = 1;
  // Published columns, at first in attnum order; nullable = not attnotnull.
  SchemaPtr columns;
  // One row: what each column holds in rows that were made before the column was there. Null: NULL.
  std::shared_ptr<const RowBatch> fill;
  // The names of earlier versions, newest first: what was written for one of them is still
  // understood.
  std::vector<std::vector<std::string>> former_names;
  // The names that the catalog has already, where the stream has not come to them yet; or empty.
  std::vector<std::string> next_names;
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
