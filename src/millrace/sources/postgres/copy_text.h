// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace millrace::sources::postgres {

// Takes one line of COPY's text format apart, field by field: tabs between fields, `\N` for NULL,
// backslash escapes.
class CopyLine {
 public:
  // `line` without its newline, or with it.
  explicit CopyLine(std::string_view line);

  enum class Field { kText, kNull, kMalformed };
  // The next field into `text`, valid until the next call. REQUIRES: !AtEnd().
  Field Next(std::string_view& text);
  bool AtEnd() const { return at_end_; }

 private:
  bool Unescape(std::string_view field);

  std::string_view rest_;
  bool at_end_ = false;
  std::string unescaped_;
};

}  // namespace millrace::sources::postgres
