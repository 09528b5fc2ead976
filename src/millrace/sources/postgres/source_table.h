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
};

}  // namespace millrace::sources::postgres
