// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_alter.h"

#include <algorithm>
#include <bit>
#include <utility>

#include <fmt/format.h>

#include "millrace/model/evolution.h"
#include "millrace/model/json_text.h"
#include "millrace/sinks/clickhouse/value_range.h"

namespace millrace::sinks::clickhouse {

namespace {

std::string CopyComment(const std::string& name) {
  return fmt::format("Millrace copies it to {} and drops it", QuoteIdentifier(name));
}

std::string TextOf(const Column& column, size_t row) {
  Buffer text;
  if (column.type().is_varlen()) {
    text.Append(column.Text(row));
  } else {
    TextWriterOf(column.type())(column, row, text);
  }
  return std::string(text.view());
}

std::string ListExpression(const Column& column, size_t row) {
  std::string list = "[";
  const auto [begin, end] = column.ListRange(row);
  for (size_t i = begin; i < end; ++i) {
    list += i == begin ? "" : ", ";
    list += ValueExpression(column.child(), i, /*as_string=*/false);
  }
  return list + "]";
}

class Alteration {
 public:
  Alteration(const TableNeed& need, const std::vector<StreamPtr>& earlier, TableFacts facts)
      : need_(need), earlier_(earlier), facts_(std::move(facts)) {}

  Result<std::vector<std::string>> Statements() {
    // Names first: a column that is added may have the former name of another.
    MR_RETURN_IF_ERROR(RenameAll());
    for (size_t i = 0; i < need_.stream->columns->size(); ++i) {
      if (!facts_.columns.contains(need_.columns[i].name)) {
        Add(i);
      } else {
        MR_RETURN_IF_ERROR(Retype(i));
      }
    }
    return std::move(statements_);
  }

 private:
  void Alter(std::string command) {
    statements_.push_back(fmt::format("ALTER TABLE {} {}", need_.QualifiedName(), command));
  }

  Status Refuse(const std::string& column, std::string_view change) const {
    return FailedPrecondition(fmt::format(
        "column '{}' of table {} {} in the source, and it is in the table's {} key, which "
        "ClickHouse does not change: rename or drop the table and rebuild what the sink holds "
        "in a new data_dir, or undo the change in the source",
        column, need_.QualifiedName(), change,
        facts_.columns.at(column).is_in_sorting_key ? "sorting" : "partition"));
  }

  bool IsKey(const std::string& column) const {
    const TableFacts::Column& facts = facts_.columns.at(column);
    return facts.is_in_sorting_key || facts.is_in_partition_key;
  }

  // Only columns of a table keep their place under another name.
  Status RenameAll() {
    FinishCopies();
    const Stream* from = FindNamed();
    // One may have to wait until another has given its name up.
    for (bool goes_on = from != nullptr; goes_on;) {
      goes_on = false;
      for (size_t place = 0; place < from->columns->size(); ++place) {
        const std::string& former = (*from->columns)[place].name;
        const std::string& name = need_.columns[place].name;
        if (former == name || !facts_.columns.contains(former) || facts_.columns.contains(name)) {
          continue;
        }
        if (IsKey(former)) {
          return Refuse(former, fmt::format("is called '{}'", name));
        }
        BeginCopy(former, name);
        EndCopy(former, name);
        goes_on = true;
      }
    }
    return Status::Ok();
  }

  void BeginCopy(const std::string& former, const std::string& name) {
    const TableFacts::Column& column = facts_.columns.at(former);
    const std::string codec = column.codec.empty() ? "" : " " + column.codec;
    const std::string comment =
        column.comment.empty() ? "" : " COMMENT " + QuoteString(column.comment);
    Alter(fmt::format("ADD COLUMN {0} {1} DEFAULT {2}{3}{4} AFTER {2}, COMMENT COLUMN {2} {5}",
                      QuoteIdentifier(name), column.type, QuoteIdentifier(former), comment, codec,
                      QuoteString(CopyComment(name))));
    TableFacts::Column copy = column;
    copy.default_kind = "DEFAULT";
    facts_.columns.emplace(name, std::move(copy));
  }

  // What is left to do is seen by the copy's DEFAULT, which goes before the former column does.
  void EndCopy(const std::string& former, const std::string& name) {
    TableFacts::Column& copy = facts_.columns.at(name);
    if (!copy.default_kind.empty()) {
      Alter("MATERIALIZE COLUMN " + QuoteIdentifier(name));
      Alter(fmt::format("MODIFY COLUMN {} REMOVE DEFAULT", QuoteIdentifier(name)));
    }
    Alter("DROP COLUMN " + QuoteIdentifier(former));
    copy.default_kind.clear();
    facts_.columns.erase(former);
  }

  void FinishCopies() {
    for (const ColumnNeed& column : need_.columns) {
      const auto former = std::find_if(
          facts_.columns.begin(), facts_.columns.end(),
          [&](const auto& entry) { return entry.second.comment == CopyComment(column.name); });
      if (former != facts_.columns.end() && facts_.columns.contains(column.name)) {
        EndCopy(std::string(former->first), column.name);
      }
    }
  }

