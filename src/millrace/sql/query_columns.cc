// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "millrace/sql/query_checker.h"
#include "millrace/sql/query_functions.h"

namespace millrace::sql {
namespace {

constexpr std::string_view kCommitTs = "_commit_ts";

// Names that SQL reads as functions where there is no such column.
constexpr std::string_view kValueFunctions[] = {
    "current_catalog", "current_date",      "current_role", "current_schema",
    "current_time",    "current_timestamp", "current_user", "localtime",
    "localtimestamp",  "session_user",      "user"};

}  // namespace

const Relation* QueryChecker::FindRelation(std::string_view alias) const {
  for (const Relation& relation : relations_) {
    if (ToLower(relation.alias) == ToLower(alias)) {
      return &relation;
    }
  }
  return nullptr;
}

std::optional<int> QueryChecker::FindColumn(const Relation& relation, std::string_view name) {
  const std::string lower = ToLower(name);
  const Schema& columns = *relation.input->columns;
  for (size_t i = 0; i < columns.size(); ++i) {
    if (ToLower(columns[i].name) == lower) {
      return static_cast<int>(i);
    }
  }
  if (relation.lookup < 0 && lower == kCommitTs) {
    return ColumnSource::kCommitTime;
  }
  return std::nullopt;
}

const Relation& QueryChecker::RelationOf(ColumnSource source) const {
  return *std::ranges::find(relations_, source.lookup, &Relation::lookup);
}

std::string QueryChecker::NameOf(ColumnSource source) const {
  const Relation& relation = RelationOf(source);
  return relation.alias + "." +
         (source.column < 0 ? std::string(kCommitTs)
                            : (*relation.input->columns)[static_cast<size_t>(source.column)].name);
}

Result<Resolved> QueryChecker::ResolveName(const Json& node, const std::string& name) const {
  Resolved result;
  const Relation* owner = nullptr;
  for (const Relation& relation : relations_) {
    const std::optional<int> column = FindColumn(relation, name);
    if (!column) {
      continue;
    }
    if (owner != nullptr) {
      return Refuse(node, fmt::format("column '{}' is in both {} and {}: write {}.{}", name,
                                      owner->alias, relation.alias, owner->alias, name));
    }
    owner = &relation;
    result = {.kind = Resolved::kColumn, .source = {relation.lookup, *column}};
  }
  if (owner != nullptr) {
    return result;
  }
  if (const auto alias = aliases_.find(ToLower(name)); alias != aliases_.end()) {
    return Resolved{.kind = Resolved::kAlias, .item = alias->second};
  }
  if (std::ranges::find(kValueFunctions, ToLower(name)) != std::end(kValueFunctions)) {
    return Refuse(node, RefusalOfFunction(name, 0));
  }
  if (FindRelation(name) != nullptr) {
    return Refuse(node, fmt::format("'{}' is a relation, not a column: name its columns", name));
  }
  return Refuse(node, fmt::format("there is no column '{}' in the driving relation or its lookups: "
                                  "check the name against the source table",
                                  name));
}

Result<Resolved> QueryChecker::Resolve(const Json& node) const {
  std::vector<std::string> names;
  for (const Json& name : Get(node, "column_names")) {
    names.push_back(name.is_string() ? name.get<std::string>() : std::string());
  }
  if (names.empty()) {
    return Refuse(node, "a column reference without a name: name the column");
  }
  if (!knows_columns()) {
    const std::string lower = ToLower(names[0]);
    if (names.size() == 1 && lower != "user" &&
        std::ranges::find(kValueFunctions, lower) != std::end(kValueFunctions)) {
      return Refuse(node, RefusalOfFunction(names[0], 0));
    }
    return Resolved{};
  }
  if (names.size() == 1) {
    return ResolveName(node, names[0]);
  }
  const Relation* relation = FindRelation(names[0]);
  size_t column_at = 1;
  if (names.size() >= 3) {
    const Relation* qualified = FindRelation(names[1]);
    if (qualified != nullptr && !qualified->has_alias &&
        ToLower(qualified->input->schema) == ToLower(names[0])) {
      relation = qualified;
      column_at = 2;
    }
  }
  if (relation == nullptr) {
    return Refuse(node, fmt::format("there is no relation '{}' in FROM: use the aliases that FROM "
                                    "and JOIN give",
                                    names[0]));
  }
  const std::optional<int> column = FindColumn(*relation, names[column_at]);
  if (!column) {
    return Refuse(node, fmt::format("relation {} has no column '{}': check the name against the "
                                    "source table",
                                    relation->alias, names[column_at]));
  }
  if (column_at + 1 != names.size()) {
    return Refuse(node,
                  fmt::format("column '{}' has no fields: read JSON with ->> or json_extract()",
                              names[column_at]));
  }
  return Resolved{.kind = Resolved::kColumn, .source = {relation->lookup, *column}};
}

// Makes `node` a reference to the column of the scan that is `source`.
void QueryChecker::PointAt(Json& node, ColumnSource source) {
  auto at = std::ranges::find(query_.scan, source, &ScanColumn::source);
  if (at == query_.scan.end()) {
    query_.scan.push_back({source, fmt::format("{}#{}", NameOf(source), query_.scan.size())});
    at = query_.scan.end() - 1;
  }
  node["column_names"] = {std::string(kScanRelation), at->name};
}

// --- expressions ---------------------------------------------------------------------------------

void QueryChecker::AddPlain(std::string name, ColumnSource source, bool has_alias) {
  if (has_alias) {
    aliases_.emplace(ToLower(name), query_.items.size());
  }
  query_.items.push_back(
      {.name = std::move(name), .is_plain = true, .source = source, .has_alias = has_alias});
}

Status QueryChecker::AddItem(Json node) {
  if (Text(node, "class") == "STAR") {
    return AddStar(node);
  }
  const std::string alias = Text(node, "alias");
  if (Text(node, "class") == "COLUMN_REF") {
    MR_ASSIGN_OR_RETURN(Resolved resolved, Resolve(node));
    if (resolved.kind == Resolved::kAlias && Get(node, "column_names").size() == 1 &&
        query_.items[resolved.item].is_plain) {
      resolved = {.kind = Resolved::kColumn, .source = query_.items[resolved.item].source};
    }
    if (resolved.kind == Resolved::kColumn) {
      const std::string name = NameOf(resolved.source);
      AddPlain(!alias.empty() ? alias : name.substr(RelationOf(resolved.source).alias.size() + 1),
               resolved.source, !alias.empty());
      return Status::Ok();
    }
  }
  CheckedQuery::Item item;
  item.name = alias;
  item.has_alias = !alias.empty();
  node["alias"] = "";
  if (!item.has_alias) {
    item.unnamed = node.dump();
  }
  MR_RETURN_IF_ERROR(Rewrite(node, {}));
  item.expression = node.dump();
  if (item.has_alias) {
    aliases_.emplace(ToLower(alias), query_.items.size());
  }
  query_.items.push_back(std::move(item));
  return Status::Ok();
}

// Replaces `*` or `a.*`, with EXCLUDE, REPLACE and RENAME, by its columns.
Status QueryChecker::AddStar(const Json& star) {
  if (Flag(star, "columns") || !Get(star, "expr").is_null()) {
    return Refuse(star, "COLUMNS(...) is not allowed: name the columns");
  }
  if (!knows_columns()) {
    return Status::Ok();
  }
  const std::string of = Text(star, "relation_name");
  if (!of.empty() && FindRelation(of) == nullptr) {
    return Refuse(star, fmt::format("there is no relation '{}' in FROM: use the aliases that FROM "
                                    "and JOIN give",
                                    of));
  }
  StarChanges changes(star);
  for (const Relation& relation : relations_) {
    if (!of.empty() && ToLower(relation.alias) != ToLower(of)) {
      continue;
    }
    const Schema& columns = *relation.input->columns;
    for (size_t i = 0; i < columns.size(); ++i) {
      const ColumnSource source{relation.lookup, static_cast<int>(i)};
      StarChanges::Change change = changes.Of(relation.alias, columns[i].name);
      if (change.replacement != nullptr) {
        Json node = *change.replacement;
        node["alias"] = columns[i].name;
        MR_RETURN_IF_ERROR(AddItem(std::move(node)));
      } else if (!change.is_excluded) {
        AddPlain(change.name.empty() ? columns[i].name : change.name, source, !change.name.empty());
      }
    }
  }
  if (const std::string unused = changes.Unused(); !unused.empty()) {
    return Refuse(star, fmt::format("EXCLUDE, REPLACE or RENAME names '{}', which * does not have: "
                                    "remove it or correct the name",
                                    unused));
  }
  return Status::Ok();
}

Status QueryChecker::RewriteAll(Json& container, const Params& params) {
  for (Json& value : container) {
    if (value.is_object() && value.contains("class")) {
      MR_RETURN_IF_ERROR(Rewrite(value, params));
    } else if (value.is_object() || value.is_array()) {
      MR_RETURN_IF_ERROR(RewriteAll(value, params));
    }
  }
  return Status::Ok();
}

// Checks an expression and points its columns at the scan. `params` are the parameters of the
// lambdas around it, in lower case.
Status QueryChecker::Rewrite(Json& node, const Params& params) {
  const std::string kind = Text(node, "class");
  if (kind == "CONSTANT") {
    return Status::Ok();
  }
  if (kind == "COLUMN_REF") {
    return RewriteColumn(node, params);
  }
  if (kind == "FUNCTION") {
    return RewriteFunction(node, params);
  }
  if (kind == "SUBQUERY") {
    return Refuse(node, "a subquery is not allowed: join a lookup, or use list functions");
  }
  if (kind == "WINDOW") {
    return Refuse(node, fmt::format("window function {}() is not allowed: it looks at other rows; "
                                    "aggregate in another stream that reads this one",
                                    Text(node, "function_name")));
  }
  if (kind == "STAR") {
    return Refuse(node, "* inside of an expression is not allowed: name the columns");
  }
  if (kind == "PARAMETER" || kind == "POSITIONAL_REFERENCE" || kind == "DEFAULT") {
    return Refuse(node,
                  "parameters such as $1, #1 and DEFAULT have no value here: write the value "
                  "or the column into the sql");
  }
  static constexpr std::string_view kFine[] = {"BETWEEN",    "CASE",        "CAST",   "COLLATE",
                                               "COMPARISON", "CONJUNCTION", "LAMBDA", "OPERATOR"};
  if (std::ranges::find(kFine, kind) == std::end(kFine)) {
    return Refuse(node, fmt::format("an expression of kind {} is not allowed: write it with scalar "
                                    "functions, CASE and casts",
                                    ToLower(kind)));
  }
  return RewriteAll(node, params);
}

Status QueryChecker::RewriteColumn(Json& node, const Params& params) {
  const Json& names = Get(node, "column_names");
  if (!names.empty() && names[0].is_string() &&
      params.contains(ToLower(names[0].get<std::string>()))) {
    return Status::Ok();
  }
  MR_ASSIGN_OR_RETURN(const Resolved resolved, Resolve(node));
  if (resolved.kind == Resolved::kColumn) {
    PointAt(node, resolved.source);
  } else if (resolved.kind == Resolved::kAlias && query_.items[resolved.item].is_plain) {
    PointAt(node, query_.items[resolved.item].source);
  }
  return Status::Ok();
}

Status QueryChecker::RewriteFunction(Json& node, const Params& params) {
  const std::string name = Text(node, "function_name");
  Json& children = node["children"];
  if (const std::string refusal = RefusalOfFunction(name, children.size()); !refusal.empty()) {
    return Refuse(node, refusal);
  }
  if (!Get(node, "filter").is_null() || Flag(node, "distinct") ||
      !Get(Get(node, "order_bys"), "orders").empty()) {
    return Refuse(node,
                  fmt::format("DISTINCT, ORDER BY and FILTER belong to aggregates, and {}() is "
                              "none: remove them",
                              name));
  }
  for (size_t i = 0; i < children.size(); ++i) {
    Json& child = children[i];
    if (i == 1 && Text(child, "class") == "LAMBDA" && TakesLambda(name)) {
      Params inner = params;
      for (const std::string& param : LambdaParams(Get(child, "lhs"))) {
        inner.insert(ToLower(param));
      }
      MR_RETURN_IF_ERROR(Rewrite(child["expr"], inner));
    } else {
      MR_RETURN_IF_ERROR(Rewrite(child, params));
    }
  }
  return Status::Ok();
}

}  // namespace millrace::sql
