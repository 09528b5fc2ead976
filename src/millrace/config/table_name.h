// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::config {

// A table of the source as PostgreSQL knows it: quotes are taken off, unquoted names are in lower
// case.
struct TableName {
  std::string schema;
  std::string name;

  bool operator==(const TableName&) const = default;
  // `public.content`; parts are quoted where they must be.
  std::string ToString() const;
};

// `content` (of schema public), `shop.orders`, `"My Shop"."Order.Lines"`. Nothing if it is no name.
std::optional<TableName> ParseTableName(std::string_view text);

// An entry of `source.tables`: a name, or one with `*` for any characters outside of quotes.
class TablePattern {
 public:
  // One part, cut at its stars: pieces that must follow each other. One piece: exactly that.
  struct Part {
    std::vector<std::string> pieces;
    bool Matches(std::string_view text) const;
  };

  static std::optional<TablePattern> Parse(std::string_view text);

  const Part& schema() const { return schema_; }
  const Part& name() const { return name_; }
  bool Matches(const TableName& table) const;
  // The table where the pattern names exactly one.
  const std::optional<TableName>& exact() const { return exact_; }

 private:
  friend class PatternParser;

  Part schema_;
  Part name_;
  std::optional<TableName> exact_;
};

}  // namespace millrace::config
