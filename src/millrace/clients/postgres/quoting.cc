// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/postgres/quoting.h"

namespace millrace::pg {
namespace {

void AppendDoubling(std::string& to, std::string_view text, char quote, bool double_backslash) {
  for (const char c : text) {
    if (c == quote || (double_backslash && c == '\\')) {
      to.push_back(c);
    }
    to.push_back(c);
  }
}

}  // namespace

std::string QuoteIdentifier(std::string_view name) {
  std::string quoted = "\"";
  AppendDoubling(quoted, name, '"', false);
  quoted.push_back('"');
  return quoted;
}

std::string QuoteQualified(std::string_view schema, std::string_view name) {
  return QuoteIdentifier(schema) + "." + QuoteIdentifier(name);
}

std::string QuoteLiteral(std::string_view text) {
  const bool has_backslash = text.find('\\') != std::string_view::npos;
  std::string quoted = has_backslash ? " E'" : "'";
  AppendDoubling(quoted, text, '\'', has_backslash);
  quoted.push_back('\'');
  return quoted;
}

}  // namespace millrace::pg
