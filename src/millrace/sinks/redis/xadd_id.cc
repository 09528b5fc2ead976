// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/redis/xadd_id.h"

#include <charconv>

namespace millrace::sinks {

std::optional<XaddId> ParseXaddId(std::string_view text) {
  XaddId id;
  const char* const end = text.data() + text.size();
  const auto ms = std::from_chars(text.data(), end, id.ms);
  if (ms.ec != std::errc() || ms.ptr == end || *ms.ptr != '-') {
    return std::nullopt;
  }
  const auto sequence = std::from_chars(ms.ptr + 1, end, id.sequence);
  if (sequence.ec != std::errc() || sequence.ptr != end) {
    return std::nullopt;
  }
  return id;
}

std::optional<XaddId> NextXaddId(XaddId last, TimestampMicros commit_ts) {
  const uint64_t commit_ms = commit_ts > 0 ? static_cast<uint64_t>(commit_ts) / 1000 : 0;
  if (commit_ms > last.ms) {
    return XaddId{commit_ms, 0};
  }
  if (last.sequence != UINT64_MAX) {
    return XaddId{last.ms, last.sequence + 1};
  }
  if (last.ms != UINT64_MAX) {
    return XaddId{last.ms + 1, 0};
  }
  return std::nullopt;
}

}  // namespace millrace::sinks
