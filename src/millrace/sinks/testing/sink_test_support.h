// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "millrace/common/check.h"
#include "millrace/model/stream.h"
#include "millrace/sinks/sink.h"
#include "millrace/sinks/testing/memory_delivery_log.h"

namespace millrace::sinks::testing {

inline StreamPtr MakeStream(std::string name, Schema columns, std::vector<uint32_t> key,
                            uint32_t id = 1, uint32_t schema_version = 1) {
  auto stream = std::make_shared<Stream>();
  stream->id = StreamId(id);
  stream->schema_version = SchemaVersion(schema_version);
  stream->name = std::move(name);
  stream->columns = std::make_shared<const Schema>(std::move(columns));
  stream->append_only = key.empty();
  stream->key = std::move(key);
  return stream;
}

// Makes output batches at dense offsets, each row its own transaction, as the engine does: ordinals
// and LSNs grow.
class OutputWriter {
 public:
  explicit OutputWriter(uint64_t first_offset = 0) : next_offset_(first_offset) {}

  // A batch of one stream whose rows `fill` appends, one for each of `ops`.
  OutputBatchPtr Write(const StreamPtr& stream, const std::vector<OutputOp>& ops,
                       const std::function<void(RowBatch&)>& fill) {
    auto batch = std::make_shared<OutputBatch>(stream);
    batch->first_offset = Offset(next_offset_);
    fill(batch->rows);
    for (const OutputOp op : ops) {
      // The row that follows a moved-away one carries the same version.
      if (!follows_moved_) {
        lsn_ += 0x100;
      }
      follows_moved_ = op == OutputOp::kMovedAway;
      batch->transactions.push_back({Lsn(lsn_), commit_ts_, Xid(static_cast<uint32_t>(lsn_))});
      batch->transaction.push_back(static_cast<uint32_t>(batch->ops.size()));
      batch->ordinals.push_back(1);
      batch->ops.push_back(op);
      ++commit_ts_;
    }
    MR_CHECK(batch->rows.row_count() == ops.size());
    next_offset_ += ops.size();
    return batch;
  }

  uint64_t next_offset() const { return next_offset_; }

 private:
  uint64_t next_offset_;
  uint64_t lsn_ = 0x1000;
  TimestampMicros commit_ts_ = 1'714'979'289'000'000;
  bool follows_moved_ = false;
};

// All rows of `batches`, which follow each other without gap.
inline DeliveryBatch MakeDelivery(const std::vector<OutputBatchPtr>& batches) {
  DeliveryBatch delivery;
  delivery.first = batches.front()->first_offset;
  for (const OutputBatchPtr& batch : batches) {
    delivery.end = Offset(batch->first_offset.value() + batch->row_count());
    delivery.position = {batch->epoch, batch->transactions.back().end_lsn};
    delivery.slices.push_back({batch, 0, batch->row_count()});
  }
  return delivery;
}

// A delivery of no rows that moves the position from `first` to `end`.
inline DeliveryBatch MakeEmptyDelivery(uint64_t first, uint64_t end) {
  DeliveryBatch delivery;
  delivery.first = Offset(first);
  delivery.end = Offset(end);
  return delivery;
}

}  // namespace millrace::sinks::testing
