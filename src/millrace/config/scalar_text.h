// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::config {

// The texts of scalar values. All of them are pure; nothing means that the text is not one.

std::optional<int64_t> ParseInteger(std::string_view text);
// `true` or `false`.
std::optional<bool> ParseBoolean(std::string_view text);
// A whole number and one of ms, s, m, h, d; or 0.
std::optional<std::chrono::milliseconds> ParseDuration(std::string_view text);
// A whole number and nothing or one of B, KiB, MiB, GiB, TiB, kB, MB, GB, TB.
std::optional<uint64_t> ParseBytes(std::string_view text);

// The inverses, in the largest unit that is exact.
std::string FormatDuration(std::chrono::milliseconds duration);
std::string FormatBytes(uint64_t bytes);

// The candidate that `text` was probably meant to be, or nothing.
std::optional<std::string> FindSimilar(std::string_view text,
                                       const std::vector<std::string>& candidates);
// ", did you mean 'x'?", or nothing to add.
std::string Suggest(std::string_view text, const std::vector<std::string>& candidates);

// True for a short word of letters, digits, `_`, `-` and `.`. Only such words of a file are
// repeated in findings: other text may hold a password.
bool IsPlainWord(std::string_view text);
// " 'text'" if it is a plain word, else nothing.
std::string QuoteIfPlain(std::string_view text);

// "a, b or c"
std::string JoinChoices(const std::vector<std::string>& words);

}  // namespace millrace::config
