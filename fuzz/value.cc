// SPDX-License-Identifier: Apache-2.0
#include "value.h"

#include <cstdint>
#include <memory>
#include <string>

#include "millrace/common/buffer.h"
#include "millrace/common/check.h"
#include "millrace/model/json_text.h"
#include "millrace/model/row_batch.h"
#include "millrace/sources/postgres/value_parser.h"
#include "millrace/storage/row_codec.h"

namespace millrace::fuzz {
namespace {

std::string TextOf(const Column& column, size_t row) {
  Buffer text;
  TextWriterOf(column.type())(column, row, text);
  return std::string(text.view());
}

}  // namespace

void CheckValue(const DataType& type, std::string_view text) {
  const auto schema = std::make_shared<const Schema>(Schema{{"v", type, true}});
  RowBatch rows(schema);
  Column& column = rows.column(0);
  // A copy of its own, so that a sanitizer sees a read behind its end.
  const std::string copy(text);
  const auto* error = sources::postgres::ValueParserFor(type)(copy, column);
  if (error != nullptr) {
    MR_CHECK(error->code == Code::kInvalidArgument || error->code == Code::kCorruption);
    MR_CHECK(column.size() == 0);
    MR_CHECK(!type.is_list() || column.child().size() == 0);
    MR_CHECK(column.bytes().empty());
    return;
  }
  MR_CHECK(column.size() == 1 && !column.IsNull(0));
  Buffer json;
  JsonWriterOf(type)(column, 0, json);
  MR_CHECK(!json.empty());

  std::string key;
  constexpr uint32_t kColumns[] = {0};
  storage::EncodeKey(rows, 0, kColumns, key);
  std::string bytes;
  storage::EncodeRow(rows, 0, SchemaVersion(1), bytes);
  RowBatch back(schema);
  MR_CHECK(storage::DecodeRow(bytes, back).ok());
  MR_CHECK(TextOf(back.column(0), 0) == TextOf(column, 0));
}

}  // namespace millrace::fuzz
