// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/copy_text.h"

namespace millrace::sources::postgres {
namespace {

// What a backslash and `letter` stand for; 0 if the server writes no such escape.
char EscapedByte(char letter) {
  switch (letter) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'v':
      return '\v';
    case '\\':
      return '\\';
    default:
      return '\0';
  }
}

}  // namespace

CopyLine::CopyLine(std::string_view line) : rest_(line) {
  if (rest_.ends_with('\n')) {
    rest_.remove_suffix(1);
  }
}

CopyLine::Field CopyLine::Next(std::string_view& text) {
  const size_t tab = rest_.find('\t');
  const std::string_view field = rest_.substr(0, tab);
  at_end_ = tab == std::string_view::npos;
  rest_.remove_prefix(at_end_ ? rest_.size() : tab + 1);
  if (field.find('\\') == std::string_view::npos) [[likely]] {
    text = field;
    return Field::kText;
  }
  if (field == "\\N") {
    text = {};
    return Field::kNull;
  }
  if (!Unescape(field)) {
    return Field::kMalformed;
  }
  text = unescaped_;
  return Field::kText;
}

bool CopyLine::Unescape(std::string_view field) {
  unescaped_.clear();
  unescaped_.reserve(field.size());
  for (size_t at = 0; (at = field.find('\\')) != std::string_view::npos;) {
    const char byte = at + 1 == field.size() ? '\0' : EscapedByte(field[at + 1]);
    if (byte == '\0') {
      return false;
    }
    unescaped_.append(field, 0, at);
    unescaped_.push_back(byte);
    field.remove_prefix(at + 2);
  }
  unescaped_.append(field);
  return true;
}

}  // namespace millrace::sources::postgres
