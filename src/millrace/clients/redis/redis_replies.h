// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "millrace/common/buffer.h"
#include "millrace/common/status.h"

namespace millrace::redis {

class RedisReplies;

// One reply, or one element of an array: a view into its RedisReplies.
class RedisReply {
 public:
  enum class Type : uint8_t { kString, kArray, kInteger, kNil, kStatus, kError };

  Type type() const;
  bool is_nil() const { return type() == Type::kNil; }
  bool is_error() const { return type() == Type::kError; }
  bool is_array() const { return type() == Type::kArray; }
  // Text of a string, a status or an error; empty for others.
  std::string_view text() const;
  // The first word of an error: `WRONGTYPE`, `OOM`, `ERR`. The rest may hold values.
  std::string_view error_kind() const;
  int64_t integer() const;
  // Elements of an array.
  size_t size() const;
  // REQUIRES: i < size(). Walks over the elements before it.
  RedisReply operator[](size_t i) const;
  // Calls `visit(RedisReply)` for each element of an array, in one pass.
  template <typename Visit>
  void ForEach(Visit visit) const;

 private:
  friend class RedisReplies;
  RedisReply(const RedisReplies* replies, size_t node) : replies_(replies), node_(node) {}

  const RedisReplies* replies_;
  size_t node_;
};

// Replies of a pipeline, kept flat: no allocation for each. Reads them from bytes with hiredis'
// reader.
//
// Bounds: kCorruption for a reply of more than `bytes_max` bytes or `elements_max` elements, and
// for bytes that are no RESP.
//
// Not thread-safe.
class RedisReplies {
 public:
  RedisReplies();
  ~RedisReplies();
  RedisReplies(const RedisReplies&) = delete;
  RedisReplies& operator=(const RedisReplies&) = delete;

  // Forgets the replies that were read. REQUIRES: no reply is half read.
  void Clear();
  bool is_half_read() const { return whole_nodes_ != nodes_.size(); }
  // Takes bytes from the server, and reads the replies that they complete.
  Status Feed(std::string_view bytes);

  // Whole replies since Clear().
  size_t size() const { return tops_.size(); }
  // REQUIRES: i < size().
  RedisReply operator[](size_t i) const { return {this, tops_[i]}; }

  static constexpr size_t kBytesMax = size_t{1} << 30;
  static constexpr size_t kElementsMax = size_t{1} << 24;

 private:
  friend class RedisReply;
  friend struct ReaderCallbacks;

  // Nodes stand in preorder: an array's elements follow it.
  struct Node {
    RedisReply::Type type = RedisReply::Type::kNil;
    uint32_t size = 0;   // bytes of text, or elements
    uint64_t value = 0;  // the integer, or where the text begins in text_
    size_t next = 0;     // arrays: the node behind the last element, once the reply is whole
  };

  Node* Add(RedisReply::Type type, size_t size, uint64_t value);
  void LinkArrays(size_t begin);

  struct Reader;
  std::unique_ptr<Reader> reader_;
  std::vector<Node> nodes_;
  Buffer text_;
  std::vector<size_t> tops_;
  size_t whole_nodes_ = 0;  // nodes of whole replies
};

template <typename Visit>
void RedisReply::ForEach(Visit visit) const {
  const size_t n = size();
  size_t node = node_ + 1;
  for (size_t i = 0; i < n; ++i) {
    const RedisReply element(replies_, node);
    visit(element);
    node = element.is_array() ? replies_->nodes_[node].next : node + 1;
  }
}

}  // namespace millrace::redis
