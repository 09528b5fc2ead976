// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/lsn.h"

#include <charconv>

#include <fmt/format.h>

namespace millrace {

std::string FormatLsn(Lsn lsn) {
  return fmt::format("{:X}/{:X}", lsn.value() >> 32, lsn.value() & 0xffffffff);
}

Result<Lsn> ParseLsn(std::string_view text) {
  const auto parse_half = [](std::string_view half, uint32_t& v) {
    const auto parsed = std::from_chars(half.data(), half.data() + half.size(), v, 16);
    return parsed.ec == std::errc() && parsed.ptr == half.data() + half.size();
  };
  const size_t slash = text.find('/');
  uint32_t high = 0;
  uint32_t low = 0;
  if (slash == std::string_view::npos || !parse_half(text.substr(0, slash), high) ||
      !parse_half(text.substr(slash + 1), low)) {
    return InvalidArgument(fmt::format("'{}' is not an LSN such as 16/B374D848", text));
  }
  return Lsn((uint64_t{high} << 32) | low);
}

}  // namespace millrace
