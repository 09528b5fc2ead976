// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "millrace/model/position.h"
#include "millrace/model/table.h"
#include "millrace/sources/postgres/type_map.h"
#include "millrace/sources/postgres/xid_snapshot.h"

namespace millrace::sources::postgres {

// What this source knows of a column besides what the engine does.
struct SourceColumn {
  int attnum = 0;
  bool is_dropped = false;
  // PostgreSQL's text of what rows from before the column hold; nothing: NULL.
  std::optional<std::string> missing;
  // The transaction that wrote the column's row of the catalog last: tells that something changed.
  uint32_t catalog_xid = 0;

  bool operator==(const SourceColumn&) const = default;
};

// A partition at any depth below a root, in what tells whether its rows came and went by row
// events.
struct Partition {
  uint32_t oid = 0;
  std::string name;
  uint32_t attached_by = 0;  // the transaction that made it one
  uint32_t file_node = 0;    // of its rows; 0: it is partitioned itself
  // As the catalog has it, and not kept: the transaction that wrote its entry last; that it was
  // created as a partition, without rows; that it holds none.
  uint32_t written_by = 0;
  bool is_born = false;
  bool is_empty = false;

  bool IsSame(const Partition& other) const {
    return oid == other.oid && attached_by == other.attached_by && file_node == other.file_node;
  }
};

// One version of a table of the pipeline, as the stream knows it, with what only this source needs
// to know of it. Immutable once made.
enum class Mend : uint8_t {
  kNone = 0,
  kReadAgain = 1,  // its rows were written anew
  kTakeUp = 2,     // it was dropped, and another table has its name
};

// Transactions that a table which is read again holds the results of, since the catalog that it is
// read by sees them: their changes come in shapes that are not known any more, and are left out.
struct CoveredTransactions {
  XidSnapshot snapshot;
  Lsn wal_end;  // none of them commits from here on
  Epoch epoch;

  bool operator==(const CoveredTransactions&) const = default;
};

struct SourceTable {
  TablePtr table;
  // The catalog's types, one for each of table->columns.
  std::vector<ColumnTypeFacts> types;
  // Whether UPDATE and DELETE stay possible for the application once they are published: there is a
  // primary key, an identity index or identity full. Others are published with inserts only.
  bool has_usable_identity = true;
  // The root of partitions, whose changes come as its own.
  bool is_partitioned = false;
  // Of a partitioned table, its partitions as they were when the stream was last compared with the
  // catalog, or as the catalog has them; nothing: it was not compared yet.
  std::optional<std::vector<Partition>> partitions;
  // What the publication lets through: an SQL condition on the table's columns; empty: every row.
  std::string row_filter;
  // A column that COPY of a table does not give: generated, and published all the same.
  bool has_generated_column = false;
  // One for each of table->columns. Empty: numbered from 1 in their order.
  std::vector<SourceColumn> columns;
  // The highest number that a column has ever had: numbers are never given again.
  int attnum_max = 0;
  // The file that holds the rows: another one tells that they were written anew.
  uint32_t file_node = 0;
  // The catalog had nothing of its name when the source connected.
  bool is_gone = false;
  // Why its changes are left out, and what to do: one sentence. Empty: they are not.
  std::string paused;
  // What reading it again mends without doubt: the source begins that by itself. Also of a table
  // that is not paused: rows of its partitions came or went.
  Mend mend = Mend::kNone;
  std::optional<CoveredTransactions> covered;

  // The columns by which a row is known in every image of it: the primary key, or the identity
  // index where old images have only that. Empty: none.
  const std::vector<uint32_t>& row_key() const {
    return table->OldImagesLackKey() ? table->identity_index : table->primary_key;
  }
};
using SourceTablePtr = std::shared_ptr<const SourceTable>;

// The table as a SELECT or LOCK TABLE has to name it: without the rows of children, with those of
// partitions. To read what is published, row_filter has to stand in the WHERE clause.
std::string FromClause(const SourceTable& table);

}  // namespace millrace::sources::postgres
