// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/source_table.h"

#include "millrace/clients/postgres/quoting.h"

namespace millrace::sources::postgres {

std::string FromClause(const SourceTable& table) {
  return (table.is_partitioned ? "" : "ONLY ") +
         pg::QuoteQualified(table.table->schema, table.table->name);
}

}  // namespace millrace::sources::postgres
