// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/query_check.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "millrace/sql/query_checker.h"
#include "millrace/sql/query_functions.h"

namespace millrace::sql {

namespace {

// As the query has it.
std::string WrittenName(const Json& table) {
  const std::string schema = Text(table, "schema_name");
  const std::string name = Text(table, "table_name");
  return schema.empty() ? name : schema + "." + name;
}

}  // namespace

Result<CheckedQuery> QueryChecker::Check(std::string_view tree) {
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

Status QueryChecker::CheckInputs() const {
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

Result<Json> QueryChecker::TakeSelect(std::string_view tree) const {
  Json root = Json::parse(tree, nullptr, false);
  if (root.is_discarded()) {
    return Internal("read the syntax tree of a query: it is not JSON");
  }
  if (Flag(root, "error")) {
    if (Text(root, "error_type") == "not implemented") {  // tidy-ok: word, DuckDB's
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

Status QueryChecker::CheckSelectNode(const Json& select) const {
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

Status QueryChecker::AddFrom(const Json& from) {
  if (Text(from, "type") == "JOIN") {
    MR_RETURN_IF_ERROR(CheckJoinForm(from));
    MR_RETURN_IF_ERROR(AddFrom(Get(from, "left")));
    return AddJoin(from);
  }
  return AddBaseTable(from, true);
}

Status QueryChecker::CheckJoinForm(const Json& join) const {
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

// The input that a relation of FROM names, without its alias.
Result<Relation> QueryChecker::FindInput(const Json& table, bool is_driving) const {
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
  const std::string written = WrittenName(table);
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
  const Relation& relation = found.front();
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
  return relation;
}

Status QueryChecker::AddBaseTable(const Json& table, bool is_driving) {
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
  MR_ASSIGN_OR_RETURN(Relation relation, FindInput(table, is_driving));
  relation.alias = Text(table, "alias");
  relation.has_alias = !relation.alias.empty();
  if (!relation.has_alias) {
    relation.alias = Text(table, "table_name");
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
                                WrittenName(table)));
    }
  }
  relations_.push_back(std::move(relation));
  return Status::Ok();
}

Status QueryChecker::AddJoin(const Json& join) {
  MR_RETURN_IF_ERROR(AddBaseTable(Get(join, "right"), false));
  return AddCondition(Get(join, "condition"), relations_.back(),
                      Text(join, "join_type") == "INNER");
}

Status QueryChecker::AddCondition(const Json& condition, const Relation& relation, bool inner) {
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
Result<std::pair<ColumnSource, ColumnSource>> QueryChecker::Equality(
    const Json& comparison, const Relation& relation) const {
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
Status QueryChecker::MatchKey(const Json& node, const Relation& relation, LookupJoin* on) const {
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

// A key is found by its bytes, which are the same for integers of all widths, and for texts.
Status QueryChecker::CheckKeyTypes(const Json& node, const Relation& relation,
                                   const LookupJoin& on) const {
  const auto is_text = [](const DataType& type) {
    return type.kind == TypeKind::kText || type.kind == TypeKind::kEnum;
  };
  const auto is_integer = [](const DataType& type) {
    return type.kind >= TypeKind::kInt8 && type.kind <= TypeKind::kInt64;
  };
  for (size_t i = 0; i < on.lookup_columns.size(); ++i) {
    const Field& mine = (*relation.input->columns)[on.lookup_columns[i]];
    const Field& other = (*driving_.columns)[on.driving_columns[i]];
    if (mine.type != other.type && !(is_text(mine.type) && is_text(other.type)) &&
        !(is_integer(mine.type) && is_integer(other.type))) {
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

namespace {

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
  return QueryChecker(spec.sql, MakeInput(spec.driving), std::move(lookups)).Check(tree);
}

Status CheckQueryShape(std::string_view sql, std::string_view tree, const std::string& driving,
                       const std::vector<std::string>& lookups) {
  MR_RETURN_IF_ERROR(CheckLength(sql));
  std::vector<Input> inputs;
  for (const std::string& lookup : lookups) {
    inputs.push_back(MakeInput(lookup));
  }
  return QueryChecker(sql, MakeInput(driving), std::move(inputs)).Check(tree).status();
}

}  // namespace millrace::sql
