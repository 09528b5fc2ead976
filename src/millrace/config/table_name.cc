// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/table_name.h"

#include <algorithm>
#include <utility>

namespace millrace::config {

namespace {

bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

bool IsNameCharacter(char c) { return IsNameStart(c) || (c >= '0' && c <= '9') || c == '$'; }

std::string Quote(const std::string& part) {
  const bool is_plain =
      !part.empty() && IsNameStart(part[0]) && std::all_of(part.begin(), part.end(), [](char c) {
        return IsNameCharacter(c) && !(c >= 'A' && c <= 'Z');
      });
  if (is_plain) {
    return part;
  }
  std::string quoted = "\"";
  for (const char c : part) {
    quoted += c;
    if (c == '"') {
      quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace

// Cuts a text into parts at dots and parts into pieces at stars.
class PatternParser {
 public:
  explicit PatternParser(std::string_view text) : text_(text) {}

  std::optional<TablePattern> Parse() {
    std::vector<TablePattern::Part> parts;
    do {
      TablePattern::Part part;
      const bool is_good = Peek() == '"' ? ReadQuoted(part) : ReadPlain(part);
      if (!is_good) {
        return std::nullopt;
      }
      parts.push_back(std::move(part));
    } while (Skip('.'));
    if (at_ != text_.size() || parts.size() > 2) {
      return std::nullopt;
    }
    TablePattern pattern;
    pattern.name_ = std::move(parts.back());
    pattern.schema_ = parts.size() == 2 ? std::move(parts.front()) : TablePattern::Part{{"public"}};
    if (pattern.schema_.pieces.size() == 1 && pattern.name_.pieces.size() == 1) {
      pattern.exact_ = TableName{pattern.schema_.pieces[0], pattern.name_.pieces[0]};
    }
    return pattern;
  }

 private:
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool Skip(char c) {
    if (at_ < text_.size() && text_[at_] == c) {
      ++at_;
      return true;
    }
    return false;
  }

  bool ReadQuoted(TablePattern::Part& part) {
    std::string name;
    ++at_;
    while (at_ < text_.size()) {
      if (Skip('"') && !(Peek() == '"')) {
        part.pieces.push_back(name);
        return !name.empty();
      }
      name += text_[at_++];
    }
    return false;
  }

  bool ReadPlain(TablePattern::Part& part) {
    const size_t begin = at_;
    part.pieces.emplace_back();
    while (at_ < text_.size() && (IsNameCharacter(text_[at_]) || text_[at_] == '*')) {
      const char c = text_[at_++];
      if (c == '*') {
        part.pieces.emplace_back();
      } else {
        part.pieces.back() += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      }
    }
    return at_ > begin && (IsNameStart(text_[begin]) || text_[begin] == '*');
  }

  const std::string_view text_;
  size_t at_ = 0;
};

std::string TableName::ToString() const { return Quote(schema) + "." + Quote(name); }

std::optional<TableName> ParseTableName(std::string_view text) {
  const std::optional<TablePattern> pattern = TablePattern::Parse(text);
  return pattern ? pattern->exact() : std::nullopt;
}

std::optional<TablePattern> TablePattern::Parse(std::string_view text) {
  return PatternParser(text).Parse();
}

bool TablePattern::Matches(const TableName& table) const {
  return schema_.Matches(table.schema) && name_.Matches(table.name);
}

bool TablePattern::Part::Matches(std::string_view text) const {
  if (pieces.size() == 1) {
    return text == pieces[0];
  }
  const std::string& first = pieces.front();
  const std::string& last = pieces.back();
  if (text.size() < first.size() + last.size() || !text.starts_with(first) ||
      !text.ends_with(last)) {
    return false;
  }
  std::string_view rest = text.substr(first.size(), text.size() - first.size() - last.size());
  for (size_t i = 1; i + 1 < pieces.size(); ++i) {
    const size_t found = rest.find(pieces[i]);
    if (found == std::string_view::npos) {
      return false;
    }
    rest.remove_prefix(found + pieces[i].size());
  }
  return true;
}

}  // namespace millrace::config
