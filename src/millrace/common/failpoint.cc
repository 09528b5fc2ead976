// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/failpoint.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <string>

#include "millrace/common/check.h"

namespace millrace::failpoint {

namespace internal {

std::atomic<bool> armed = false;

namespace {

// Constant after ArmFromEnvironment().
std::string armed_name;
std::atomic<int> passes_left = 0;

bool IsKnown(std::string_view name) {
  return std::find(kAll.begin(), kAll.end(), name) != kAll.end();
}

}  // namespace

void Pass(std::string_view name) {
  MR_DCHECK(IsKnown(name));
  if (name == armed_name && passes_left.fetch_sub(1) == 1) {
    // SIGKILL, not abort(): no handler runs and nothing is flushed.
    std::raise(SIGKILL);
  }
}

}  // namespace internal

bool ArmFromEnvironment() {
  const char* value = std::getenv("MILLRACE_FAILPOINT");
  if (value == nullptr || *value == '\0') {
    return true;
  }
  std::string_view text(value);
  int passes = 1;
  if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
    const std::string_view count = text.substr(colon + 1);
    const auto parsed = std::from_chars(count.data(), count.data() + count.size(), passes);
    if (parsed.ec != std::errc() || passes < 1) {
      return false;
    }
    text = text.substr(0, colon);
  }
  if (!internal::IsKnown(text)) {
    return false;
  }
  internal::armed_name = text;
  internal::passes_left = passes;
  internal::armed = true;
  return true;
}

}  // namespace millrace::failpoint
