// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/buffer.h"
#include "millrace/common/result.h"
#include "millrace/model/json_text.h"
#include "millrace/model/stream.h"
#include "millrace/sinks/json_row.h"
#include "millrace/sinks/kafka/kafka_config.h"

namespace millrace::sinks {

// Turns rows of one stream into messages of one topic.
//
//   key    the text of the key column; of several columns a JSON array; a NULL column, and a stream
//          without key: no key
//   value  the row as JSON, see JsonRowEncoder
//   then   after a delete, where the key is the stream's key: a message without value
//
// Pure. Not thread-safe.
class KafkaEncoder {
 public:
  explicit KafkaEncoder(KafkaTopicEntry entry) : entry_(std::move(entry)) {}

  // Finds the key's columns. kInvalidArgument if the stream lacks the column.
  Status Prepare(const StreamPtr& stream);

  // False for rows that this topic leaves out: the old place of a moved row, and rows of the
  // snapshot where it does not want them.
  bool Takes(OutputOp op) const {
    return op != OutputOp::kMovedAway && (op != OutputOp::kRead || entry_.snapshot);
  }

  // Views into the encoder, valid until the next call.
  struct Message {
    std::optional<std::string_view> key;
    std::string_view value;
    bool needs_tombstone = false;
  };
  // REQUIRES: Prepare() of the batch's stream.
  Message Encode(const OutputBatch& batch, size_t row);

  const KafkaTopicEntry& entry() const { return entry_; }

 private:
  struct KeyColumn {
    size_t index;
    ValueWriter text;
    ValueWriter json;
  };

  std::optional<std::string_view> EncodeKey(const RowBatch& rows, size_t row);

  const KafkaTopicEntry entry_;
  StreamPtr stream_;
  std::vector<KeyColumn> key_columns_;
  bool key_is_stream_key_ = false;
  JsonRowEncoder json_;
  Buffer key_;
  Buffer value_;
};

}  // namespace millrace::sinks
