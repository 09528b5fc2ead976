// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/json_row.h"

#include "millrace/model/value_text.h"

namespace millrace::sinks {

void JsonRowEncoder::Prepare(const StreamPtr& stream) {
  stream_ = stream;
  columns_.clear();
  for (const Field& field : *stream->columns) {
    Buffer prefix;
    AppendJsonString(prefix, field.name);
    prefix.Append(":");
    columns_.push_back({std::string(prefix.view()), JsonWriterOf(field.type)});
  }
}

void JsonRowEncoder::Append(const OutputBatch& batch, size_t row, Buffer& to) {
  if (stream_ != batch.stream) {
    Prepare(batch.stream);
  }
  const bool is_delete = batch.ops[row] == OutputOp::kDelete;
  to.Append("{");
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Column& column = batch.rows.column(i);
    if (is_delete && column.IsNull(row)) {
      continue;
    }
    to.Append(columns_[i].prefix);
    columns_[i].write(column, row, to);
    to.Append(",");
  }
  to.Append("\"_version\":\"");
  AppendUnsigned128(to, batch.VersionOf(row).Encode());
  to.Append("\",\"_commit_ts\":\"");
  AppendTimestamp(to, batch.CommitTimeOf(row), "Z");
  to.Append(is_delete ? "\",\"_deleted\":true}" : "\"}");
}

}  // namespace millrace::sinks
