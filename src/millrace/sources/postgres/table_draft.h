// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/source_table.h"

namespace millrace::sources::postgres {

// True if a column's values, and their texts but for the digits of floats, are the same by `after`.
bool KeepsValues(const ColumnTypeFacts& before, const ColumnTypeFacts& after);

// A version of a table while it is made out of an earlier one, step by step. A step that cannot be
// followed pauses the table; the first sentence stands, and the version stays as it was.
//
// Exact: what became of each column is known for sure. A name that a dropped column has is then
// free for another, and a change of values pauses only until the table is read again.
class TableDraft {
 public:
  explicit TableDraft(const SourceTablePtr& known, bool is_exact = false);

  size_t size() const { return columns_.size(); }
  Field& field(size_t place) { return columns_[place]; }
  SourceColumn& column(size_t place) { return source_.columns[place]; }
  const Table& table() const { return table_; }
  SourceTable& source() { return source_; }
  // The column that has this number, unless it is dropped.
  std::optional<size_t> FindPlace(int attnum) const;

  void Pause(std::string_view what_happened);
  // For what reading the table again mends without doubt: the source begins that by itself.
  void PauseUntilRead(std::string_view what_happened, Mend mend);
  bool is_paused() const { return !source_.paused.empty(); }

  void Drop(size_t place);
  void Rename(size_t place, const std::string& name);
  void Retype(size_t place, const ColumnTypeFacts& type);
  // A column behind the last one.
  void Add(const Field& field, const ColumnTypeFacts& type, const SourceColumn& column,
           bool toastable);

  // Pauses if columns have exchanged their names with those of an earlier version: the names alone
  // do not tell a target whether it has followed.
  void CheckNames();
  // Pauses if rows may hold other values although no row event said so: the file was written anew,
  // and a column was altered by more than what the steps so far did.
  void CheckRewritten(const CatalogTable& now);
  // Takes keys and identity from the catalog; `identity` where the stream says it itself.
  void TakeKeys(const CatalogTable& now, std::optional<ReplicaIdentity> identity);
  // What the catalog says besides names, types and keys.
  void TakeFacts(const CatalogTable& now);

  // The version; the one that it was made from if nothing changed.
  SourceTablePtr Finish();

 private:
  bool HasName(const std::string& name) const;
  // No column has the name, or any longer.
  bool IsFree(const std::string& name);
  bool IsSameShape() const;
  void FinishTable(std::shared_ptr<const RowBatch> fill);
  std::shared_ptr<const RowBatch> MakeFill();

  const SourceTablePtr known_;
  const bool is_exact_;
  Table table_;
  SourceTable source_;
  Schema columns_;
  std::set<size_t> renamed_;
  std::set<size_t> retyped_;
};

// What the columns hold in rows that were made before them, out of PostgreSQL's texts; null if all
// is NULL. Nothing, with the column's place in `unreadable`, if one of them cannot be read.
std::shared_ptr<const RowBatch> ReadFill(const SchemaPtr& schema,
                                         const std::vector<SourceColumn>& columns,
                                         std::optional<size_t>& unreadable);

}  // namespace millrace::sources::postgres
