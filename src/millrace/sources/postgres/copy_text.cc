// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/copy_text.h"

#include <algorithm>

namespace millrace::sources::postgres {

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
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] != '\\') {
      unescaped_.push_back(field[i]);
      continue;
    }
    if (++i == field.size()) {
      return false;
    }
    switch (field[i]) {
      case 'b':
        unescaped_.push_back('\b');
        break;
      case 'f':
        unescaped_.push_back('\f');
        break;
      case 'n':
        unescaped_.push_back('\n');
        break;
      case 'r':
        unescaped_.push_back('\r');
        break;
      case 't':
        unescaped_.push_back('\t');
        break;
      case 'v':
        unescaped_.push_back('\v');
        break;
      case '\\':
        unescaped_.push_back('\\');
        break;
      default:
        return false;  // the server escapes nothing else
    }
  }
  return true;
}

}  // namespace millrace::sources::postgres
