// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/status.h"
#include "millrace/model/row_batch.h"
#include "millrace/sources/postgres/source_table.h"
#include "millrace/sources/postgres/value_parser.h"

namespace millrace::sources::postgres {

// CopyRowParser turns lines of COPY (...) TO STDOUT into rows of a table's columns.
class CopyRowParser {
 public:
  // `keys`: the columns whose text key_text() gives.
  CopyRowParser(TablePtr table, std::vector<uint32_t> keys);

  // Appends the row of one line. kCorruption if the line is not one of the table; kInvalidArgument
  // for a value that its column cannot hold. `rows` is of no use after an error.
  Status Append(std::string_view line, RowBatch& rows);

  // Of the newest row.
  const std::vector<std::string>& key_text() const { return key_text_; }

 private:
  const TablePtr table_;
  std::vector<AppendValueFn> parsers_;
  std::vector<int> key_index_;  // of each column, -1: none
  std::vector<std::string> key_text_;
};

}  // namespace millrace::sources::postgres
