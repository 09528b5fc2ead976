// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_schema.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/sinks/clickhouse/value_range.h"

namespace millrace::sinks::clickhouse {

namespace {

std::string Quote(std::string_view text, char quote) {
  std::string quoted(1, quote);
  for (const char c : text) {
    if (c == '\0') {
      quoted += "\\0";
      continue;
    }
    if (c == '\\' || c == quote) {
      quoted += '\\';
    }
    quoted += c;
  }
  quoted += quote;
  return quoted;
}

std::string DecimalType(const DataType& type) {
  return fmt::format("Decimal({}, {})", type.precision, type.scale);
}

// The type of a value, without Nullable around it.
std::string ValueType(const DataType& type, std::string_view naive_zone) {
  switch (type.kind) {
    case TypeKind::kBool:
      return "Bool";
    case TypeKind::kInt8:
      return "Int8";
    case TypeKind::kInt16:
      return "Int16";
    case TypeKind::kInt32:
      return "Int32";
    case TypeKind::kInt64:
      return "Int64";
    case TypeKind::kInt128:
      return "Int128";
    case TypeKind::kUInt8:
      return "UInt8";
    case TypeKind::kUInt16:
      return "UInt16";
    case TypeKind::kUInt32:
      return "UInt32";
    case TypeKind::kUInt64:
      return "UInt64";
    case TypeKind::kUInt128:
      return "UInt128";
    case TypeKind::kFloat32:
      return "Float32";
    case TypeKind::kFloat64:
      return "Float64";
    case TypeKind::kDecimal:
      return DecimalType(type);
    case TypeKind::kDate:
      return "Date32";
    case TypeKind::kTimestamp:
      return naive_zone.empty() ? "DateTime64(6)" : fmt::format("DateTime64(6, '{}')", naive_zone);
    case TypeKind::kTimestampTz:
      return "DateTime64(6, 'UTC')";
    case TypeKind::kUuid:
      return "UUID";
    case TypeKind::kTime:
    case TypeKind::kInterval:
    case TypeKind::kText:
    case TypeKind::kEnum:
    case TypeKind::kJson:
    case TypeKind::kBytes:
    case TypeKind::kList:
      return "String";
  }
  return "String";
}

bool IsNameChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

std::string WithoutSpaces(std::string_view text) {
  std::string left;
  for (const char c : text) {
    if (c != ' ' && c != '`') {
      left += c;
    }
  }
  return left;
}

// The inside of `Wrapper(...)`; nothing if `type` is not of that form.
std::string_view Unwrap(std::string_view type, std::string_view wrapper) {
  if (type.size() > wrapper.size() + 2 && type.starts_with(wrapper) && type.back() == ')' &&
      type[wrapper.size()] == '(') {
    return type.substr(wrapper.size() + 1, type.size() - wrapper.size() - 2);
  }
  return {};
}

std::string EngineName(std::string_view engine) {
  return std::string(engine.substr(0, engine.find('(')));
}

// `SharedReplacingMergeTree` and `ReplicatedReplacingMergeTree` behave as `ReplacingMergeTree`.
std::string_view BaseEngine(std::string_view name) {
  for (const std::string_view prefix : {"Replicated", "Shared"}) {
    if (name.starts_with(prefix)) {
      name.remove_prefix(prefix.size());
    }
  }
  return name;
}

// The present name of the column that the configuration calls `column`.
Result<std::string> FindColumnName(const Stream& stream, const std::string& column,
                                   std::string_view field) {
  const int found = stream.FindColumn(column);
  if (found >= 0) {
    return (*stream.columns)[static_cast<size_t>(found)].name;
  }
  return InvalidArgument(fmt::format(
      "{} names the column '{}', which the stream '{}' does not have", field, column, stream.name));
}

Status CheckOrderBy(const TableNeed& need) {
  const Stream& stream = *need.stream;
  if (!need.is_mutable()) {
    return Status::Ok();
  }
  const auto in_order_by = [&](const std::string& column) {
    return std::find(need.order_by.begin(), need.order_by.end(), column) != need.order_by.end();
  };
  for (const uint32_t key : stream.key) {
    const std::string& column = (*stream.columns)[key].name;
    if (!in_order_by(column)) {
      return InvalidArgument(fmt::format(
          "order_by lacks the key column '{}' of the stream '{}': rows of different keys "
          "would be merged into one; add it at the end of order_by",
          column, stream.name));
    }
  }
  for (const std::string& column : ExpressionColumns(need.partition_by)) {
    if (stream.FindColumn(column) >= 0 && !in_order_by(column)) {
      return InvalidArgument(
          fmt::format("partition_by uses the column '{}', which is not in order_by: a row whose "
                      "partition changes would stay in the old one; add it to order_by",
                      column));
    }
  }
  return Status::Ok();
}

std::string DefaultEngine(const TableNeed& need, const std::string& engine) {
  if (!need.is_mutable()) {
    return engine.empty() ? "MergeTree" : engine;
  }
  if (engine.empty()) {
    return "ReplacingMergeTree(_version, _deleted)";
  }
  return engine.find('(') == std::string::npos ? engine + "(_version, _deleted)" : engine;
}

Status CheckTableEngine(const TableNeed& need, const TableFacts& facts) {
  const std::string wanted(BaseEngine(EngineName(need.engine)));
  const std::string remedy = fmt::format(
      "rename or drop {} and let Millrace create it, or name another table", need.QualifiedName());
  if (BaseEngine(facts.engine) != wanted) {
    return FailedPrecondition(
        fmt::format("table {} has the engine {}, the stream '{}' needs {}; {}",
                    need.QualifiedName(), facts.engine, need.stream->name, need.engine, remedy));
  }
  if (!need.is_mutable()) {
    return Status::Ok();
  }
  if (WithoutSpaces(facts.engine_full).find("_version,_deleted)") == std::string::npos) {
    return FailedPrecondition(fmt::format(
        "table {} has the engine {} without the arguments (_version, _deleted), so that deletes "
        "would not show; {}",
        need.QualifiedName(), facts.engine, remedy));
  }
  // The server may show one pair of brackets around the key.
  std::string order_by;
  for (const std::string& column : need.order_by) {
    order_by += (order_by.empty() ? "" : ",") + WithoutSpaces(QuoteIdentifier(column));
  }
  const std::string sorting_key = WithoutSpaces(facts.sorting_key);
  if (sorting_key != order_by && sorting_key != "(" + order_by + ")") {
    return FailedPrecondition(fmt::format(
        "table {} is sorted by ({}), the sink's order_by is ({}): set order_by to the table's, or "
        "{}",
        need.QualifiedName(), facts.sorting_key, fmt::join(need.order_by, ", "), remedy));
  }
  for (const auto& [name, column] : facts.columns) {
    if (column.is_in_partition_key &&
        std::find(need.order_by.begin(), need.order_by.end(), name) == need.order_by.end()) {
      return FailedPrecondition(fmt::format(
          "table {} is partitioned by the column '{}', which is not in its sorting key: a "
          "row whose partition changes would stay in the old one; {}",
          need.QualifiedName(), name, remedy));
    }
  }
  return Status::Ok();
}

Status CheckTableColumns(const TableNeed& need, const TableFacts& facts) {
  for (const ColumnNeed& column : need.columns) {
    const auto found = facts.columns.find(column.name);
    if (found == facts.columns.end()) {
      return FailedPrecondition(
          fmt::format("table {} lacks the column '{}'; run: ALTER TABLE {} ADD COLUMN {} {}",
                      need.QualifiedName(), column.name, need.QualifiedName(),
                      QuoteIdentifier(column.name), column.type));
    }
    if (found->second.default_kind == "MATERIALIZED" || found->second.default_kind == "ALIAS") {
      return FailedPrecondition(fmt::format(
          "column '{}' of table {} is {} and takes no values; run: ALTER TABLE {} MODIFY "
          "COLUMN {} {}",
          column.name, need.QualifiedName(), found->second.default_kind, need.QualifiedName(),
          QuoteIdentifier(column.name), column.type));
    }
    if (!TypeHolds(found->second.type, column.type, column.is_instant)) {
      return FailedPrecondition(fmt::format(
          "column '{}' of table {} has the type {}, the stream '{}' needs {}; run: ALTER TABLE {} "
          "MODIFY COLUMN {} {}",
          column.name, need.QualifiedName(), found->second.type, need.stream->name, column.type,
          need.QualifiedName(), QuoteIdentifier(column.name), column.type));
    }
  }
  return Status::Ok();
}

}  // namespace

bool IsSameType(std::string_view a, std::string_view b) {
  return WithoutSpaces(a) == WithoutSpaces(b);
}

bool TypeHolds(std::string have, std::string need, bool is_instant) {
  have = WithoutSpaces(have);
  need = WithoutSpaces(need);
  const auto strip = [](std::string& type) {
    if (const std::string_view inner = Unwrap(type, "LowCardinality"); !inner.empty()) {
      type = std::string(inner);
    }
    const std::string_view inner = Unwrap(type, "Nullable");
    const bool nullable = !inner.empty();
    if (nullable) {
      type = std::string(inner);
    }
    return nullable;
  };
  const bool have_nullable = strip(have);
  const bool need_nullable = strip(need);
  if (need_nullable && !have_nullable) {
    return false;
  }
  if (have == need) {
    return true;
  }
  // An instant is the same in every zone; a time without zone is shown as it is in UTC only.
  if (is_instant) {
    return have == "DateTime64(6)" || have.starts_with("DateTime64(6,");
  }
  return need == "DateTime64(6)" && have == "DateTime64(6,'UTC')";
}

std::string QuoteIdentifier(std::string_view name) { return Quote(name, '`'); }
std::string QuoteString(std::string_view text) { return Quote(text, '\''); }

std::string ColumnType(const DataType& type, bool nullable, bool as_string,
                       std::string_view naive_zone) {
  if (as_string) {
    return nullable ? "Nullable(String)" : "String";
  }
  if (type.is_list()) {
    // There is no NULL array: NULL becomes [].
    return fmt::format("Array(Nullable({}))", ValueType(*type.element, naive_zone));
  }
  std::string value = ValueType(type, naive_zone);
  if (nullable) {
    value = fmt::format("Nullable({})", value);
  }
  return type.kind == TypeKind::kEnum ? fmt::format("LowCardinality({})", value) : value;
}

std::string TableNeed::QualifiedName() const {
  return QuoteIdentifier(database) + "." + QuoteIdentifier(table);
}

Result<TableNeed> MakeTableNeed(const TableOptions& options, const std::string& database,
                                StreamPtr stream, std::string_view naive_zone) {
  TableNeed need;
  need.database = database;
  need.table = options.table;
  need.stream = std::move(stream);
  need.partition_by = options.partition_by;
  need.naive_zone = naive_zone;
  for (const std::string& column : options.as_string) {
    MR_ASSIGN_OR_RETURN(std::string name, FindColumnName(*need.stream, column, "as"));
    need.as_string.insert(std::move(name));
  }
  if (options.order_by.has_value()) {
    for (const std::string& column : *options.order_by) {
      MR_ASSIGN_OR_RETURN(std::string name, FindColumnName(*need.stream, column, "order_by"));
      need.order_by.push_back(std::move(name));
    }
  } else {
    for (const uint32_t key : need.stream->key) {
      need.order_by.push_back((*need.stream->columns)[key].name);
    }
  }
  MR_RETURN_IF_ERROR(CheckEngine(options.engine, need.is_mutable()));
  MR_RETURN_IF_ERROR(CheckExpression(options.partition_by).WithContext("partition_by"));
  MR_RETURN_IF_ERROR(CheckOrderBy(need));
  need.engine = DefaultEngine(need, options.engine);
  for (size_t i = 0; i < need.stream->columns->size(); ++i) {
    const Field& field = (*need.stream->columns)[i];
    if (field.name == kVersionColumn || field.name == kCommitTimeColumn ||
        field.name == kDeletedColumn) {
      return InvalidArgument(
          fmt::format("the stream '{}' has a column '{}', a name that Millrace needs; give it "
                      "another one in sql",
                      need.stream->name, field.name));
    }
    const bool as_string = need.IsString(field.name);
    const bool nullable =
        field.nullable ||
        (!as_string && ReplacesWithNull(*need.stream, i, need.stream->out_of_range));
    need.columns.push_back({field.name, ColumnType(field.type, nullable, as_string, naive_zone),
                            field.type.kind == TypeKind::kTimestampTz && !as_string});
    if (nullable && (as_string || !field.type.is_list())) {
      need.has_nullable_key =
          need.has_nullable_key ||
          std::find(need.order_by.begin(), need.order_by.end(), field.name) != need.order_by.end();
    }
  }
  need.columns.push_back({std::string(kVersionColumn), "UInt128"});
  need.columns.push_back({std::string(kCommitTimeColumn), "DateTime64(6, 'UTC')", true});
  if (need.is_mutable()) {
    need.columns.push_back({std::string(kDeletedColumn), "UInt8"});
  }
  return need;
}

Status CheckExpression(std::string_view expression) {
  std::string open;
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    const char next = i + 1 < expression.size() ? expression[i + 1] : '\0';
    if (c == '\'' || c == '`' || c == '"') {
      size_t end = i + 1;
      while (end < expression.size() && expression[end] != c) {
        end += expression[end] == '\\' ? 2 : 1;
      }
      if (end >= expression.size()) {
        return InvalidArgument("a quote is not closed");
      }
      i = end;
    } else if (c == '(' || c == '[') {
      open += c == '(' ? ')' : ']';
    } else if (c == ')' || c == ']') {
      if (open.empty() || open.back() != c) {
        return InvalidArgument("a bracket is closed that was not opened");
      }
      open.pop_back();
    } else if (c == ';' || c == '#' || c == '\0' || (c == '-' && next == '-') ||
               (c == '/' && next == '*')) {
      return InvalidArgument("an expression holds no semicolon and no comment");
    }
  }
  return open.empty() ? Status::Ok() : InvalidArgument("a bracket is not closed");
}

