// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/table_history.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "millrace/sources/postgres/column_alignment.h"
#include "millrace/sources/postgres/table_draft.h"

namespace millrace::sources::postgres {
namespace {

constexpr uint32_t kFirstUserOid = 16'384;

ColumnFace FaceOf(const SourceTable& table, size_t place) {
  return {(*table.table->columns)[place].name, table.types[place].declared_oid,
          table.types[place].declared_typmod};
}

ColumnFace FaceOf(const RelationMessage::Column& column) {
  return {column.name, column.type_oid, column.typmod};
}

ReplicaIdentity IdentityOf(char identity) {
  return identity == 'f'   ? ReplicaIdentity::kFull
         : identity == 'i' ? ReplicaIdentity::kIndex
         : identity == 'n' ? ReplicaIdentity::kNothing
                           : ReplicaIdentity::kDefault;
}

// Adds column `i` of the catalog under a name and type that it has or had.
// `is_rewritten`: the rows were written anew.
void AddFromCatalog(TableDraft& draft, const SourceTable& known, const CatalogTable& now, size_t i,
                    const std::string& name, const ColumnTypeFacts& type, bool is_rewritten) {
  const SourceColumn& column = now.source.columns[i];
  if (column.attnum <= known.attnum_max) {
    draft.Pause(fmt::format("column '{}' was not published, and is now", name));
    return;
  }
  // A value that the catalog does not keep for older rows was computed for each of them, unless
  // they are in the file that they were in. The default may be gone again, or be an identity.
  if (!column.missing && is_rewritten) {
    draft.PauseUntilRead(
        fmt::format("column '{}' was added and the rows were written anew, so that what older rows "
                    "hold was not told by row events",
                    name),
        Mend::kReadAgain);
    return;
  }
  Field field = (*now.source.table->columns)[i];
  field.name = name;
  field.type = MapColumnType(type);
  draft.Add(field, type, column, now.source.table->toastable[i]);
}

// Rows from before the column was widened, which a table that was read again meanwhile knows.
void TakeOlder(TableDraft& draft, size_t place, const ColumnTypeFacts& type) {
  if (MapColumnType(type).kind == TypeKind::kFloat32 &&
      draft.field(place).type.kind == TypeKind::kFloat64) {
    draft.PauseUntilRead(fmt::format("column '{}' comes as it was before it was widened, which "
                                     "changed the digits of its values",
                                     draft.field(place).name),
                         Mend::kReadAgain);
  }
}

// Another file tells that rows were written anew.
bool HasOtherFile(const SourceTable& known, const CatalogTable& now) {
  return now.source.file_node != known.file_node && known.file_node != 0;
}

std::optional<size_t> FindAttnum(const CatalogTable& now, int attnum) {
  for (size_t i = 0; i < now.source.columns.size(); ++i) {
    if (now.source.columns[i].attnum == attnum) {
      return i;
    }
  }
  return std::nullopt;
}

// The type of a column of the message: as it is known or as the catalog has it, or a built-in one.
std::optional<ColumnTypeFacts> TypeOf(const RelationMessage::Column& column,
                                      const ColumnTypeFacts* known, const ColumnTypeFacts* now) {
  for (const ColumnTypeFacts* facts : {known, now}) {
    if (facts != nullptr && facts->declared_oid == column.type_oid &&
        facts->declared_typmod == column.typmod) {
      return *facts;
    }
  }
  // An array's element is not known.
  constexpr uint32_t kScalars[] = {
      kBoolOid,    kByteaOid,   kNameOid, kInt8Oid,      kInt2Oid,        kInt4Oid,
      kTextOid,    kJsonOid,    kXmlOid,  kFloat4Oid,    kFloat8Oid,      kBpcharOid,
      kVarcharOid, kDateOid,    kTimeOid, kTimestampOid, kTimestampTzOid, kIntervalOid,
      kTimeTzOid,  kNumericOid, kUuidOid, kJsonbOid};
  static_assert(kFirstUserOid > kJsonbOid);
  if (std::find(std::begin(kScalars), std::end(kScalars), column.type_oid) == std::end(kScalars)) {
    return std::nullopt;
  }
  return ColumnTypeFacts{.declared_oid = column.type_oid,
                         .declared_typmod = column.typmod,
                         .type = {.oid = column.type_oid, .typmod = column.typmod}};
}

// Every number that the table's columns have had, but for those that are not published.
std::vector<NumberedColumn> NumbersOf(const SourceTable& known, const CatalogTable& now) {
  std::map<int, NumberedColumn> numbers;
  for (size_t place = 0; place < known.columns.size(); ++place) {
    if (!known.columns[place].is_dropped) {
      numbers[known.columns[place].attnum].before = FaceOf(known, place);
    }
  }
  for (size_t i = 0; i < now.source.columns.size(); ++i) {
    numbers[now.source.columns[i].attnum].now = FaceOf(now.source, i);
  }
  for (const CatalogColumn& column : now.all_columns) {
    if (column.attnum > known.attnum_max && !column.is_generated) {
      numbers[column.attnum].is_new = true;
    }
  }
  std::vector<NumberedColumn> result;
  for (auto& [attnum, number] : numbers) {
    number.attnum = attnum;
    result.push_back(std::move(number));
  }
  return result;
}

// The old images hold what the engine was promised that they hold, or there are none.
bool SaysEnough(const Table& table, const RelationMessage& relation) {
  const ReplicaIdentity identity = IdentityOf(relation.replica_identity);
  return identity == table.replica_identity || identity == ReplicaIdentity::kFull ||
         identity == ReplicaIdentity::kNothing;
}

// The columns by which old images name a row must be those that the engine knows.
bool IdentityFits(const Table& table, bool has_usable_identity, const RelationMessage& relation,
                  const RowLayout& layout) {
  const bool is_index = relation.replica_identity == 'i' && !table.identity_index.empty();
  if ((relation.replica_identity != 'd' && !is_index) || !has_usable_identity) {
    return true;
  }
  std::set<uint32_t> key;
  for (size_t i = 0; i < relation.columns.size(); ++i) {
    if (relation.columns[i].is_key) {
      key.insert(layout.places[i]);
    }
  }
  const std::vector<uint32_t>& wanted = is_index ? table.identity_index : table.primary_key;
  return key == std::set<uint32_t>(wanted.begin(), wanted.end());
}

void FindAbsent(size_t columns, RowLayout& layout) {
  const std::set<uint32_t> there(layout.places.begin(), layout.places.end());
  for (uint32_t place = 0; place < columns; ++place) {
    if (!there.contains(place)) {
      layout.absent.push_back(place);
    }
  }
}

// Every column by its number.
void FollowNumbers(TableDraft& draft, const SourceTable& known, const CatalogTable& now,
                   bool is_rewritten) {
  const Schema& columns = *now.source.table->columns;
  for (size_t place = 0; place < known.columns.size() && !draft.is_paused(); ++place) {
    const SourceColumn& column = known.columns[place];
    if (!column.is_dropped && !FindAttnum(now, column.attnum)) {
      draft.Drop(place);
    }
  }
  for (size_t place = 0; place < known.columns.size() && !draft.is_paused(); ++place) {
    if (const auto at = FindAttnum(now, known.columns[place].attnum);
        at && !known.columns[place].is_dropped) {
      draft.Rename(place, columns[*at].name);
    }
  }
  for (size_t i = 0; i < now.source.columns.size() && !draft.is_paused(); ++i) {
    if (const auto place = draft.FindPlace(now.source.columns[i].attnum)) {
      draft.Retype(*place, now.source.types[i]);
    } else {
      AddFromCatalog(draft, known, now, i, columns[i].name, now.source.types[i], is_rewritten);
    }
  }
}

// What the message alone tells.
bool CheckTableOf(const RelationMessage& relation, TableDraft& draft) {
  if (relation.oid != draft.table().oid) {
    draft.PauseUntilRead("it was dropped and created again", Mend::kTakeUp);
  } else if (relation.schema != draft.table().schema || relation.name != draft.table().name) {
    draft.Pause(
        fmt::format("it was renamed to {}.{}: rename it back, or list it under its new name",
                    relation.schema, relation.name));
  }
  return !draft.is_paused();
}

// Brings the column of number `attnum` to what it is in the row.
void FollowColumn(TableDraft& draft, const SourceTable& known, const CatalogTable& now,
                  const RelationMessage::Column& column, int attnum) {
  const auto place = draft.FindPlace(attnum);
  const auto at = FindAttnum(now, attnum);
  const auto type =
      TypeOf(column, place ? &known.types[*place] : nullptr, at ? &now.source.types[*at] : nullptr);
  if (!type) {
    draft.Pause(fmt::format("column '{}' has another type", column.name));
  } else if (place && at && now.source.types[*at] == known.types[*place] &&
             KeepsValues(*type, known.types[*place])) {
    TakeOlder(draft, *place, *type);
  } else if (place) {
    draft.Retype(*place, *type);
  } else if (at) {
    AddFromCatalog(draft, known, now, *at, column.name, *type, HasOtherFile(known, now));
  } else {
    // It is gone by now, and with it what older rows hold.
    draft.Add({column.name, MapColumnType(*type), true}, *type, {.attnum = attnum}, true);
  }
}

}  // namespace

bool MatchesRelation(const SourceTable& known, const RelationMessage& relation, RowLayout& layout) {
  const Table& table = *known.table;
  if (relation.oid != table.oid || relation.schema != table.schema || relation.name != table.name ||
      !SaysEnough(table, relation)) {
    return false;
  }
  RowLayout found;
  for (uint32_t place = 0; place < known.columns.size(); ++place) {
    if (!known.columns[place].is_dropped) {
      found.places.push_back(place);
    }
  }
  // Rows have their columns by number; a table that was read again may have them at other places.
  std::sort(found.places.begin(), found.places.end(), [&](uint32_t x, uint32_t y) {
    return known.columns[x].attnum < known.columns[y].attnum;
  });
  const bool is_same = std::equal(
      found.places.begin(), found.places.end(), relation.columns.begin(), relation.columns.end(),
      [&](uint32_t place, const auto& column) { return FaceOf(known, place) == FaceOf(column); });
  if (!is_same || !IdentityFits(table, known.has_usable_identity, relation, found)) {
    return false;
  }
  FindAbsent(known.columns.size(), found);
  layout = std::move(found);
  return true;
}

TableStep FollowRelation(const SourceTablePtr& known, const RelationMessage& relation,
                         const CatalogTable* now) {
  TableDraft draft(known);
  TableStep step;
  if (!CheckTableOf(relation, draft)) {
    step.table = draft.Finish();
    return step;
  }
  if (now == nullptr) {
    draft.Pause("its columns changed, and it is no longer there to be looked at");
    step.table = draft.Finish();
    return step;
  }
  const std::vector<NumberedColumn> numbers = NumbersOf(*known, *now);
  std::vector<ColumnFace> row;
  for (const RelationMessage::Column& column : relation.columns) {
    row.push_back(FaceOf(column));
  }
  const auto aligned = AlignColumns(numbers, row);
  if (!aligned) {
    draft.Pause("its columns changed in a way that does not tell what became of each");
    step.table = draft.Finish();
    return step;
  }
  std::set<int> in_row;
  for (const size_t at : *aligned) {
    in_row.insert(numbers[at].attnum);
  }
  // A column that the catalog still has came after these rows.
  for (size_t place = 0; place < known->columns.size(); ++place) {
    const SourceColumn& column = known->columns[place];
    if (!column.is_dropped && !in_row.contains(column.attnum) && !FindAttnum(*now, column.attnum)) {
      draft.Drop(place);
    }
  }
  // Names first: a column that is added may have the former name of another.
  for (size_t i = 0; i < row.size() && !draft.is_paused(); ++i) {
    if (const auto place = draft.FindPlace(numbers[(*aligned)[i]].attnum)) {
      draft.Rename(*place, row[i].name);
    }
  }
  for (size_t i = 0; i < row.size() && !draft.is_paused(); ++i) {
    FollowColumn(draft, *known, *now, relation.columns[i], numbers[(*aligned)[i]].attnum);
  }
  if (!draft.is_paused()) {
    draft.CheckRewritten(*now);
    draft.TakeKeys(*now, IdentityOf(relation.replica_identity));
    draft.TakeFacts(*now);
    const std::vector<SourceColumn>& columns = now->source.columns;
    if (std::any_of(columns.begin(), columns.end(),
                    [&](const SourceColumn& c) { return !in_row.contains(c.attnum); })) {
      // The file is perhaps that of a column which rows to come will show.
      draft.source().file_node = known->file_node;
    }
    for (size_t i = 0; i < row.size() && !draft.is_paused(); ++i) {
      step.layout.places.push_back(
          static_cast<uint32_t>(*draft.FindPlace(numbers[(*aligned)[i]].attnum)));
    }
    FindAbsent(draft.size(), step.layout);
    if (!draft.is_paused() &&
        !IdentityFits(draft.table(), draft.source().has_usable_identity, relation, step.layout)) {
      draft.Pause("it has another primary key, by which streams address its rows");
    }
  }
  step.table = draft.Finish();
  return step;
}

TableStep FollowCatalog(const SourceTablePtr& known, const CatalogTable* now) {
  TableDraft draft(known);
  TableStep step;
  if (now == nullptr) {
    draft.Pause("it was dropped");
    step.table = draft.Finish();
    return step;
  }
  const Table& catalog = *now->source.table;
  if (catalog.oid != known->table->oid) {
    draft.PauseUntilRead("it was dropped and created again", Mend::kTakeUp);
  } else if (catalog.schema != known->table->schema || catalog.name != known->table->name) {
    draft.Pause(fmt::format("it was renamed to {}: rename it back, or list it under its new name",
                            catalog.FullName()));
  }
  FollowNumbers(draft, *known, *now, HasOtherFile(*known, *now));
  if (!draft.is_paused()) {
    draft.CheckRewritten(*now);
    draft.TakeKeys(*now, std::nullopt);
    draft.TakeFacts(*now);
    draft.source().attnum_max = now->source.attnum_max;
  }
  step.table = draft.Finish();
  return step;
}

TableStep FollowCommand(const SourceTablePtr& known, const CatalogTable& now, bool is_rewritten) {
  TableDraft draft(known, /*is_exact=*/true);
  FollowNumbers(draft, *known, now, is_rewritten);
  if (!draft.is_paused()) {
    draft.CheckNames();
  }
  if (!draft.is_paused()) {
    draft.TakeKeys(now, std::nullopt);
    draft.TakeFacts(now);
    draft.source().attnum_max = now.source.attnum_max;
  }
  return {.table = draft.Finish(), .layout = {}};
}

bool IsReadTheSame(const SourceTable& before, const SourceTable& after) {
  // To the engine a nullable column that was dropped is as it was.
  const bool has_same_columns = std::equal(
      after.columns.begin(), after.columns.end(), before.columns.begin(), before.columns.end(),
      [](const SourceColumn& a, const SourceColumn& b) { return a.is_dropped == b.is_dropped; });
  return after.table == before.table && has_same_columns && after.paused == before.paused &&
         after.row_filter == before.row_filter;
}

bool IsAsKnown(const SourceTable& known, const CatalogTable& now) {
  const auto table = std::make_shared<const SourceTable>(known);
  const SourceTablePtr next = FollowCatalog(table, &now).table;
  return next->paused.empty() && IsReadTheSame(known, *next);
}

SourceTablePtr FollowReadAgain(const SourceTablePtr& known, const CatalogTable& now) {
  const Table& catalog = *now.source.table;
  SourceTable next = now.source;
  Table table = catalog;
  Schema columns = *known->table->columns;
  next.types = known->types;
  next.columns = known->columns;
  table.toastable = known->table->toastable;
  for (SourceColumn& column : next.columns) {
    column = {.is_dropped = true};
  }
  for (Field& field : columns) {
    field.nullable = true;
  }
  std::vector<uint32_t> place_of(catalog.columns->size());
  for (size_t i = 0; i < catalog.columns->size(); ++i) {
    const Field& field = (*catalog.columns)[i];
    const auto found = std::find_if(columns.begin(), columns.end(),
                                    [&](const Field& f) { return f.name == field.name; });
    auto place = static_cast<size_t>(found - columns.begin());
    if (found == columns.end()) {
      columns.push_back(field);
      next.types.emplace_back();
      next.columns.emplace_back();
      table.toastable.push_back(false);
    }
    columns[place] = field;
    next.types[place] = now.source.types[i];
    next.columns[place] = now.source.columns[i];
    // Every row is read: none is from before.
    next.columns[place].missing.reset();
    table.toastable[place] = catalog.toastable[i];
    place_of[i] = static_cast<uint32_t>(place);
  }
  const auto to_places = [&](std::vector<uint32_t>& key) {
    for (uint32_t& column : key) {
      column = place_of[column];
    }
  };
  to_places(table.primary_key);
  to_places(table.identity_index);
  for (std::vector<uint32_t>& key : table.unique_keys) {
    to_places(key);
  }
  next.mend = Mend::kNone;
  table.version = known->table->version + 1;
  table.former_names = known->table->former_names;
  table.columns = std::make_shared<const Schema>(std::move(columns));
  next.paused.clear();
  next.table = std::make_shared<const Table>(std::move(table));
  return std::make_shared<const SourceTable>(std::move(next));
}

SourceTablePtr AllowNull(const SourceTablePtr& known, size_t place) {
  TableDraft draft(known);
  draft.field(place).nullable = true;
  return draft.Finish();
}

SourceTablePtr Pause(const SourceTablePtr& known, std::string_view what_happened) {
  TableDraft draft(known);
  draft.Pause(what_happened);
  return draft.Finish();
}

SourceTablePtr PauseUntilRead(const SourceTablePtr& known, std::string_view what_happened) {
  TableDraft draft(known);
  draft.PauseUntilRead(what_happened, Mend::kReadAgain);
  return draft.Finish();
}

std::vector<std::string> NextNames(const SourceTable& known, const CatalogTable& now) {
  std::vector<std::string> names;
  bool is_other = false;
  for (size_t place = 0; place < known.columns.size(); ++place) {
    const auto at = known.columns[place].is_dropped ? std::nullopt
                                                    : FindAttnum(now, known.columns[place].attnum);
    const std::string& name = (*known.table->columns)[place].name;
    names.push_back(at ? (*now.source.table->columns)[*at].name : name);
    is_other |= names.back() != name;
  }
  return is_other ? names : std::vector<std::string>();
}

}  // namespace millrace::sources::postgres
