// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/kafka/kafka_encoder.h"

#include <fmt/format.h>

namespace millrace::sinks {

Status KafkaEncoder::Prepare(const StreamPtr& stream) {
  if (stream_ == stream) {
    return Status::Ok();
  }
  std::vector<uint32_t> columns = stream->key;
  if (!entry_.key.empty()) {
    const int column = stream->FindColumn(entry_.key);
    if (column < 0) {
      return InvalidArgument(fmt::format("topic '{}': stream '{}' has no column '{}' for its key",
                                         entry_.topic, stream->name, entry_.key));
    }
    columns = {static_cast<uint32_t>(column)};
  }
  key_columns_.clear();
  for (const uint32_t column : columns) {
    const DataType& type = (*stream->columns)[column].type;
    key_columns_.push_back({column, TextWriterOf(type), JsonWriterOf(type)});
  }
  key_is_stream_key_ = !columns.empty() && columns == stream->key;
  stream_ = stream;
  return Status::Ok();
}

std::optional<std::string_view> KafkaEncoder::EncodeKey(const RowBatch& rows, size_t row) {
  if (key_columns_.empty()) {
    return std::nullopt;
  }
  key_.Clear();
  if (key_columns_.size() == 1) {
    const Column& column = rows.column(key_columns_[0].index);
    if (column.IsNull(row)) {
      return std::nullopt;
    }
    key_columns_[0].text(column, row, key_);
    return key_.view();
  }
  for (size_t i = 0; i < key_columns_.size(); ++i) {
    key_.Append(i == 0 ? "[" : ",");
    key_columns_[i].json(rows.column(key_columns_[i].index), row, key_);
  }
  key_.Append("]");
  return key_.view();
}

KafkaEncoder::Message KafkaEncoder::Encode(const OutputBatch& batch, size_t row) {
  value_.Clear();
  json_.Append(batch, row, value_);
  const std::optional<std::string_view> key = EncodeKey(batch.rows, row);
  return {.key = key,
          .value = value_.view(),
          .needs_tombstone =
              key.has_value() && key_is_stream_key_ && batch.ops[row] == OutputOp::kDelete};
}

}  // namespace millrace::sinks