Status CheckEngine(std::string_view engine, bool is_mutable) {
  if (engine.empty()) {
    return Status::Ok();
  }
  const std::string name = EngineName(engine);
  const std::string_view arguments = engine.substr(name.size());
  const bool is_one_name = std::all_of(name.begin(), name.end(), IsNameChar);
  if (!is_one_name || !name.ends_with("MergeTree") ||
      (!arguments.empty() && arguments.back() != ')')) {
    return InvalidArgument(
        "engine must be one of the MergeTree family, such as "
        "ReplicatedReplacingMergeTree('/tables/{uuid}', '{replica}', _version, _deleted)");
  }
  MR_RETURN_IF_ERROR(CheckExpression(arguments).WithContext("engine"));
  // One pair of brackets, closed at the end only: nothing can follow the arguments.
  int depth = 0;
  bool is_quoted = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    is_quoted = is_quoted != (arguments[i] == '\'');
    if (is_quoted) {
      continue;
    }
    depth += arguments[i] == '(' ? 1 : arguments[i] == ')' ? -1 : 0;
    if (depth == 0 && i + 1 < arguments.size()) {
      return InvalidArgument("engine must be one name with its arguments");
    }
  }
  const bool is_replacing = BaseEngine(name) == "ReplacingMergeTree";
  if (is_mutable && !is_replacing) {
    return InvalidArgument(
        "a stream with updates and deletes needs an engine out of ReplacingMergeTree; leave engine "
        "out, or make the stream append_only");
  }
  if (is_mutable && !arguments.empty() &&
      WithoutSpaces(arguments).find("_version,_deleted)") == std::string::npos) {
    return InvalidArgument("the arguments of engine must end in _version, _deleted");
  }
  return Status::Ok();
}

