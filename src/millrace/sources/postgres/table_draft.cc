// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/table_draft.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "millrace/model/evolution.h"
#include "millrace/model/value_text.h"
#include "millrace/sources/postgres/value_parser.h"

namespace millrace::sources::postgres {
bool KeepsValues(const ColumnTypeFacts& before, const ColumnTypeFacts& after) {
  if (before.is_array != after.is_array || before.dimensions != after.dimensions) {
    return false;
  }
  if (before.type == after.type) {
    return true;  // a domain, or its base type
  }
  const DataType from = MapColumnType(before);
  const DataType to = MapColumnType(after);
  if (before.is_array || from.kind == TypeKind::kEnum || to.kind == TypeKind::kEnum) {
    return false;
  }
  const bool loses_limit = after.type.typmod < 0;
  if (from == to && before.type.oid == after.type.oid) {
    // Only a limit that goes away surely changes no value; a longer char(n) is padded.
    const bool is_longer = before.type.oid == kVarcharOid && before.type.typmod >= 0 &&
                           after.type.typmod >= before.type.typmod;
    return before.type.oid != kBpcharOid && (loses_limit || is_longer);
  }
  if (from.kind == TypeKind::kText && to.kind == TypeKind::kText) {
    // Many types are shown as text. Of these the text stays.
    const auto is_plain = [](const TypeFacts& type) {
      return type.oid == kTextOid || type.oid == kVarcharOid || type.is_text_extension;
    };
    return is_plain(before.type) && is_plain(after.type) && loses_limit;
  }
  return !(from == to) && Widens(from, to);
}

namespace {

// The text of a float as that of the double that it becomes.
void WidenFloat(std::string& text) {
  float value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec == std::errc()) {
    Buffer widened;
    AppendFloat(widened, static_cast<double>(value));
    text = std::string(widened.view());
  }
}

std::vector<std::string> NamesOf(const Schema& columns) {
  std::vector<std::string> names;
  for (const Field& field : columns) {
    names.push_back(field.name);
  }
  return names;
}

}  // namespace

TableDraft::TableDraft(const SourceTablePtr& known, bool is_exact)
    : known_(known),
      is_exact_(is_exact),
      table_(*known->table),
      source_(*known),
      columns_(*known->table->columns) {}

std::optional<size_t> TableDraft::FindPlace(int attnum) const {
  for (size_t place = 0; place < source_.columns.size(); ++place) {
    if (source_.columns[place].attnum == attnum && !source_.columns[place].is_dropped) {
      return place;
    }
  }
  return std::nullopt;
}

void TableDraft::Pause(std::string_view what_happened) {
  if (source_.paused.empty()) {
    const std::string name = known_->table->FullName();
    source_.paused = fmt::format(
        "table {}: {}; its changes are left out from here on: read it again with millrace snapshot "
        "-c FILE {}",
        name, what_happened, name);
  }
}

void TableDraft::PauseUntilRead(std::string_view what_happened, Mend mend) {
  if (source_.paused.empty()) {
    source_.paused = fmt::format("table {}: {}; its changes are left out until it is read again",
                                 known_->table->FullName(), what_happened);
    source_.mend = mend;
  }
}

void TableDraft::Drop(size_t place) {
  column(place).is_dropped = true;
  column(place).missing.reset();
  field(place).nullable = true;
}

void TableDraft::Rename(size_t place, const std::string& name) {
  if (field(place).name == name) {
    return;
  }
  if (!IsFree(name)) {
    Pause(fmt::format("column '{}' is called '{}' now, as another column is or was",
                      field(place).name, name));
    return;
  }
  field(place).name = name;
  renamed_.insert(place);
}

void TableDraft::Retype(size_t place, const ColumnTypeFacts& type) {
  if (source_.types[place] == type) {
    return;
  }
  if (!KeepsValues(source_.types[place], type)) {
    if (is_exact_) {
      return PauseUntilRead(fmt::format("column '{}' has another type", field(place).name),
                            Mend::kReadAgain);
    }
    Pause(
        fmt::format("column '{}' has another type, and what its rows hold by it is not told by "
                    "row events",
                    field(place).name));
    return;
  }
  const DataType to = MapColumnType(type);
  if (field(place).type.kind == TypeKind::kFloat32 && to.kind == TypeKind::kFloat64 &&
      column(place).missing) {
    WidenFloat(*column(place).missing);
  }
  field(place).type = to;
  source_.types[place] = type;
  retyped_.insert(place);
}

