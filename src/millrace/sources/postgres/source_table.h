// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "millrace/model/table.h"
#include "millrace/sources/postgres/type_map.h"

namespace millrace::sources::postgres {

// A table of the pipeline as the catalog had it when the source connected, with what only this
// source needs to know of it. Immutable once made.
struct SourceTable {
  TablePtr table;
  // The catalog's types, one for each of table->columns.
  std::vector<ColumnTypeFacts> types;
  // Whether UPDATE and DELETE stay possible for the application once they are published: there is a
  // primary key, an identity index or identity full. Others are published with inserts only.
  bool has_usable_identity = true;
  // The root of partitions, whose changes come as its own.
  bool is_partitioned = false;
  // Of a partitioned table, the oids of its leaves as they were, ascending.
  std::vector<uint32_t> partitions;
  // What the publication lets through: an SQL condition on the table's columns; empty: every row.
  std::string row_filter;
  // A column that COPY of a table does not give: generated, and published all the same.
  bool has_generated_column = false;

  // The columns by which a row is known in every image of it: the primary key, or the identity
  // index where old images have only that. Empty: none.
  const std::vector<uint32_t>& row_key() const {
    return table->OldImagesLackKey() ? table->identity_index : table->primary_key;
  }
};

// The table as a SELECT or LOCK TABLE has to name it: without the rows of children, with those of
// partitions. To read what is published, row_filter has to stand in the WHERE clause.
std::string FromClause(const SourceTable& table);

}  // namespace millrace::sources::postgres