std::vector<std::string> ExpressionColumns(std::string_view expression) {
  std::vector<std::string> columns;
  for (size_t i = 0; i < expression.size();) {
    const char c = expression[i];
    if (c == '\'') {
      for (++i; i < expression.size() && expression[i] != '\''; ++i) {
        i += expression[i] == '\\' ? 1 : 0;
      }
      ++i;
    } else if (c == '`' || c == '"') {
      std::string name;
      for (++i; i < expression.size() && expression[i] != c; ++i) {
        i += expression[i] == '\\' && i + 1 < expression.size() ? 1 : 0;
        name += expression[i];
      }
      ++i;
      columns.push_back(std::move(name));
    } else if (IsNameChar(c)) {
      const size_t begin = i;
      while (i < expression.size() && IsNameChar(expression[i])) {
        ++i;
      }
      size_t behind = i;
      while (behind < expression.size() && expression[behind] == ' ') {
        ++behind;
      }
      const bool is_function = behind < expression.size() && expression[behind] == '(';
      if (!is_function && std::isdigit(static_cast<unsigned char>(c)) == 0) {
        columns.emplace_back(expression.substr(begin, i - begin));
      }
    } else {
      ++i;
    }
  }
  return columns;
}

std::string CreateDatabaseSql(std::string_view database) {
  return "CREATE DATABASE IF NOT EXISTS " + QuoteIdentifier(database);
}