void TableDraft::Add(const Field& field, const ColumnTypeFacts& type, const SourceColumn& column,
                     bool toastable) {
  if (!IsFree(field.name)) {
    Pause(
        fmt::format("a column '{}' was added, and another column is or was called so", field.name));
    return;
  }
  columns_.push_back(field);
  source_.types.push_back(type);
  source_.columns.push_back(column);
  table_.toastable.push_back(toastable);
  source_.attnum_max = std::max(source_.attnum_max, column.attnum);
}

void TableDraft::CheckNames() {
  if (renamed_.empty()) {
    return;
  }
  std::vector<std::vector<std::string>> versions = known_->table->former_names;
  versions.push_back(NamesOf(*known_->table->columns));
  for (const std::vector<std::string>& names : versions) {
    // From column to column: the one that had the name which the first has now.
    for (size_t first = 0; first < names.size(); ++first) {
      size_t at = first;
      for (size_t steps = 0; steps <= names.size(); ++steps) {
        const auto held = std::find(names.begin(), names.end(), columns_[at].name);
        if (held == names.end()) {
          break;
        }
        const auto next = static_cast<size_t>(held - names.begin());
        if (next == first && at != first) {
          PauseUntilRead("columns have exchanged their names", Mend::kReadAgain);
          return;
        }
        if (next == at || next == first) {
          break;
        }
        at = next;
      }
    }
  }
}

void TableDraft::CheckRewritten(const CatalogTable& now) {
  if (now.source.file_node == known_->file_node || known_->file_node == 0) {
    return;
  }
  // One ALTER may write the catalog's rows of columns behind the one that it alters, too (seen on
  // 15): the first column of a transaction stands for all.
  std::set<uint32_t> seen;
  for (const SourceColumn& after : now.source.columns) {
    const std::optional<size_t> place = FindPlace(after.attnum);
    if (!place || *place >= known_->columns.size()) {
      continue;
    }
    const SourceColumn& before = known_->columns[*place];
    if (before.catalog_xid == after.catalog_xid || !seen.insert(after.catalog_xid).second) {
      continue;
    }
    // A file that is written anew holds the missing values itself.
    const bool lost_missing = before.missing.has_value() && !after.missing.has_value();
    if (!renamed_.contains(*place) && !retyped_.contains(*place) && !lost_missing) {
      PauseUntilRead(
          fmt::format("column '{}' was altered and the rows were written anew, as ALTER COLUMN "
                      "TYPE ... USING does",
                      field(*place).name),
          Mend::kReadAgain);
      return;
    }
  }
}

void TableDraft::TakeKeys(const CatalogTable& now, std::optional<ReplicaIdentity> identity) {
  const Table& catalog = *now.source.table;
  const auto places = [&](const std::vector<uint32_t>& key) -> std::vector<uint32_t> {
    std::vector<uint32_t> result;
    for (const uint32_t column : key) {
      const std::optional<size_t> place = FindPlace(now.source.columns[column].attnum);
      if (!place) {
        return {};
      }
      result.push_back(static_cast<uint32_t>(*place));
    }
    return result;
  };
  if (places(catalog.primary_key) != table_.primary_key) {
    Pause("it has another primary key, by which streams address its rows");
    return;
  }
  table_.unique_keys.clear();
  for (const std::vector<uint32_t>& key : catalog.unique_keys) {
    if (std::vector<uint32_t> found = places(key); !found.empty()) {
      table_.unique_keys.push_back(std::move(found));
    }
  }
  source_.has_usable_identity = now.source.has_usable_identity;
  const ReplicaIdentity next = identity.value_or(catalog.replica_identity);
  const bool may_be_wide =
      std::find(table_.toastable.begin(), table_.toastable.end(), true) != table_.toastable.end();
  if (table_.replica_identity == ReplicaIdentity::kFull && next != ReplicaIdentity::kFull &&
      may_be_wide) {
    Pause(
        "its replica identity is no longer full, so that large values which do not change are "
        "not sent");
    return;
  }
  if (next == ReplicaIdentity::kFull || next == ReplicaIdentity::kNothing) {
    // Old images say more than was promised, or there are none. It may end again, so that what is
    // known besides goes on being kept.
    return;
  }
  std::vector<uint32_t> index = places(catalog.identity_index);
  table_.replica_identity = next;
  table_.identity_index = next == ReplicaIdentity::kIndex ? index : std::vector<uint32_t>();
  if (table_.OldImagesLackKey() && table_.identity_index != known_->table->identity_index) {
    Pause("its replica identity is another index, by which old rows do not say their key");
    return;
  }
}

