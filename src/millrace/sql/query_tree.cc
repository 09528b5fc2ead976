// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/query_tree.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "millrace/sql/query_functions.h"

namespace millrace::sql {
namespace {

std::string LineAndColumn(std::string_view sql, size_t offset) {
  if (offset > sql.size()) {
    return {};
  }
  const std::string_view before = sql.substr(0, offset);
  const auto lines = std::ranges::count(before, '\n');
  const size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  return fmt::format("line {}, column {}: ", lines + 1, offset - line_start + 1);
}

// The offset of a node, or of the first below it that has one: some kinds of nodes have none.
std::optional<size_t> OffsetOf(const Json& node, int depth = 0) {
  if (const Json& at = Get(node, "query_location"); at.is_number_unsigned()) {
    if (const auto offset = at.get<uint64_t>(); offset != UINT64_MAX) {
      return offset;
    }
  }
  if (depth < 8 && (node.is_object() || node.is_array())) {
    for (const Json& child : node) {
      if (const std::optional<size_t> offset = OffsetOf(child, depth + 1)) {
        return offset;
      }
    }
  }
  return std::nullopt;
}

std::string Key(const std::string& relation, const std::string& column) {
  return ToLower(relation.empty() ? column : relation + "." + column);
}

}  // namespace

const Json& Get(const Json& node, const char* member) {
  static const Json kNull;
  if (!node.is_object()) {
    return kNull;
  }
  const auto at = node.find(member);
  return at == node.end() ? kNull : *at;
}

std::string Text(const Json& node, const char* member) {
  const Json& value = Get(node, member);
  return value.is_string() ? value.get<std::string>() : std::string();
}

bool Flag(const Json& node, const char* member) {
  const Json& value = Get(node, member);
  return value.is_boolean() && value.get<bool>();
}

std::string PositionOf(std::string_view sql, const Json& node) {
  const std::optional<size_t> offset = OffsetOf(node);
  return offset ? LineAndColumn(sql, *offset) : std::string();
}

std::string PositionOfError(std::string_view sql, const Json& error) {
  const std::string position = Text(error, "position");
  size_t offset = 0;
  const auto [end, code] =
      std::from_chars(position.data(), position.data() + position.size(), offset);
  if (code != std::errc() || end != position.data() + position.size()) {
    return {};
  }
  return LineAndColumn(sql, offset);
}

std::vector<std::string> LambdaParams(const Json& lhs) {
  std::vector<std::string> params;
  const auto add = [&params](const Json& node) {
    const Json& names = Get(node, "column_names");
    if (names.size() == 1 && names[0].is_string()) {
      params.push_back(names[0].get<std::string>());
    }
  };
  if (Text(lhs, "class") == "FUNCTION") {
    for (const Json& child : Get(lhs, "children")) {
      add(child);
    }
  } else {
    add(lhs);
  }
  return params;
}

StarChanges::StarChanges(const Json& star) {
  for (const Json& name : Get(star, "exclude_list")) {
    changes_[Key({}, name.is_string() ? name.get<std::string>() : std::string())].is_excluded =
        true;
  }
  for (const Json& name : Get(star, "qualified_exclude_list")) {
    changes_[Key(Text(name, "table"), Text(name, "column"))].is_excluded = true;
  }
  for (const Json& entry : Get(star, "replace_list")) {
    changes_[Key({}, Text(entry, "key"))].replacement = &Get(entry, "value");
  }
  for (const Json& entry : Get(star, "rename_list")) {
    const Json& name = Get(entry, "key");
    changes_[Key(Text(name, "table"), Text(name, "column"))].name = Text(entry, "value");
  }
}

StarChanges::Change StarChanges::Of(const std::string& relation, const std::string& column) {
  for (const std::string& key : {Key(relation, column), Key({}, column)}) {
    if (const auto at = changes_.find(key); at != changes_.end()) {
      used_.insert(key);
      return at->second;
    }
  }
  return {};
}

std::string StarChanges::Unused() const {
  for (const auto& [key, change] : changes_) {
    if (!used_.contains(key)) {
      return key;
    }
  }
  return {};
}

}  // namespace millrace::sql
