// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/position.h"
#include "millrace/sources/postgres/relation_message.h"
#include "millrace/sources/postgres/source_table.h"

namespace millrace::sources::postgres {

// How rows that a Relation message describes become rows of a table.
struct ResolvedRelation {
  // Null: the rows are not kept, but count: the table is not of this pipeline, or is paused.
  SourceTablePtr table;
  bool is_paused = false;
  // Holds for this transaction only: the next one has to ask again.
  bool is_transient = false;
  size_t number = 0;             // of the table, below table_count()
  std::vector<uint32_t> places;  // for each column of the message, its index in the table's columns
  // Columns of the table that the message lacks; they get the table's fill.
  std::vector<uint32_t> absent;
};

// Knows the tables, each in the version that the stream has come to. Threads: the decoder's.
class RelationResolver {
 public:
  virtual ~RelationResolver() = default;

  virtual size_t table_count() const = 0;

  // A transaction follows from its first message, or the same one for the second time.
  virtual void Begin(Xid transaction) = 0;

  // Takes the content of a message of the event triggers (ddl_message.h), where it stands among the
  // transaction's rows. True if what Resolve() gave may no longer hold.
  virtual bool TakeCommand(std::string_view content) = 0;

  // `partition` was described behind `root`, as a partition's rows have it that are published as
  // those of its root. May ask the server as Resolve() does. True if what that gave may no longer
  // hold.
  virtual Result<bool> SeePartition(uint32_t root, uint32_t partition) = 0;

  // What rows of `relation` are, called for the first row that uses it in a transaction. Where the
  // table's columns have changed, the change takes effect: later calls give the newer version. May
  // ask the server: blocks for a bounded time. kUnavailable if it cannot be asked.
  virtual Result<ResolvedRelation> Resolve(const RelationMessage& relation, Xid transaction) = 0;

  // A NULL came for a column that was not nullable. The version in which it is.
  virtual SourceTablePtr AllowNull(size_t number, size_t place) = 0;

  // The transaction truncates the table.
  virtual void Truncated(size_t number, Xid transaction) = 0;
};

}  // namespace millrace::sources::postgres
