// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "millrace/sinks/sink.h"

namespace millrace::sinks::testing {

// A stream of three columns and deliveries of its rows, for tests of sinks.
inline StreamPtr SmallStream(const std::string& name = "events") {
  auto stream = std::make_shared<Stream>();
  stream->id = StreamId(1);
  stream->schema_version = SchemaVersion(1);
  stream->name = name;
  stream->columns = std::make_shared<Schema>(Schema{{"id", TypeKind::kInt64, false},
                                                    {"type", TypeKind::kText, true},
                                                    {"note", TypeKind::kText, true}});
  stream->key = {0};
  return stream;
}

struct SmallRow {
  int64_t id = 0;
  std::optional<std::string> type;
  std::optional<std::string> note;
  OutputOp op = OutputOp::kUpsert;
};

// The rows as one transaction at offsets from `first`.
inline DeliveryBatch SmallDelivery(const StreamPtr& stream, uint64_t first,
                                   const std::vector<SmallRow>& rows,
                                   TimestampMicros commit_ts = 1'700'000'000'000'000) {
  auto batch = std::make_shared<OutputBatch>(stream);
  batch->first_offset = Offset(first);
  batch->transactions = {{Lsn(0x1000 + first), commit_ts, Xid(7)}};
  for (const SmallRow& row : rows) {
    batch->ops.push_back(row.op);
    batch->transaction.push_back(0);
    batch->ordinals.push_back(batch->ops.size());
    batch->rows.column(0).Append(row.id);
    const auto append = [](Column& column, const std::optional<std::string>& value) {
      value.has_value() ? column.AppendText(*value) : column.AppendNull();
    };
    append(batch->rows.column(1), row.type);
    append(batch->rows.column(2), row.note);
  }
  DeliveryBatch delivery;
  delivery.first = Offset(first);
  delivery.end = Offset(first + rows.size());
  delivery.position = {Epoch(0), Lsn(0x1000 + first)};
  delivery.slices = {{batch, 0, rows.size()}};
  return delivery;
}

// Rows with ids [first, first + n).
inline DeliveryBatch NumberedDelivery(const StreamPtr& stream, uint64_t first, size_t n,
                                      const std::string& type = "a") {
  std::vector<SmallRow> rows;
  for (size_t i = 0; i < n; ++i) {
    rows.push_back({.id = static_cast<int64_t>(first + i), .type = type, .note = std::nullopt});
  }
  return SmallDelivery(stream, first, rows);
}

inline SinkContext SmallContext(const std::string& pipeline, const StreamPtr& stream) {
  SinkContext context;
  context.pipeline = pipeline;
  context.name = "live";
  context.instance_id = "instance-1";
  context.streams = {{stream->name, stream}};
  return context;
}

}  // namespace millrace::sinks::testing
