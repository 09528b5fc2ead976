// SPDX-License-Identifier: Apache-2.0
// Replies of Redis. Input: a byte for the size of the pieces in which they arrive, then the bytes.
#include <algorithm>

#include "input.h"
#include "millrace/clients/redis/redis_replies.h"
#include "millrace/common/check.h"

namespace {

size_t Visit(const millrace::redis::RedisReply& reply, int depth) {
  size_t seen = reply.text().size() + reply.error_kind().size();
  MR_CHECK(depth < 64);
  if (reply.is_array()) {
    reply.ForEach(
        [&](const millrace::redis::RedisReply& element) { seen += Visit(element, depth + 1); });
    if (reply.size() != 0) {
      seen += reply[reply.size() - 1].text().size();
    }
  }
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  fuzz::Input input(data, size);
  const size_t piece = size_t{input.Byte()} + 1;
  redis::RedisReplies replies;
  while (!input.empty()) {
    const std::string bytes(input.Bytes(piece));
    const Status status = replies.Feed(bytes);
    if (!status.ok()) {
      MR_CHECK(status.code() == Code::kCorruption);
      return 0;
    }
    for (size_t i = 0; i < replies.size(); ++i) {
      Visit(replies[i], 0);
    }
    if (!replies.is_half_read()) {
      replies.Clear();
    }
  }
  return 0;
}