std::string CreateTableSql(const TableNeed& need) {
  std::string sql = fmt::format("CREATE TABLE IF NOT EXISTS {} (", need.QualifiedName());
  for (const ColumnNeed& column : need.columns) {
    sql += fmt::format("{} {}, ", QuoteIdentifier(column.name), column.type);
  }
  sql += fmt::format("INDEX millrace_version _version TYPE minmax GRANULARITY 1) ENGINE = {}",
                     need.engine);
  if (!need.partition_by.empty()) {
    sql += fmt::format(" PARTITION BY ({})", need.partition_by);
  }
  std::vector<std::string> order_by;
  for (const std::string& column : need.order_by) {
    order_by.push_back(QuoteIdentifier(column));
  }
  if (order_by.empty()) {
    sql += " ORDER BY tuple()";
  } else if (order_by.size() == 1) {
    sql += " ORDER BY " + order_by.front();
  } else {
    sql += fmt::format(" ORDER BY ({})", fmt::join(order_by, ", "));
  }
  sql += fmt::format(" SETTINGS non_replicated_deduplication_window = {}", kDeduplicationWindow);
  if (need.has_nullable_key) {
    sql += ", allow_nullable_key = 1";
  }
  return sql;
}

bool IsReplicated(std::string_view engine) {
  return engine.starts_with("Replicated") || engine.starts_with("Shared");
}

