// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/copy_rows.h"

#include <utility>

#include <fmt/format.h>

#include "millrace/sources/postgres/copy_text.h"
#include "millrace/sources/postgres/row_size.h"

namespace millrace::sources::postgres {

CopyRowParser::CopyRowParser(TablePtr table, std::vector<uint32_t> keys)
    : table_(std::move(table)), key_index_(table_->columns->size(), -1), key_text_(keys.size()) {
  for (const Field& field : *table_->columns) {
    parsers_.push_back(ValueParserFor(field.type));
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    key_index_[keys[i]] = static_cast<int>(i);
  }
}

Status CopyRowParser::Append(std::string_view line, RowBatch& rows) {
  const Schema& schema = *table_->columns;
  CopyLine fields(line);
  for (size_t i = 0; i < schema.size(); ++i) {
    std::string_view text;
    if (fields.AtEnd()) {
      return Corruption(fmt::format("table {}: a row of too few columns", table_->FullName()));
    }
    const CopyLine::Field field = fields.Next(text);
    if (field == CopyLine::Field::kNull) {
      if (!schema[i].nullable) {
        return Corruption(fmt::format("table {}: a NULL in column '{}', which is NOT NULL",
                                      table_->FullName(), schema[i].name));
      }
      rows.column(i).AppendNull();
      continue;
    }
    if (field == CopyLine::Field::kMalformed) {
      return Corruption(fmt::format("table {}, column '{}': an escape that COPY does not write",
                                    table_->FullName(), schema[i].name));
    }
    if (const ValueError* error = parsers_[i](text, rows.column(i))) {
      return Status(error->code, fmt::format("table {}, column '{}': {}", table_->FullName(),
                                             schema[i].name, error->reason));
    }
    if (key_index_[i] >= 0) {
      key_text_[static_cast<size_t>(key_index_[i])] = text;
    }
  }
  if (!fields.AtEnd()) {
    return Corruption(fmt::format("table {}: a row of too many columns", table_->FullName()));
  }
  return CheckRowSize(*table_, rows, rows.row_count() - 1, line.size());
}

}  // namespace millrace::sources::postgres
