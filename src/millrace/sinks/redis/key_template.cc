// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/redis/key_template.h"

#include <fmt/format.h>

namespace millrace::sinks {

Result<KeyTemplate> KeyTemplate::Parse(std::string_view text) {
  KeyTemplate key;
  key.text_ = text;
  Part part;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c != '{' && c != '}') {
      part.literal += c;
    } else if (i + 1 < text.size() && text[i + 1] == c) {
      part.literal += c;
      ++i;
    } else if (c == '{') {
      const size_t end = text.find_first_of("{}", i + 1);
      if (end == std::string_view::npos || text[end] != '}' || end == i + 1) {
        return InvalidArgument(fmt::format(
            "key '{}': '{{' must be followed by a column's name and '}}'; write '{{{{' for the "
            "brace itself",
            text));
      }
      part.column = text.substr(i + 1, end - i - 1);
      key.parts_.push_back(std::move(part));
      part = {};
      i = end;
    } else {
      return InvalidArgument(
          fmt::format("key '{}': '}}' without '{{'; write '}}}}' for the brace itself", text));
    }
  }
  if (!part.literal.empty()) {
    key.parts_.push_back(std::move(part));
  }
  if (key.parts_.empty()) {
    return InvalidArgument("a key is empty");
  }
  return key;
}

std::vector<std::string> KeyTemplate::Columns() const {
  std::vector<std::string> columns;
  for (const Part& part : parts_) {
    if (!part.column.empty()) {
      columns.push_back(part.column);
    }
  }
  return columns;
}

Result<BoundKeyTemplate> BoundKeyTemplate::Bind(const KeyTemplate& key, const Stream& stream) {
  BoundKeyTemplate bound;
  for (const KeyTemplate::Part& part : key.parts_) {
    Part bound_part{.literal = part.literal};
    if (!part.column.empty()) {
      bound_part.column = stream.FindColumn(part.column);
      if (bound_part.column < 0) {
        return InvalidArgument(fmt::format("key '{}': stream '{}' has no column '{}'", key.text_,
                                           stream.name, part.column));
      }
      bound_part.write =
          TextWriterOf((*stream.columns)[static_cast<size_t>(bound_part.column)].type);
    }
    bound.parts_.push_back(std::move(bound_part));
  }
  return bound;
}

void BoundKeyTemplate::Append(const RowBatch& rows, size_t row, Buffer& to) const {
  for (const Part& part : parts_) {
    to.Append(part.literal);
    if (part.column < 0) {
      continue;
    }
    const Column& column = rows.column(static_cast<size_t>(part.column));
    if (column.IsNull(row)) {
      to.Append("unknown");
    } else {
      part.write(column, row, to);
    }
  }
}

}  // namespace millrace::sinks
