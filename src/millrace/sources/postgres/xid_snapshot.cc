// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/xid_snapshot.h"

#include <algorithm>
#include <charconv>
#include <functional>

#include <fmt/format.h>

namespace millrace::sources::postgres {
namespace {

// Takes a number and the separator behind it, which may be missing at the end.
bool TakeNumber(std::string_view& text, char separator, FullXid& value) {
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || (at != end && *at != separator)) {
    return false;
  }
  text.remove_prefix(static_cast<size_t>(at - text.data()) + (at == end ? 0 : 1));
  return true;
}

}  // namespace

Result<XidSnapshot> XidSnapshot::Parse(std::string_view text) {
  XidSnapshot snapshot;
  bool is_good = TakeNumber(text, ':', snapshot.xmin) && TakeNumber(text, ':', snapshot.xmax) &&
                 snapshot.xmin <= snapshot.xmax;
  while (is_good && !text.empty()) {
    FullXid xid = 0;
    is_good = TakeNumber(text, ',', xid) && xid >= snapshot.xmin && xid < snapshot.xmax &&
              (snapshot.running.empty() || snapshot.running.back() < xid);
    snapshot.running.push_back(xid);
  }
  if (!is_good) {
    return Corruption("the server's snapshot is not of the form xmin:xmax:xids");
  }
  return snapshot;
}

std::string XidSnapshot::Format() const {
  return fmt::format("{}:{}:{}", xmin, xmax, fmt::join(running, ","));
}

bool XidSnapshot::Sees(FullXid xid) const {
  if (xid < xmin) {
    return true;
  }
  return xid < xmax && !std::binary_search(running.begin(), running.end(), xid);
}

FullXid XidSnapshot::Widen(Xid xid) const {
  // The distance from xmax, in 32 bits that wrap.
  const auto distance = static_cast<int32_t>(xid.value() - static_cast<uint32_t>(xmax));
  return xmax + static_cast<FullXid>(int64_t{distance});
}

}  // namespace millrace::sources::postgres