void TableDraft::TakeFacts(const CatalogTable& now) {
  source_.file_node = now.source.file_node;
  source_.is_partitioned = now.source.is_partitioned;
  source_.row_filter = now.source.row_filter;
  source_.has_generated_column = now.source.has_generated_column;
  for (size_t i = 0; i < now.source.columns.size(); ++i) {
    const std::optional<size_t> place = FindPlace(now.source.columns[i].attnum);
    if (place) {
      column(*place).catalog_xid = now.source.columns[i].catalog_xid;
      field(*place).nullable |= (*now.source.table->columns)[i].nullable;
      table_.toastable[*place] = table_.toastable[*place] || now.source.table->toastable[i];
    }
  }
}

SourceTablePtr TableDraft::Finish() {
  std::shared_ptr<const RowBatch> fill = MakeFill();
  if (is_paused()) {
    SourceTable paused = *known_;
    paused.paused = std::move(source_.paused);
    paused.mend = source_.mend;
    return std::make_shared<const SourceTable>(std::move(paused));
  }
  if (!IsSameShape()) {
    FinishTable(std::move(fill));
  } else if (source_.columns == known_->columns && source_.types == known_->types &&
             source_.file_node == known_->file_node && source_.attnum_max == known_->attnum_max &&
             source_.has_usable_identity == known_->has_usable_identity &&
             source_.row_filter == known_->row_filter) {
    return known_;
  }
  return std::make_shared<const SourceTable>(std::move(source_));
}

bool TableDraft::HasName(const std::string& name) const {
  return std::any_of(columns_.begin(), columns_.end(),
                     [&](const Field& field) { return field.name == name; });
}

bool TableDraft::IsFree(const std::string& name) {
  for (size_t place = 0; place < columns_.size(); ++place) {
    if (columns_[place].name != name) {
      continue;
    }
    if (!is_exact_ || !column(place).is_dropped) {
      return false;
    }
    std::string other = fmt::format("{}_dropped_{}", name, column(place).attnum);
    while (HasName(other)) {
      other += "_";
    }
    columns_[place].name = std::move(other);
    renamed_.insert(place);
  }
  return true;
}

// What the engine sees.
bool TableDraft::IsSameShape() const {
  const Table& known = *known_->table;
  return columns_ == *known.columns && table_.unique_keys == known.unique_keys &&
         table_.toastable == known.toastable && table_.replica_identity == known.replica_identity &&
         table_.identity_index == known.identity_index;
}

void TableDraft::FinishTable(std::shared_ptr<const RowBatch> fill) {
  ++table_.version;
  table_.next_names.clear();
  if (!renamed_.empty()) {
    table_.former_names.insert(table_.former_names.begin(), NamesOf(*known_->table->columns));
  }
  table_.columns = fill == nullptr ? std::make_shared<const Schema>(columns_) : fill->schema();
  table_.fill = std::move(fill);
  source_.table = std::make_shared<const Table>(table_);
}

std::shared_ptr<const RowBatch> TableDraft::MakeFill() {
  std::optional<size_t> unreadable;
  std::shared_ptr<const RowBatch> fill =
      ReadFill(std::make_shared<const Schema>(columns_), source_.columns, unreadable);
  if (unreadable) {
    Pause(fmt::format("the value that older rows have in column '{}' cannot be read",
                      columns_[*unreadable].name));
  }
  return fill;
}

std::shared_ptr<const RowBatch> ReadFill(const SchemaPtr& schema,
                                         const std::vector<SourceColumn>& columns,
                                         std::optional<size_t>& unreadable) {
  const bool has_fill = std::any_of(columns.begin(), columns.end(),
                                    [](const auto& column) { return column.missing.has_value(); });
  if (!has_fill) {
    return nullptr;
  }
  auto fill = std::make_shared<RowBatch>(schema);
  for (size_t place = 0; place < columns.size(); ++place) {
    Column& to = fill->column(place);
    const std::optional<std::string>& missing = columns[place].missing;
    if (!missing) {
      to.AppendNull();
    } else if (ValueParserFor((*schema)[place].type)(*missing, to) != nullptr) {
      unreadable = place;
      return nullptr;
    }
  }
  return fill;
}

}  // namespace millrace::sources::postgres