std::string TableSetting(std::string_view engine_full, const std::string& name,
                         const MergeTreeSettings& defaults) {
  const size_t settings = engine_full.rfind("SETTINGS ");
  if (settings != std::string_view::npos) {
    const std::string_view text = engine_full.substr(settings);
    const std::string wanted = " " + name + " = ";
    if (const size_t at = text.find(wanted); at != std::string_view::npos) {
      const std::string_view value = text.substr(at + wanted.size());
      return std::string(value.substr(0, value.find_first_of(", ")));
    }
  }
  const auto found = defaults.find(name);
  return found == defaults.end() ? std::string() : found->second;
}

uint64_t DeduplicationWindow(const TableFacts& facts, const MergeTreeSettings& defaults) {
  const std::string name = IsReplicated(facts.engine) ? "replicated_deduplication_window"
                                                      : "non_replicated_deduplication_window";
  const std::string value = TableSetting(facts.engine_full, name, defaults);
  uint64_t window = 0;
  const auto parsed = std::from_chars(value.data(), value.data() + value.size(), window);
  return parsed.ec == std::errc() ? window : 0;
}

Status CheckTable(const TableNeed& need, const TableFacts& facts,
                  const MergeTreeSettings& defaults) {
  MR_RETURN_IF_ERROR(CheckTableEngine(need, facts));
  MR_RETURN_IF_ERROR(CheckTableColumns(need, facts));
  if (DeduplicationWindow(facts, defaults) == 0) {
    const std::string_view name = IsReplicated(facts.engine)
                                      ? "replicated_deduplication_window"
                                      : "non_replicated_deduplication_window";
    return FailedPrecondition(
        fmt::format("table {} has no deduplication window, so that a retried insert would be "
                    "doubled; run: ALTER "
                    "TABLE {} MODIFY SETTING {} = {}",
                    need.QualifiedName(), need.QualifiedName(), name, kDeduplicationWindow));
  }
  return Status::Ok();
}

}  // namespace millrace::sinks::clickhouse
