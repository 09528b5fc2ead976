// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/scalar_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

namespace millrace::config {

namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

// Largest first: what the formatters try.
constexpr std::array<Unit, 5> kDurationUnits = {{
    {"d", 86'400'000},
    {"h", 3'600'000},
    {"m", 60'000},
    {"s", 1'000},
    {"ms", 1},
}};
constexpr std::array<Unit, 10> kByteUnits = {{
    {"TiB", uint64_t{1} << 40},
    {"GiB", uint64_t{1} << 30},
    {"MiB", uint64_t{1} << 20},
    {"KiB", uint64_t{1} << 10},
    {"TB", 1'000'000'000'000},
    {"GB", 1'000'000'000},
    {"MB", 1'000'000},
    {"kB", 1'000},
    {"KB", 1'000},
    {"B", 1},
}};

// A whole number directly followed by one of `units`; the product fits an int64_t.
template <size_t kCount>
std::optional<uint64_t> ParseWithUnit(std::string_view text, const std::array<Unit, kCount>& units,
                                      bool unit_required) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end == text.data()) {
    return std::nullopt;
  }
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  uint64_t factor = 0;
  if (unit.empty()) {
    factor = !unit_required || number == 0 ? 1 : 0;
  } else {
    for (const Unit& known : units) {
      factor = known.name == unit ? known.factor : factor;
    }
  }
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  if (factor == 0 || number > kMax / factor) {
    return std::nullopt;
  }
  return number * factor;
}

// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    last[j] = j;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({last[j] + 1, current[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, current);
  }
  return last[b.size()];
}

}  // namespace

std::optional<int64_t> ParseInteger(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return number;
}

std::optional<bool> ParseBoolean(std::string_view text) {
  if (text == "true" || text == "false") {
    return text == "true";
  }
  return std::nullopt;
}

std::optional<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  const auto ms = ParseWithUnit(text, kDurationUnits, /*unit_required=*/true);
  if (!ms) {
    return std::nullopt;
  }
  return std::chrono::milliseconds(static_cast<int64_t>(*ms));
}

std::optional<uint64_t> ParseBytes(std::string_view text) {
  return ParseWithUnit(text, kByteUnits, /*unit_required=*/false);
}

std::string FormatDuration(std::chrono::milliseconds duration) {
  const int64_t count = duration.count();
  for (const Unit& unit : kDurationUnits) {
    const auto factor = static_cast<int64_t>(unit.factor);
    if (count != 0 && count % factor == 0) {
      return std::to_string(count / factor) + std::string(unit.name);
    }
  }
  return "0";
}

std::string FormatBytes(uint64_t bytes) {
  for (size_t i = 0; i < 4; ++i) {
    if (bytes != 0 && bytes % kByteUnits[i].factor == 0) {
      return std::to_string(bytes / kByteUnits[i].factor) + std::string(kByteUnits[i].name);
    }
  }
  return std::to_string(bytes);
}

std::optional<std::string> FindSimilar(std::string_view text,
                                       const std::vector<std::string>& candidates) {
  constexpr size_t kLongest = 64;  // bounds the work on hostile input
  if (text.size() > kLongest) {
    return std::nullopt;
  }
  std::optional<std::string> best;
  size_t best_distance = std::max<size_t>(1, text.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kLongest || candidate == text) {
      continue;
    }
    const size_t distance = EditDistance(text, candidate);
    // A word of which nothing is left is not similar.
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string Suggest(std::string_view text, const std::vector<std::string>& candidates) {
  const std::optional<std::string> similar = FindSimilar(text, candidates);
  return similar ? ", did you mean '" + *similar + "'?" : "";
}

bool IsPlainWord(std::string_view text) {
  constexpr size_t kLongest = 64;
  return !text.empty() && text.size() <= kLongest &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-' || c == '.';
         });
}

std::string QuoteIfPlain(std::string_view text) {
  return IsPlainWord(text) ? " '" + std::string(text) + "'" : "";
}

std::string JoinChoices(const std::vector<std::string>& words) {
  std::string joined;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) {
      joined += i + 1 == words.size() ? " or " : ", ";
    }
    joined += words[i];
  }
  return joined;
}

}  // namespace millrace::config
