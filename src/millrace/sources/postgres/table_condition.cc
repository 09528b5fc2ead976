// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/table_pattern.h"

#include <vector>

#include <fmt/format.h>

#include "millrace/clients/postgres/quoting.h"

namespace millrace::sources::postgres {
namespace {

struct Part {
  std::string name;  // without quotes
  std::string like;  // the same for LIKE
  bool has_star = false;
};

void AppendName(Part& part, char c) {
  part.name.push_back(c);
  if (c == '%' || c == '_' || c == '\\') {
    part.like.push_back('\\');
  }
  part.like.push_back(c);
}

// Reads up to the dot or the end. False on a quote without its partner or an empty name.
bool ReadPart(std::string_view text, size_t& at, Part& part) {
  bool is_quoted = false;
  for (; at < text.size() && (is_quoted || text[at] != '.'); ++at) {
    const char c = text[at];
    if (c == '"') {
      if (is_quoted && text.substr(at, 2) == "\"\"") {
        AppendName(part, c);
        ++at;
      } else {
        is_quoted = !is_quoted;
      }
    } else if (c == '*' && !is_quoted) {
      part.has_star = true;
      part.name.push_back(c);
      part.like.push_back('%');
    } else {
      AppendName(part, !is_quoted && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
    }
  }
  return !is_quoted && !part.name.empty();
}

}  // namespace

Result<TablePattern> ParseTablePattern(std::string_view text) {
  std::vector<Part> parts;
  size_t at = 0;
  bool is_valid = true;
  do {
    parts.emplace_back();
    is_valid = ReadPart(text, at, parts.back());
  } while (is_valid && at++ < text.size());
  if (!is_valid || parts.size() > 2) {
    return InvalidArgument(fmt::format(
        "'{}' names no table: write schema.table, with quotes around odd names, or schema.*",
        text));
  }
  if (parts.size() == 1) {
    parts.insert(parts.begin(), Part{"public", "public", false});
  }
  TablePattern pattern;
  pattern.is_pattern = parts[0].has_star || parts[1].has_star;
  pattern.schema = pattern.is_pattern ? parts[0].like : parts[0].name;
  pattern.table = pattern.is_pattern ? parts[1].like : parts[1].name;
  return pattern;
}

std::string TablePattern::SqlCondition() const {
  const std::string op = is_pattern ? "LIKE" : "=";
  return fmt::format("n.nspname::text {0} {1} AND c.relname::text {0} {2}", op,
                     pg::QuoteLiteral(schema), pg::QuoteLiteral(table));
}

}  // namespace millrace::sources::postgres
