// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/sql/query_check.h"
#include "millrace/sql/query_tree.h"

// The inside of query_check.h.
namespace millrace::sql {

// A relation that the query may read; without columns where they are unknown.
struct Input {
  std::string schema;
  std::string name;
  const Schema* columns = nullptr;
  const std::vector<std::vector<uint32_t>>* keys = nullptr;

  std::string FullName() const { return schema.empty() ? name : schema + "." + name; }
};

// An input as the query names it.
struct Relation {
  int lookup = ColumnSource::kDriving;
  std::string alias;
  bool has_alias = false;
  const Input* input = nullptr;
};

// What a column reference is.
struct Resolved {
  enum Kind { kColumn, kAlias, kUnknown } kind = kUnknown;
  ColumnSource source;
  size_t item = 0;
};

// What the lambdas around a name bind, in lower case.
using Params = std::set<std::string>;

// Checks one query against its inputs: FROM and joins in query_check.cc, names and the select list
// in query_columns.cc. For one call of Check().
class QueryChecker {
 public:
  QueryChecker(std::string_view sql, Input driving, std::vector<Input> lookups)
      : sql_(sql), driving_(std::move(driving)), lookups_(std::move(lookups)) {}

  Result<CheckedQuery> Check(std::string_view tree);

 private:
  bool knows_columns() const { return driving_.columns != nullptr; }
  Status Refuse(const Json& node, std::string_view text) const {
    return InvalidArgument(PositionOf(sql_, node) + std::string(text));
  }

  Status CheckInputs() const;
  Result<Json> TakeSelect(std::string_view tree) const;
  Status CheckSelectNode(const Json& select) const;
  Status AddFrom(const Json& from);
  Result<Relation> FindInput(const Json& table, bool is_driving) const;
  Status AddBaseTable(const Json& table, bool is_driving);
  Status AddJoin(const Json& join);
  Status CheckJoinForm(const Json& join) const;
  Status AddCondition(const Json& condition, const Relation& relation, bool inner);
  Result<std::pair<ColumnSource, ColumnSource>> Equality(const Json& comparison,
                                                         const Relation& relation) const;
  Status MatchKey(const Json& node, const Relation& relation, LookupJoin* on) const;
  Status CheckKeyTypes(const Json& node, const Relation& relation, const LookupJoin& on) const;

  Status AddItem(Json node);
  Status AddStar(const Json& star);
  Status Rewrite(Json& node, const Params& params);
  Status RewriteAll(Json& container, const Params& params);
  Status RewriteColumn(Json& node, const Params& params);
  Status RewriteFunction(Json& node, const Params& params);
  Result<Resolved> Resolve(const Json& node) const;
  Result<Resolved> ResolveName(const Json& node, const std::string& name) const;

  const Relation* FindRelation(std::string_view alias) const;
  static std::optional<int> FindColumn(const Relation& relation, std::string_view name);
  void PointAt(Json& node, ColumnSource source);
  const Relation& RelationOf(ColumnSource source) const;
  std::string NameOf(ColumnSource source) const;
  void AddPlain(std::string name, ColumnSource source, bool has_alias);

  std::string_view sql_;
  Input driving_;
  std::vector<Input> lookups_;
  std::vector<Relation> relations_;  // the driving one first
  std::map<std::string, size_t> aliases_;
  CheckedQuery query_;
};

}  // namespace millrace::sql
