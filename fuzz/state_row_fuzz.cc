// SPDX-License-Identifier: Apache-2.0
// A row of state. Input: a byte that says how many columns the row has, then the encoded row.
#include <memory>

#include "input.h"
#include "millrace/common/check.h"
#include "millrace/storage/row_codec.h"
#include "value_types.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  fuzz::Input input(data, size);
  const size_t columns = input.Byte() % 32;
  const auto& types = fuzz::ScalarTypes();
  Schema schema;
  for (size_t i = 0; i < columns; ++i) {
    const DataType& type = types[i % types.size()];
    schema.push_back({"c", i < types.size() ? type : DataType::List(type), true});
  }
  RowBatch rows(std::make_shared<const Schema>(std::move(schema)));
  const std::string bytes(input.rest());
  storage::DecodeRowVersion(bytes).status().IgnoreError("only that it ends");
  const Status status = storage::DecodeRow(bytes, rows);
  MR_CHECK(status.ok() || status.code() == Code::kCorruption ||
           status.code() == Code::kUnsupported);
  for (size_t i = 0; i < columns; ++i) {
    MR_CHECK(rows.column(i).size() == (status.ok() ? 1U : 0U));
  }
  if (!status.ok() || columns == 0) {
    return 0;
  }
  std::string once;
  storage::EncodeRow(rows, 0, SchemaVersion(1), once);
  RowBatch again(rows.schema());
  MR_CHECK(storage::DecodeRow(once, again).ok());
  std::string twice;
  storage::EncodeRow(again, 0, SchemaVersion(1), twice);
  MR_CHECK(once == twice);
  return 0;
}
