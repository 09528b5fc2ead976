// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/query_check.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "millrace/sql/query_functions.h"
#include "millrace/sql/query_tree.h"

namespace millrace::sql {
namespace {

constexpr std::string_view kCommitTs = "_commit_ts";

// Names that SQL reads as functions where there is no such column.
constexpr std::string_view kValueFunctions[] = {
    "current_catalog", "current_date",      "current_role", "current_schema",
    "current_time",    "current_timestamp", "current_user", "localtime",
    "localtimestamp",  "session_user",      "user"};

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

using Params = std::set<std::string>;

class Checker {
 public:
  Checker(std::string_view sql, Input driving, std::vector<Input> lookups)
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

Result<CheckedQuery> Checker::Check(std::string_view tree) {
  MR_RETURN_IF_ERROR(CheckInputs());
  MR_ASSIGN_OR_RETURN(Json select, TakeSelect(tree));
  MR_RETURN_IF_ERROR(CheckSelectNode(select));
  query_.joins.resize(lookups_.size());
  MR_RETURN_IF_ERROR(AddFrom(select["from_table"]));
  for (const Input& lookup : lookups_) {
    const bool joined = std::ranges::any_of(
        relations_, [&lookup](const Relation& r) { return r.input == &lookup; });
    if (!joined) {
      return InvalidArgument(fmt::format(
          "lookup '{0}' is not joined: write LEFT JOIN {0} ON <its key> = <a driving column>, or "
          "take it out of `lookup`",
          lookup.FullName()));
    }
  }
  for (Json& node : select["select_list"]) {
    MR_RETURN_IF_ERROR(AddItem(std::move(node)));
  }
  if (Json& where = select["where_clause"]; !where.is_null()) {
    MR_RETURN_IF_ERROR(Rewrite(where, {}));
    query_.where = where.dump();
  }
  return std::move(query_);
}

Status Checker::CheckInputs() const {
  const auto check = [](const Input& input) {
    if (input.columns == nullptr) {
      return Status::Ok();
    }
    std::map<std::string, std::string> seen;
    for (const Field& field : *input.columns) {
      const auto [other, is_new] = seen.emplace(ToLower(field.name), field.name);
      if (!is_new) {
        return InvalidArgument(fmt::format(
            "columns '{}' and '{}' of {} differ in case only, which SQL over a stream cannot tell "
            "apart: rename one of them, or mirror the relation without sql",
            other->second, field.name, input.FullName()));
      }
    }
    return Status::Ok();
  };
  MR_RETURN_IF_ERROR(check(driving_));
  for (const Input& lookup : lookups_) {
    MR_RETURN_IF_ERROR(check(lookup));
  }
  return Status::Ok();
}

Result<Json> Checker::TakeSelect(std::string_view tree) const {
  Json root = Json::parse(tree, nullptr, false);
  if (root.is_discarded()) {
    return Internal("read the syntax tree of a query: it is not JSON");
  }
  if (Flag(root, "error")) {
    if (Text(root, "error_type") == "not implemented") {
      return InvalidArgument(
          "a stream's sql is one SELECT: COPY, SET, ATTACH and other statements are not allowed");
    }
    return InvalidArgument(PositionOfError(sql_, root) + "SQL " + Text(root, "error_message"));
  }
  Json& statements = root["statements"];
  if (statements.size() != 1) {
    return InvalidArgument(fmt::format(
        "a stream's sql is one SELECT statement, and this has {}: {}", statements.size(),
        statements.empty() ? "write one, or leave `sql` out to mirror the table"
                           : "make a stream of each"));
  }
  if (!Get(statements[0], "named_param_map").empty()) {
    return InvalidArgument(
        "parameters such as $1 have no value here: write the value into the sql");
  }
  return std::move(statements[0]["node"]);
}

Status Checker::CheckSelectNode(const Json& select) const {
  const std::string type = Text(select, "type");
  if (type == "SET_OPERATION_NODE") {
    return InvalidArgument(
        "UNION, INTERSECT and EXCEPT are not allowed: make a stream of each SELECT");
  }
  if (!Get(Get(select, "cte_map"), "map").empty() || type != "SELECT_NODE") {
    return InvalidArgument(
        "WITH is not allowed: write one SELECT over the driving relation, or make a stream of the "
        "inner query and read it with `from`");
  }
  for (const Json& modifier : Get(select, "modifiers")) {
    const std::string kind = Text(modifier, "type");
    if (kind == "ORDER_MODIFIER") {
      return InvalidArgument("ORDER BY is not allowed: rows leave in commit order; remove it");
    }
    if (kind == "DISTINCT_MODIFIER") {
      return InvalidArgument(
          "DISTINCT is not allowed: each row is computed by itself; give the stream a `key`, and "
          "the newest row of a key stays");
    }
    return InvalidArgument("LIMIT and OFFSET are not allowed: say with WHERE which rows to keep");
  }
  if (!Get(select, "group_expressions").empty() || !Get(select, "having").is_null() ||
      Text(select, "aggregate_handling") == "FORCE_AGGREGATES") {
    return InvalidArgument(
        "GROUP BY and HAVING are not allowed in a query that gives one row for each driving row: "
        "aggregate in another stream that reads this one");
  }
  if (!Get(select, "qualify").is_null()) {
    return InvalidArgument("QUALIFY is not allowed: it looks at other rows; use WHERE");
  }
  if (!Get(select, "sample").is_null()) {
    return InvalidArgument(
        "USING SAMPLE is not deterministic: choose rows with WHERE, by hash of the key");
  }
  return Status::Ok();
}

// --- FROM and JOIN -------------------------------------------------------------------------------

Status Checker::AddFrom(const Json& from) {
  if (Text(from, "type") == "JOIN") {
    MR_RETURN_IF_ERROR(CheckJoinForm(from));
    MR_RETURN_IF_ERROR(AddFrom(Get(from, "left")));
    return AddJoin(from);
  }
  return AddBaseTable(from, true);
}

Status Checker::CheckJoinForm(const Json& join) const {
  const std::string form = Text(join, "ref_type");
  const std::string type = Text(join, "join_type");
  const std::string remedy =
      "write INNER JOIN or LEFT JOIN <lookup> ON <its key> = <a driving column>";
  if (form == "CROSS") {
    return Refuse(join, "a comma or CROSS JOIN gives every pair of rows: " + remedy);
  }
  if (form != "REGULAR") {
    return Refuse(join, fmt::format("{} JOIN is not allowed: {}", form, remedy));
  }
  if (type != "INNER" && type != "LEFT") {
    return Refuse(join, fmt::format("{} JOIN is not allowed: {}", type, remedy));
  }
  if (!Get(join, "using_columns").empty()) {
    return Refuse(join, "JOIN ... USING is not allowed: " + remedy);
  }
  return Status::Ok();
}

Status Checker::AddBaseTable(const Json& table, bool is_driving) {
  const std::string type = Text(table, "type");
  if (type == "EMPTY") {
    return InvalidArgument(fmt::format("there is no FROM: write FROM {}", driving_.FullName()));
  }
  if (type != "BASE_TABLE") {
    const std::string what = type == "SUBQUERY"          ? "a subquery"
                             : type == "TABLE_FUNCTION"  ? "a table function"
                             : type == "EXPRESSION_LIST" ? "VALUES"
                             : type == "JOIN"            ? "a join in parentheses"
                                                         : ToLower(type);
    return Refuse(table, fmt::format("{} in FROM is not allowed: read {} and join lookups by key",
                                     what, driving_.FullName()));
  }
  if (!Get(table, "sample").is_null() || !Get(table, "at_clause").is_null() ||
      !Get(table, "column_name_alias").empty()) {
    return Refuse(table,
                  "TABLESAMPLE, AT and column lists behind a relation are not allowed: name "
                  "the relation, with an alias if need be");
  }
  const std::string schema = Text(table, "schema_name");
  const std::string name = Text(table, "table_name");
  const auto matches = [&](const Input& input, bool exact) {
    if (!Text(table, "catalog_name").empty()) {
      return false;
    }
    return exact ? input.name == name && (schema.empty() || input.schema == schema)
                 : ToLower(input.name) == ToLower(name) &&
                       (schema.empty() || ToLower(input.schema) == ToLower(schema));
  };
  std::vector<Relation> found;
  for (const bool exact : {true, false}) {
    if (!found.empty()) {
      break;
    }
    if (matches(driving_, exact)) {
      found.push_back({.lookup = ColumnSource::kDriving, .input = &driving_});
    }
    for (size_t i = 0; i < lookups_.size(); ++i) {
      if (matches(lookups_[i], exact)) {
        found.push_back({.lookup = static_cast<int>(i), .input = &lookups_[i]});
      }
    }
  }
  const std::string written = schema.empty() ? name : schema + "." + name;
  if (found.empty()) {
    return Refuse(table, fmt::format("relation '{}' is neither the driving relation {} nor one of "
                                     "the lookups: name it in `from` or in `lookup`",
                                     written, driving_.FullName()));
  }
  // A relation may drive the query and be looked up in it; position tells which is meant.
  if (found.size() > 1) {
    std::erase_if(found, [&](const Relation& r) { return (r.lookup < 0) != is_driving; });
  }
  if (found.size() != 1) {
    return Refuse(table,
                  fmt::format("'{}' names several relations: write it with its schema", written));
  }
  Relation relation = found.front();
  if (is_driving != (relation.lookup < 0)) {
    return Refuse(table,
                  is_driving
                      ? fmt::format("FROM begins with the lookup '{}': begin with the driving "
                                    "relation {} and join the lookup to it",
                                    written, driving_.FullName())
                      : fmt::format("the driving relation '{}' occurs twice: to join it to itself, "
                                    "name it in `lookup` too",
                                    written));
  }
  relation.alias = Text(table, "alias");
  relation.has_alias = !relation.alias.empty();
  if (!relation.has_alias) {
    relation.alias = name;
  }
  if (FindRelation(relation.alias) != nullptr) {
    return Refuse(table,
                  fmt::format("two relations are called '{}': give one another alias with AS",
                              relation.alias));
  }
  for (const Relation& other : relations_) {
    if (other.input == relation.input) {
      return Refuse(table,
                    fmt::format("lookup '{}' is joined twice: join it once, and make a second "
                                "stream for the other key",
                                written));
    }
  }
  relations_.push_back(std::move(relation));
  return Status::Ok();
}

Status Checker::AddJoin(const Json& join) {
  MR_RETURN_IF_ERROR(AddBaseTable(Get(join, "right"), false));
  return AddCondition(Get(join, "condition"), relations_.back(),
                      Text(join, "join_type") == "INNER");
}

Status Checker::AddCondition(const Json& condition, const Relation& relation, bool inner) {
  std::vector<const Json*> open = {&condition};
  LookupJoin on;
  while (!open.empty()) {
    const Json& node = *open.back();
    open.pop_back();
    if (Text(node, "type") == "CONJUNCTION_AND") {
      const Json& children = Get(node, "children");
      for (auto child = children.rbegin(); child != children.rend(); ++child) {
        open.push_back(&*child);
      }
      continue;
    }
    MR_ASSIGN_OR_RETURN(const auto pair, Equality(node, relation));
    if (!knows_columns()) {
      continue;
    }
    const auto column = static_cast<uint32_t>(pair.first.column);
    if (std::ranges::find(on.lookup_columns, column) != on.lookup_columns.end()) {
      return Refuse(node, fmt::format("{} is compared twice in ON: keep one of them, and put the "
                                      "other into WHERE",
                                      NameOf(pair.first)));
    }
    on.lookup_columns.push_back(column);
    on.driving_columns.push_back(static_cast<uint32_t>(pair.second.column));
  }
  if (knows_columns()) {
    MR_RETURN_IF_ERROR(MatchKey(condition, relation, &on));
    MR_RETURN_IF_ERROR(CheckKeyTypes(condition, relation, on));
  }
  query_.joins[static_cast<size_t>(relation.lookup)] = {.on = std::move(on), .inner = inner};
  return Status::Ok();
}

// The lookup's column and the driving column of `lookup.col = driving.col`. Where columns are
// unknown only the form is looked at.
Result<std::pair<ColumnSource, ColumnSource>> Checker::Equality(const Json& comparison,
                                                                const Relation& relation) const {
  const std::string remedy = fmt::format(
      "ON joins '{}' by equalities of its key columns with columns of {} only: put other "
      "conditions into WHERE or CASE",
      relation.alias, driving_.FullName());
  const Json& left = Get(comparison, "left");
  const Json& right = Get(comparison, "right");
  if (Text(comparison, "type") != "COMPARE_EQUAL" || Text(left, "class") != "COLUMN_REF" ||
      Text(right, "class") != "COLUMN_REF") {
    return Refuse(comparison, remedy);
  }
  MR_ASSIGN_OR_RETURN(Resolved a, Resolve(left));
  MR_ASSIGN_OR_RETURN(Resolved b, Resolve(right));
  if (!knows_columns()) {
    // Qualified names tell their relation all the same.
    const auto side = [this](const Json& node) -> const Relation* {
      const Json& names = Get(node, "column_names");
      return names.size() < 2 ? nullptr : FindRelation(names[names.size() - 2].get<std::string>());
    };
    const Relation* l = side(left);
    const Relation* r = side(right);
    const bool same = l != nullptr && l == r;
    const bool other = (l != nullptr && l != &relation && l->lookup >= 0) ||
                       (r != nullptr && r != &relation && r->lookup >= 0);
    if (same || other) {
      return Refuse(comparison, remedy);
    }
    return std::pair<ColumnSource, ColumnSource>();
  }
  if (b.source.lookup == relation.lookup) {
    std::swap(a, b);
  }
  if (a.kind != Resolved::kColumn || b.kind != Resolved::kColumn ||
      a.source.lookup != relation.lookup || b.source.lookup != ColumnSource::kDriving ||
      b.source.column < 0) {
    return Refuse(comparison, remedy);
  }
  return std::pair(a.source, b.source);
}

// Puts the columns of `on` into the order of the key that they are.
Status Checker::MatchKey(const Json& node, const Relation& relation, LookupJoin* on) const {
  std::string keys;
  for (const std::vector<uint32_t>& key : *relation.input->keys) {
    LookupJoin ordered;
    std::string names;
    for (const uint32_t column : key) {
      names += (names.empty() ? "" : ", ") + (*relation.input->columns)[column].name;
      const auto at = std::ranges::find(on->lookup_columns, column);
      if (at != on->lookup_columns.end()) {
        ordered.lookup_columns.push_back(column);
        ordered.driving_columns.push_back(
            on->driving_columns[static_cast<size_t>(at - on->lookup_columns.begin())]);
      }
    }
    if (ordered.lookup_columns.size() == key.size() && key.size() == on->lookup_columns.size()) {
      *on = std::move(ordered);
      return Status::Ok();
    }
    keys += (keys.empty() ? "(" : " or (") + names + ")";
  }
  return Refuse(node,
                keys.empty()
                    ? fmt::format("lookup '{}' has no key to join by: give the table a primary "
                                  "key or a unique index over columns that are not null",
                                  relation.input->FullName())
                    : fmt::format("ON does not compare exactly a key of lookup '{}': compare {}",
                                  relation.input->FullName(), keys));
}

// A key is found by its bytes, so that the types of both sides are the same.
Status Checker::CheckKeyTypes(const Json& node, const Relation& relation,
                              const LookupJoin& on) const {
  const auto is_text = [](const DataType& type) {
    return type.kind == TypeKind::kText || type.kind == TypeKind::kEnum;
  };
  for (size_t i = 0; i < on.lookup_columns.size(); ++i) {
    const Field& mine = (*relation.input->columns)[on.lookup_columns[i]];
    const Field& other = (*driving_.columns)[on.driving_columns[i]];
    if (mine.type != other.type && !(is_text(mine.type) && is_text(other.type))) {
      return Refuse(node,
                    fmt::format("ON compares {}.{} ({}) with {}.{} ({}): give both columns one "
                                "type in the source",
                                relation.input->FullName(), mine.name, mine.type.ToString(),
                                driving_.FullName(), other.name, other.type.ToString()));
    }
    switch (mine.type.kind) {
      case TypeKind::kFloat32:
      case TypeKind::kFloat64:
      case TypeKind::kInterval:
      case TypeKind::kJson:
      case TypeKind::kList:
        return Refuse(node,
                      fmt::format("ON compares {}.{}, whose type {} is no key: join by another "
                                  "key of the lookup",
                                  relation.input->FullName(), mine.name, mine.type.ToString()));
      default:
        break;
    }
  }
  return Status::Ok();
}

// --- columns -------------------------------------------------------------------------------------

const Relation* Checker::FindRelation(std::string_view alias) const {
  for (const Relation& relation : relations_) {
    if (ToLower(relation.alias) == ToLower(alias)) {
      return &relation;
    }
  }
  return nullptr;
}

std::optional<int> Checker::FindColumn(const Relation& relation, std::string_view name) {
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

const Relation& Checker::RelationOf(ColumnSource source) const {
  return *std::ranges::find(relations_, source.lookup, &Relation::lookup);
}

std::string Checker::NameOf(ColumnSource source) const {
  const Relation& relation = RelationOf(source);
  return relation.alias + "." +
         (source.column < 0 ? std::string(kCommitTs)
                            : (*relation.input->columns)[static_cast<size_t>(source.column)].name);
}

Result<Resolved> Checker::ResolveName(const Json& node, const std::string& name) const {
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

Result<Resolved> Checker::Resolve(const Json& node) const {
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
void Checker::PointAt(Json& node, ColumnSource source) {
  auto at = std::ranges::find(query_.scan, source, &ScanColumn::source);
  if (at == query_.scan.end()) {
    query_.scan.push_back({source, fmt::format("{}#{}", NameOf(source), query_.scan.size())});
    at = query_.scan.end() - 1;
  }
  node["column_names"] = {std::string(kScanRelation), at->name};
}

// --- expressions ---------------------------------------------------------------------------------

void Checker::AddPlain(std::string name, ColumnSource source, bool has_alias) {
  if (has_alias) {
    aliases_.emplace(ToLower(name), query_.items.size());
  }
  query_.items.push_back(
      {.name = std::move(name), .is_plain = true, .source = source, .has_alias = has_alias});
}

Status Checker::AddItem(Json node) {
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
Status Checker::AddStar(const Json& star) {
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

Status Checker::RewriteAll(Json& container, const Params& params) {
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
Status Checker::Rewrite(Json& node, const Params& params) {
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

Status Checker::RewriteColumn(Json& node, const Params& params) {
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

Status Checker::RewriteFunction(Json& node, const Params& params) {
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

Input MakeInput(const QueryInput& input) {
  return {.schema = input.schema,
          .name = input.name,
          .columns = input.columns.get(),
          .keys = &input.keys};
}

// `public.content`, `"My schema".t`, `stream`.
Input MakeInput(std::string_view written) {
  Input input;
  std::string* part = &input.name;
  bool quoted = false;
  for (const char c : written) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == '.' && !quoted && part == &input.name && input.schema.empty()) {
      input.schema = std::move(input.name);
      input.name.clear();
    } else {
      *part += c;
    }
  }
  return input;
}

Status CheckLength(std::string_view sql) {
  if (sql.size() > kMaxSqlBytes) {
    return InvalidArgument(
        fmt::format("a stream's sql has {} bytes, and at most {} are read: make "
                    "several streams of it",
                    sql.size(), kMaxSqlBytes));
  }
  return Status::Ok();
}

}  // namespace

Result<CheckedQuery> CheckQuery(const QuerySpec& spec, std::string_view tree) {
  MR_RETURN_IF_ERROR(CheckLength(spec.sql));
  std::vector<Input> lookups;
  for (const QueryInput& lookup : spec.lookups) {
    lookups.push_back(MakeInput(lookup));
  }
  return Checker(spec.sql, MakeInput(spec.driving), std::move(lookups)).Check(tree);
}

Status CheckQueryShape(std::string_view sql, std::string_view tree, const std::string& driving,
                       const std::vector<std::string>& lookups) {
  MR_RETURN_IF_ERROR(CheckLength(sql));
  std::vector<Input> inputs;
  for (const std::string& lookup : lookups) {
    inputs.push_back(MakeInput(lookup));
  }
  return Checker(sql, MakeInput(driving), std::move(inputs)).Check(tree).status();
}

}  // namespace millrace::sql
