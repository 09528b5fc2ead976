// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/sql_words.h"

#include <cstddef>
#include <string>

namespace millrace::config {

namespace {

bool IsWordCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// The end of the quoted text or comment that begins at `at`; `at` itself if none does.
size_t SkipQuoted(std::string_view sql, size_t at) {
  const auto after = [&](std::string_view end, size_t from) {
    const size_t found = sql.find(end, from);
    return found == std::string_view::npos ? sql.size() : found + end.size();
  };
  const std::string_view rest = sql.substr(at);
  if (rest.starts_with("--")) {
    return after("\n", at);
  }
  if (rest.starts_with("/*")) {
    return after("*/", at + 2);
  }
  if (rest[0] == '\'' || rest[0] == '"') {
    return after(rest.substr(0, 1), at + 1);
  }
  if (rest[0] == '$') {
    // $$text$$ or $tag$text$tag$
    size_t end = 1;
    while (end < rest.size() && IsWordCharacter(rest[end])) {
      ++end;
    }
    if (end < rest.size() && rest[end] == '$') {
      return after(rest.substr(0, end + 1), at + end + 1);
    }
  }
  return at;
}

}  // namespace

bool HasGroupBy(std::string_view sql) {
  std::string previous;
  size_t at = 0;
  while (at < sql.size()) {
    if (const size_t end = SkipQuoted(sql, at); end != at) {
      const bool is_comment = sql[at] == '-' || sql[at] == '/';
      previous = is_comment ? previous : "";
      at = end;
    } else if (IsWordCharacter(sql[at])) {
      std::string word;
      while (at < sql.size() && IsWordCharacter(sql[at])) {
        const char c = sql[at++];
        word += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      }
      if (word == "by" && previous == "group") {
        return true;
      }
      previous = std::move(word);
    } else {
      const char c = sql[at++];
      const bool is_space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
      previous = is_space ? previous : "";
    }
  }
  return false;
}

}  // namespace millrace::config
