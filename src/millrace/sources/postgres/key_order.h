// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/model/row_batch.h"
#include "millrace/sources/postgres/source_table.h"

namespace millrace::sources::postgres {

// A value of a primary key: for SQL, and for comparing.
struct KeyBound {
  std::vector<std::string> text;  // PostgreSQL's text of each key column
  std::string encoded;            // compares by bytes as PostgreSQL compares the key
};

// KeyOrder knows how PostgreSQL orders the key of a table (SourceTable::row_key()), and writes keys
// as bytes that compare alike. There is one only for keys whose order is known here exactly:
// integers, booleans, uuid, dates and times, numbers, bytea, and text under a collation that
// compares bytes.
//
// Immutable; any thread.
class KeyOrder {
 public:
  // `byte_ordered`: for each column of the key, whether its collation compares bytes.
  // kUnsupported, with the reason as the rest of a sentence about the table, if there is no order.
  static Result<KeyOrder> Make(const SourceTable& table, const std::vector<bool>& byte_ordered);

  // The indexes of the key's columns in the table's columns, in key order.
  const std::vector<uint32_t>& columns() const { return columns_; }

  // Replaces `to` by the key of a row of the table's columns. Old images that hold the key's
  // columns will do.
  void Encode(const RowBatch& rows, size_t row, std::string& to) const;

  // A key out of PostgreSQL's text of its columns. kCorruption if one is no value of its type.
  Result<KeyBound> FromText(std::vector<std::string> text) const;
  // A key out of a row; nothing for a date whose text only PostgreSQL knows (infinite, BC).
  std::optional<KeyBound> FromRow(const RowBatch& rows, size_t row) const;

 private:
  enum class Form { kInteger, kFloat, kUuid, kBytes, kPaddedText, kNumericText };

  SchemaPtr schema_;
  std::vector<uint32_t> columns_;
  std::vector<Form> forms_;
};

// For each of `tables`, in their order, the order of its key, or kUnsupported with why it
// has none that is known here.
Result<std::vector<Result<KeyOrder>>> LoadKeyOrders(pg::Connection& connection,
                                                    const std::vector<SourceTable>& tables);

}  // namespace millrace::sources::postgres