  // The version that the table's columns are of, some of them by their newest names already; null
  // if that is the newest. Taken from different versions, one place's former name could be
  // another's present one.
  const Stream* FindNamed() const {
    if (need_.stream->table.empty()) {
      return nullptr;
    }
    const Stream* found = need_.stream.get();
    for (const StreamPtr& version : earlier_) {
      if (version->table == need_.stream->table &&
          version->columns->size() <= need_.columns.size() &&
          CountNamed(*version) > CountNamed(*found)) {
        found = version.get();
      }
    }
    return found == need_.stream.get() ? nullptr : found;
  }

  // How many of a version's columns the table has: those before the first that it lacks, and all.
  // Versions add columns behind the last one; one that lacks in the middle was dropped by someone.
  std::pair<size_t, size_t> CountNamed(const Stream& version) const {
    std::pair<size_t, size_t> count;
    for (size_t place = 0; place < version.columns->size(); ++place) {
      if (facts_.columns.contains((*version.columns)[place].name) ||
          facts_.columns.contains(need_.columns[place].name)) {
        count.first += count.first == place ? 1 : 0;
        ++count.second;
      }
    }
    return count;
  }

  bool WasThere(size_t place) const {
    for (const StreamPtr& version : earlier_) {
      if (need_.stream->FindInEarlier(*version, place) < 0) {
        return false;
      }
    }
    return true;
  }

  // A column that every version has is missing because someone dropped it.
  void Add(size_t place) {
    if (need_.stream->table.empty() || WasThere(place)) {
      return;
    }
    AddColumn(place);
  }

  void AddColumn(size_t place) {
    const ColumnNeed& column = need_.columns[place];
    std::string definition =
        fmt::format("ADD COLUMN IF NOT EXISTS {} {}", QuoteIdentifier(column.name), column.type);
    if (const RowBatch* fill = need_.stream->fill.get();
        fill != nullptr && !fill->column(place).IsNull(0)) {
      definition +=
          " DEFAULT " + ValueExpression(fill->column(place), 0, need_.IsString(column.name));
    }
    if (place != 0 && facts_.columns.contains(need_.columns[place - 1].name)) {
      definition += " AFTER " + QuoteIdentifier(need_.columns[place - 1].name);
    }
    Alter(std::move(definition));
    facts_.columns.emplace(column.name, TableFacts::Column{.type = column.type});
  }

  Status Retype(size_t place) {
    const ColumnNeed& column = need_.columns[place];
    const TableFacts::Column& facts = facts_.columns.at(column.name);
    if (TypeHolds(facts.type, column.type, column.is_instant)) {
      return Status::Ok();
    }
    for (const StreamPtr& version : earlier_) {
      const int at = need_.stream->FindInEarlier(*version, place);
      if (at < 0) {
        continue;
      }
      const Field& field = (*version->columns)[static_cast<size_t>(at)];
      const bool as_string = need_.IsString(column.name);
      const bool nullable =
          field.nullable || (!as_string && ReplacesWithNull(*version, static_cast<size_t>(at),
                                                            need_.stream->out_of_range));
      if (!IsSameType(facts.type, ColumnType(field.type, nullable, as_string, need_.naive_zone))) {
        continue;
      }
      if (IsKey(column.name)) {
        return Refuse(column.name, "has another type");
      }
      if (Widens(field.type, (*need_.stream->columns)[place].type)) {
        Alter(fmt::format("MODIFY COLUMN {} {}", QuoteIdentifier(column.name), column.type));
      } else if (!need_.stream->table.empty()) {
        Alter("DROP COLUMN " + QuoteIdentifier(column.name));
        facts_.columns.erase(column.name);
        AddColumn(place);
      }
      return Status::Ok();
    }
    return Status::Ok();
  }

  const TableNeed& need_;
  const std::vector<StreamPtr>& earlier_;
  TableFacts facts_;  // as the statements leave it
  std::vector<std::string> statements_;
};

}  // namespace

std::string ValueExpression(const Column& column, size_t row, bool as_string) {
  const DataType& type = column.type();
  if (column.IsNull(row)) {
    return "NULL";
  }
  if (as_string) {
    return QuoteString(TextOf(column, row));
  }
  switch (type.kind) {
    case TypeKind::kFloat32:
      return fmt::format("reinterpretAsFloat32(toUInt32({}))",
                         std::bit_cast<uint32_t>(column.Value<float>(row)));
    case TypeKind::kFloat64:
      return fmt::format("reinterpretAsFloat64(toUInt64({}))",
                         std::bit_cast<uint64_t>(column.Value<double>(row)));
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
      return fmt::format("fromUnixTimestamp64Micro(toInt64({}), 'UTC')",
                         column.Value<int64_t>(row));
    case TypeKind::kList:
      return ListExpression(column, row);
    case TypeKind::kTime:
    case TypeKind::kInterval:
    case TypeKind::kText:
    case TypeKind::kEnum:
    case TypeKind::kJson:
    case TypeKind::kBytes:
      return QuoteString(TextOf(column, row));
    default:
      return fmt::format("CAST({} AS {})", QuoteString(TextOf(column, row)),
                         ColumnType(type, false, false, ""));
  }
}

Result<std::vector<std::string>> AlterTableSql(const TableNeed& need,
                                               const std::vector<StreamPtr>& earlier,
                                               TableFacts facts) {
  if (earlier.empty()) {
    return std::vector<std::string>();
  }
  return Alteration(need, earlier, std::move(facts)).Statements();
}

}  // namespace millrace::sinks::clickhouse
