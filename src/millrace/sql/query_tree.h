// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace millrace::sql {

// Reading of syntax trees as json_serialize_sql gives them. Nothing here throws; what is absent or
// of another type is null, empty or false.

using Json = nlohmann::json;

const Json& Get(const Json& node, const char* member);
std::string Text(const Json& node, const char* member);
bool Flag(const Json& node, const char* member);

// "line L, column C: " of a node within `sql`, both from 1; empty where the tree has no position.
std::string PositionOf(std::string_view sql, const Json& node);
// The same for the error that json_serialize_sql reports.
std::string PositionOfError(std::string_view sql, const Json& error);

// The names that the left side of a lambda binds.
std::vector<std::string> LambdaParams(const Json& lhs);

// The EXCLUDE, REPLACE and RENAME of a star.
class StarChanges {
 public:
  struct Change {
    bool is_excluded = false;
    const Json* replacement = nullptr;
    std::string name;  // renamed to; empty: as it is
  };

  explicit StarChanges(const Json& star);
  Change Of(const std::string& relation, const std::string& column);
  // A name that no column had, or empty.
  std::string Unused() const;

 private:
  // By "column" or "relation.column", in lower case.
  std::map<std::string, Change> changes_;
  std::set<std::string> used_;
};

}  // namespace millrace::sql
