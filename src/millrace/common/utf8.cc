// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/utf8.h"

#include <cstring>

namespace millrace {
namespace {

// The first byte in [at, end) outside ASCII.
const uint8_t* SkipAscii(const uint8_t* at, const uint8_t* end) {
  constexpr uint64_t kHighs = 0x8080808080808080U;
  for (uint64_t words[4]; end - at >= 32; at += 32) {
    std::memcpy(words, at, sizeof(words));
    if (((words[0] | words[1] | words[2] | words[3]) & kHighs) != 0) {
      break;
    }
  }
  while (at != end && *at < 0x80) {
    ++at;
  }
  return at;
}

}  // namespace

size_t Utf8SequenceLength(const uint8_t* at, const uint8_t* end) {
  const auto is_tail = [&](size_t i) { return (at[i] & 0xc0) == 0x80; };
  const auto left = static_cast<size_t>(end - at);
  const uint8_t lead = at[0];
  if (lead >= 0xc2 && lead <= 0xdf) {
    return left >= 2 && is_tail(1) ? 2 : 0;
  }
  if ((lead & 0xf0) == 0xe0) {
    if (left < 3 || !is_tail(1) || !is_tail(2)) {
      return 0;
    }
    const bool overlong = lead == 0xe0 && at[1] < 0xa0;
    const bool surrogate = lead == 0xed && at[1] > 0x9f;
    return overlong || surrogate ? 0 : 3;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    if (left < 4 || !is_tail(1) || !is_tail(2) || !is_tail(3)) {
      return 0;
    }
    const bool overlong = lead == 0xf0 && at[1] < 0x90;
    const bool too_great = lead == 0xf4 && at[1] > 0x8f;
    return overlong || too_great ? 0 : 4;
  }
  return 0;
}

size_t ValidUtf8Prefix(std::string_view text) {
  const auto* const begin = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t* const end = begin + text.size();
  const uint8_t* at = SkipAscii(begin, end);
  while (at != end) {
    const size_t length = Utf8SequenceLength(at, end);
    if (length == 0) {
      break;
    }
    at += length;
    if (at != end && *at < 0x80) {
      at = SkipAscii(at, end);
    }
  }
  return static_cast<size_t>(at - begin);
}

}  // namespace millrace
