// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. Pure
// functions; any thread.
namespace millrace {

// The length of the valid sequence of two bytes or more at `at`, or 0. REQUIRES: at != end.
size_t Utf8SequenceLength(const uint8_t* at, const uint8_t* end);

// How many bytes at the beginning of `text` are valid: all of them, or up to the first that is not.
size_t ValidUtf8Prefix(std::string_view text);

inline bool IsValidUtf8(std::string_view text) { return ValidUtf8Prefix(text) == text.size(); }

}  // namespace millrace
