// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/redis/redis_replies.h"

#include <fmt/format.h>
#include <hiredis/read.h>

#include "millrace/common/check.h"

namespace millrace::redis {

struct RedisReplies::Reader {
  explicit Reader(redisReader* r) : reader(r) {}
  ~Reader() { redisReaderFree(reader); }
  redisReader* reader;
};

// What hiredis' reader calls. A "reply object" is any pointer that is not null: nodes move while
// they are added, so none of them is handed out.
struct ReaderCallbacks {
  static RedisReplies& Of(const redisReadTask* task) {
    return *static_cast<RedisReplies*>(task->privdata);
  }

  static void* CreateString(const redisReadTask* task, char* text, size_t size) {
    RedisReplies& replies = Of(task);
    const auto type = task->type == REDIS_REPLY_ERROR    ? RedisReply::Type::kError
                      : task->type == REDIS_REPLY_STATUS ? RedisReply::Type::kStatus
                                                         : RedisReply::Type::kString;
    const size_t begin = replies.text_.size();
    if (begin + size > RedisReplies::kBytesMax) {
      return nullptr;
    }
    replies.text_.Append(text, size);
    return replies.Add(type, size, begin) == nullptr ? nullptr : task->privdata;
  }
  static void* CreateArray(const redisReadTask* task, int elements) {
    if (elements < 0 || static_cast<size_t>(elements) > RedisReplies::kElementsMax) {
      return nullptr;
    }
    const auto size = static_cast<size_t>(elements);
    return Of(task).Add(RedisReply::Type::kArray, size, 0) == nullptr ? nullptr : task->privdata;
  }
  static void* CreateInteger(const redisReadTask* task, long long value) {
    const auto bits = static_cast<uint64_t>(value);
    return Of(task).Add(RedisReply::Type::kInteger, 0, bits) == nullptr ? nullptr : task->privdata;
  }
  static void* CreateNil(const redisReadTask* task) {
    return Of(task).Add(RedisReply::Type::kNil, 0, 0) == nullptr ? nullptr : task->privdata;
  }
  static void Free(void* /*object*/) {}
};

namespace {

redisReplyObjectFunctions callbacks = {ReaderCallbacks::CreateString, ReaderCallbacks::CreateArray,
                                       ReaderCallbacks::CreateInteger, ReaderCallbacks::CreateNil,
                                       ReaderCallbacks::Free};

}  // namespace

RedisReplies::RedisReplies()
    : reader_(std::make_unique<Reader>(redisReaderCreateWithFunctions(&callbacks))) {
  MR_CHECK(reader_->reader != nullptr);
  reader_->reader->privdata = this;
}

RedisReplies::~RedisReplies() = default;

RedisReplies::Node* RedisReplies::Add(RedisReply::Type type, size_t size, uint64_t value) {
  if (nodes_.size() - whole_nodes_ >= kElementsMax) {
    return nullptr;
  }
  nodes_.push_back({.type = type, .size = static_cast<uint32_t>(size), .value = value});
  return &nodes_.back();
}

void RedisReplies::Clear() {
  MR_CHECK(!is_half_read());
  nodes_.clear();
  text_.Clear();
  tops_.clear();
  whole_nodes_ = 0;
}

// Sets Node::next of the arrays of one whole reply.
void RedisReplies::LinkArrays(size_t begin) {
  struct Open {
    size_t node;
    size_t left;
  };
  std::vector<Open> open;
  for (size_t i = begin; i < nodes_.size(); ++i) {
    if (!open.empty()) {
      --open.back().left;
    }
    if (nodes_[i].type == RedisReply::Type::kArray) {
      open.push_back({i, nodes_[i].size});
    }
    while (!open.empty() && open.back().left == 0) {
      nodes_[open.back().node].next = i + 1;
      open.pop_back();
    }
  }
}

Status RedisReplies::Feed(std::string_view bytes) {
  redisReader* reader = reader_->reader;
  if (reader->len - reader->pos + bytes.size() > kBytesMax) {
    return Corruption(fmt::format("a reply of Redis is longer than {} bytes", kBytesMax));
  }
  if (redisReaderFeed(reader, bytes.data(), bytes.size()) != REDIS_OK) {
    return Corruption(fmt::format("read a reply of Redis: {}", reader->errstr));
  }
  while (true) {
    void* reply = nullptr;
    if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
      return Corruption(fmt::format("read a reply of Redis: {}", reader->errstr));
    }
    if (reply == nullptr) {
      return Status::Ok();
    }
    tops_.push_back(whole_nodes_);
    LinkArrays(whole_nodes_);
    whole_nodes_ = nodes_.size();
  }
}

RedisReply::Type RedisReply::type() const { return replies_->nodes_[node_].type; }

std::string_view RedisReply::text() const {
  const RedisReplies::Node& node = replies_->nodes_[node_];
  const bool has_text =
      node.type == Type::kString || node.type == Type::kStatus || node.type == Type::kError;
  return has_text ? replies_->text_.view().substr(node.value, node.size) : std::string_view();
}

std::string_view RedisReply::error_kind() const {
  return is_error() ? text().substr(0, text().find(' ')) : std::string_view();
}

int64_t RedisReply::integer() const {
  const RedisReplies::Node& node = replies_->nodes_[node_];
  return node.type == Type::kInteger ? static_cast<int64_t>(node.value) : 0;
}

size_t RedisReply::size() const {
  const RedisReplies::Node& node = replies_->nodes_[node_];
  return node.type == Type::kArray ? node.size : 0;
}

RedisReply RedisReply::operator[](size_t i) const {
  MR_CHECK(i < size());
  size_t node = node_ + 1;
  for (; i != 0; --i) {
    const RedisReplies::Node& at = replies_->nodes_[node];
    node = at.type == Type::kArray ? at.next : node + 1;
  }
  return {replies_, node};
}

}  // namespace millrace::redis
