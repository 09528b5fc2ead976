// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/redis/resp.h"

#include <charconv>
#include <cstring>

namespace millrace::redis {

namespace {

// `$12\r\n`, with room for `extra` bytes behind it, which are at the returned place.
char* AppendLength(Buffer& to, char type, size_t value, size_t extra) {
  constexpr size_t kMax = 1 + 20 + 2;
  char* const begin = to.Extend(kMax + extra);
  *begin = type;
  char* end = std::to_chars(begin + 1, begin + kMax, value).ptr;
  *end++ = '\r';
  *end++ = '\n';
  to.Truncate(to.size() - (kMax - static_cast<size_t>(end - begin)));
  return end;
}

}  // namespace

void AppendCommandHeader(Buffer& to, size_t arguments) { AppendLength(to, '*', arguments, 0); }

void AppendArgument(Buffer& to, std::string_view argument) {
  char* at = AppendLength(to, '$', argument.size(), argument.size() + 2);
  if (!argument.empty()) {
    std::memcpy(at, argument.data(), argument.size());
  }
  at[argument.size()] = '\r';
  at[argument.size() + 1] = '\n';
}

void AppendUnsignedArgument(Buffer& to, uint64_t argument) {
  char digits[20];
  const char* end = std::to_chars(digits, digits + sizeof(digits), argument).ptr;
  AppendArgument(to, {digits, static_cast<size_t>(end - digits)});
}

void AppendCommand(Buffer& to, std::initializer_list<std::string_view> arguments) {
  AppendCommandHeader(to, arguments.size());
  for (const std::string_view argument : arguments) {
    AppendArgument(to, argument);
  }
}

}  // namespace millrace::redis
