// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string_view>

#include "millrace/model/position.h"

namespace millrace::sinks {

// The id of an entry of a Redis stream: `<milliseconds>-<sequence>`, always growing within a
// stream.
struct XaddId {
  uint64_t ms = 0;
  uint64_t sequence = 0;

  auto operator<=>(const XaddId&) const = default;
};

// Nothing if `text` is no id.
std::optional<XaddId> ParseXaddId(std::string_view text);

// The id of an entry that follows `last` (0-0 in a new stream) and belongs to a commit: the greater
// of the commit's millisecond and the last one, and the next sequence in it. Commit times are not
// monotone, and a stream's last id may be ahead. Nothing when ids are used up.
std::optional<XaddId> NextXaddId(XaddId last, TimestampMicros commit_ts);

}  // namespace millrace::sinks
