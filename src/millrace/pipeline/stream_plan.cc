// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/stream_plan.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace millrace::pipeline {

namespace {

// What all reference tables together keep decoded in memory.
constexpr size_t kLookupCacheBytes = 32 << 20;

// How often SQL is tried on names of other versions of its tables.
constexpr size_t kNameTriesMax = 64;

// Whether equal values of both types give equal bytes of a key: see storage/row_codec.h.
bool HaveSameKeys(const DataType& a, const DataType& b) {
  const auto is_integer = [](const DataType& type) {
    return type.kind >= TypeKind::kInt8 && type.kind <= TypeKind::kInt64;
  };
  const auto is_text = [](const DataType& type) {
    return type.kind == TypeKind::kText || type.kind == TypeKind::kEnum;
  };
  return a == b || (is_integer(a) && is_integer(b)) || (is_text(a) && is_text(b));
}

// The columns of a table: as they are called, as they will be, as they were, newest first.
std::vector<SchemaPtr> NamedSchemas(const Table& table) {
  std::vector<SchemaPtr> schemas = {table.columns};
  std::vector<std::vector<std::string>> others = table.former_names;
  others.insert(others.begin(), table.next_names);
  for (const std::vector<std::string>& names : others) {
    Schema schema = *table.columns;
    for (size_t i = 0; i < std::min(names.size(), schema.size()); ++i) {
      schema[i].name = names[i];
    }
    std::set<std::string> distinct;
    for (const Field& field : schema) {
      distinct.insert(field.name);
    }
    if (distinct.size() == schema.size() && schema != *table.columns) {
      schemas.push_back(std::make_shared<const Schema>(std::move(schema)));
    }
  }
  return schemas;
}

std::string FullNameOf(const config::StreamInput& input) {
  return fmt::format("{}.{}", input.table.schema, input.table.name);
}

class Planner {
 public:
  explicit Planner(const StreamPlanInputs& inputs) : inputs_(inputs) {}

  // On failure, `at_fault` is the table that drives the stream that does not fit.
  Result<StreamPlan> Plan(std::string& at_fault);
  Result<std::vector<StreamPtr>> Follow(const TablePtr& newer, StreamPlan& plan);

 private:
  Result<TablePtr> FindTable(const config::StreamInput& input) const;
  Status PlanTableStates(std::string& at_fault);
  Status PlanTableState(const TablePtr& table);
  Status PlanIdentityMap(const TablePtr& table);
  bool IsLookup(const Table& table) const;
  bool IsDriving(const Table& table) const;
  Result<PlannedStream> PlanStream(const config::StreamConfig& config);
  Result<std::unique_ptr<QueryRunner>> PlanQuery(const config::StreamConfig& config,
                                                 const Table& driving);
  Result<std::unique_ptr<sql::PreparedQuery>> Prepare(const sql::QuerySpec& spec,
                                                      const std::vector<const Table*>& tables);
  Result<std::vector<uint32_t>> KeyColumns(const config::StreamConfig& config, const Table& driving,
                                           const Schema& columns,
                                           const std::vector<int>& driving_columns,
                                           std::vector<uint32_t>& driving_key) const;
  Result<std::vector<uint32_t>> AddressColumns(const Stream& stream) const;
  TableState* StateOf(const Table& table);
  void FindTableRoles();
  // Why the stream waits for its table; empty: it does not.
  std::string WaitsFor(const config::StreamConfig& config) const;

  const StreamPlanInputs& inputs_;
  StreamPlan plan_;
};

std::string Planner::WaitsFor(const config::StreamConfig& config) const {
  const std::string table = FullNameOf(config.from);
  if (const auto left_out = inputs_.left_out.find(table); left_out != inputs_.left_out.end()) {
    return fmt::format("stream '{}' waits for table {}, which is left out", config.name, table);
  }
  const config::SourceConfig& source = inputs_.config.source;
  const bool may_come =
      source.discover && std::any_of(source.table_patterns.begin(), source.table_patterns.end(),
                                     [&](const config::TablePattern& pattern) {
                                       return !pattern.exact().has_value() &&
                                              pattern.Matches(config.from.table);
                                     });
  return may_come && !FindTable(config.from).ok()
             ? fmt::format("stream '{}' waits for table {}, which is not there yet", config.name,
                           table)
             : std::string();
}

Result<StreamPlan> Planner::Plan(std::string& at_fault) {
  for (const config::StreamConfig& config : inputs_.config.streams) {
    if (std::string waits = WaitsFor(config); !waits.empty()) {
      plan_.waiting[config.name] = {FullNameOf(config.from), std::move(waits)};
    }
  }
  MR_RETURN_IF_ERROR(PlanTableStates(at_fault));
  for (const config::StreamConfig& config : inputs_.config.streams) {
    if (plan_.waiting.contains(config.name)) {
      continue;
    }
    at_fault = FullNameOf(config.from);
    Result<PlannedStream> planned = PlanStream(config);
    if (!planned.ok()) {
      return planned.status().WithContext(fmt::format("stream '{}'", config.name));
    }
    plan_.by_name[config.name] = planned->stream();
    plan_.streams.push_back(*std::move(planned));
  }
  FindTableRoles();
  plan_.tables = inputs_.tables;
  plan_.table_roles.left_out = inputs_.left_out;
  return std::move(plan_);
}

Result<std::vector<StreamPtr>> Planner::Follow(const TablePtr& newer, StreamPlan& plan) {
  plan_ = std::move(plan);
  if (TableState* state = StateOf(*newer); state != nullptr) {
    MR_RETURN_IF_ERROR(state->Follow(newer));
    MR_RETURN_IF_ERROR(PlanIdentityMap(newer));
  } else {
    MR_RETURN_IF_ERROR(PlanTableState(newer));
  }
  std::vector<StreamPtr> changed;
  for (PlannedStream& stream : plan_.streams) {
    const config::StreamConfig& config = *std::find_if(
        inputs_.config.streams.begin(), inputs_.config.streams.end(),
        [&](const config::StreamConfig& known) { return known.name == stream.stream()->name; });
    std::vector<config::StreamInput> reads = config.lookups;
    reads.push_back(config.from);
    const bool is_read = std::any_of(reads.begin(), reads.end(), [&](const auto& input) {
      return input.table.schema == newer->schema && input.table.name == newer->name;
    });
    if (!is_read) {
      continue;
    }
    Result<PlannedStream> planned = PlanStream(config);
    if (!planned.ok()) {
      return planned.status().WithContext(
          fmt::format("stream '{}': table {} has other columns now, and the stream no longer fits: "
                      "change it, then start again",
                      config.name, newer->FullName()));
    }
    if (planned->stream()->schema_version != stream.stream()->schema_version) {
      changed.push_back(planned->stream());
      plan_.by_name[config.name] = planned->stream();
    }
    stream = *std::move(planned);
  }
  plan = std::move(plan_);
  return changed;
}

Result<TablePtr> Planner::FindTable(const config::StreamInput& input) const {
  for (const TablePtr& table : inputs_.tables) {
    if (table->schema == input.table.schema && table->name == input.table.name) {
      return table;
    }
  }
  return InvalidArgument(fmt::format(
      "table {} is not among source.tables, or does not exist: add it there", input.text));
}

bool Planner::IsLookup(const Table& table) const {
  return std::any_of(
      inputs_.config.streams.begin(), inputs_.config.streams.end(), [&](const auto& config) {
        return std::any_of(config.lookups.begin(), config.lookups.end(), [&](const auto& lookup) {
          return lookup.table.schema == table.schema && lookup.table.name == table.name;
        });
      });
}

bool Planner::IsDriving(const Table& table) const {
  return std::any_of(
      inputs_.config.streams.begin(), inputs_.config.streams.end(), [&](const auto& config) {
        return config.from.table.schema == table.schema && config.from.table.name == table.name;
      });
}

Status Planner::PlanTableStates(std::string& at_fault) {
  for (const config::StreamConfig& config : inputs_.config.streams) {
    if (plan_.waiting.contains(config.name)) {
      continue;
    }
    at_fault = FullNameOf(config.from);
    MR_RETURN_IF_ERROR(FindTable(config.from).status());
    for (const config::StreamInput& lookup : config.lookups) {
      MR_ASSIGN_OR_RETURN(const TablePtr table, FindTable(lookup));
      if (table->primary_key.empty()) {
        return InvalidArgument(fmt::format(
            "stream '{}': lookup {} has no primary key by which it could be joined: add one",
            config.name, table->FullName()));
      }
    }
  }
  for (const TablePtr& table : inputs_.tables) {
    at_fault = table->FullName();
    MR_RETURN_IF_ERROR(PlanTableState(table));
  }
  return Status::Ok();
}

// Makes the map of the table's keys, in place of one of an earlier version, if streams need one.
Status Planner::PlanIdentityMap(const TablePtr& table) {
  std::erase_if(plan_.identity_maps, [&](const std::unique_ptr<IdentityMap>& map) {
    return map->table().FullName() == table->FullName();
  });
  const bool is_lookup = IsLookup(*table);
  if ((is_lookup || IsDriving(*table)) && table->OldImagesLackKey()) {
    MR_ASSIGN_OR_RETURN(std::unique_ptr<IdentityMap> map,
                        IdentityMap::Make(table, is_lookup, inputs_.store));
    plan_.identity_maps.push_back(std::move(map));
  }
  return Status::Ok();
}

// Makes the table's state if streams need one.
Status Planner::PlanTableState(const TablePtr& table) {
  MR_RETURN_IF_ERROR(PlanIdentityMap(table));
  const bool is_lookup = IsLookup(*table);
  const bool may_be_wide =
      IsDriving(*table) && !table->primary_key.empty() &&
      table->replica_identity != ReplicaIdentity::kFull &&
      std::find(table->toastable.begin(), table->toastable.end(), true) != table->toastable.end();
  if (!is_lookup && !may_be_wide) {
    return Status::Ok();
  }
  const auto lookups =
      static_cast<size_t>(std::count_if(inputs_.tables.begin(), inputs_.tables.end(),
                                        [&](const TablePtr& other) { return IsLookup(*other); }));
  MR_ASSIGN_OR_RETURN(
      std::unique_ptr<TableState> state,
      TableState::Make(table, is_lookup ? TableState::Keep::kAllRows : TableState::Keep::kWideRows,
                       inputs_.store, is_lookup ? kLookupCacheBytes / lookups : size_t{1} << 20));
  plan_.table_states.push_back(std::move(state));
  return Status::Ok();
}

TableState* Planner::StateOf(const Table& table) {
  for (const std::unique_ptr<TableState>& state : plan_.table_states) {
    if (state->table().FullName() == table.FullName()) {
      return state.get();
    }
  }
  return nullptr;
}

Result<PlannedStream> Planner::PlanStream(const config::StreamConfig& config) {
  MR_ASSIGN_OR_RETURN(const TablePtr driving, FindTable(config.from));
  if (config.on_error == config::OnError::kDeadLetter && !config.is_mirror()) {
    inputs_.log.Warn(
        "A row that the SQL cannot take still ends the run; what a sink cannot take is "
        "kept as a dead letter",
        {{"stream", config.name}});
  }
  PlannedStream planned;
  planned.driving = driving;
  Stream stream;
  stream.name = config.name;
  stream.append_only = config.append_only;
  std::vector<int> driving_columns;
  if (config.sql.empty()) {
    stream.columns = driving->columns;
    stream.table = driving->FullName();
    stream.fill = driving->fill;
    stream.former_names = driving->former_names;
    for (int i = 0; i < static_cast<int>(driving->columns->size()); ++i) {
      driving_columns.push_back(i);
    }
  } else {
    MR_ASSIGN_OR_RETURN(planned.query, PlanQuery(config, *driving));
    stream.columns = planned.query->query().columns();
    driving_columns = planned.query->query().driving_columns();
  }
  OutputBuilder::Options options;
  MR_ASSIGN_OR_RETURN(stream.key, KeyColumns(config, *driving, *stream.columns, driving_columns,
                                             options.driving_key));
  MR_ASSIGN_OR_RETURN(options.address, AddressColumns(stream));
  MR_ASSIGN_OR_RETURN(const StreamPtr opened, inputs_.store.OpenStream(stream));
  auto configured = std::make_shared<Stream>(*opened);
  configured->out_of_range = config.out_of_range;
  options.stream = std::move(configured);
  MR_ASSIGN_OR_RETURN(planned.outputs, OutputBuilder::Make(std::move(options), inputs_.store));
  planned.state.push_back(planned.outputs->state());
  std::vector<config::StreamInput> reads = config.lookups;
  reads.push_back(config.from);
  for (const config::StreamInput& input : reads) {
    MR_ASSIGN_OR_RETURN(const TablePtr table, FindTable(input));
    if (const TableState* table_state = StateOf(*table); table_state != nullptr) {
      planned.state.push_back(table_state->id());
    }
  }
  return planned;
}

Result<std::unique_ptr<QueryRunner>> Planner::PlanQuery(const config::StreamConfig& config,
                                                        const Table& driving) {
  sql::QuerySpec spec;
  spec.sql = config.sql;
  spec.out_of_range = config.out_of_range;
  spec.driving = {.schema = driving.schema, .name = driving.name, .columns = driving.columns};
  std::vector<TablePtr> tables;
  for (const config::StreamInput& lookup : config.lookups) {
    MR_ASSIGN_OR_RETURN(TablePtr table, FindTable(lookup));
    spec.lookups.push_back({.schema = table->schema,
                            .name = table->name,
                            .columns = table->columns,
                            .keys = {table->primary_key}});
    tables.push_back(std::move(table));
  }
  std::vector<const Table*> read = {&driving};
  for (const TablePtr& table : tables) {
    read.push_back(table.get());
  }
  MR_ASSIGN_OR_RETURN(std::unique_ptr<sql::PreparedQuery> query, Prepare(spec, read));

  std::vector<QueryRunner::Lookup> lookups;
  for (size_t i = 0; i < tables.size(); ++i) {
    const Table& table = *tables[i];
    const sql::LookupJoin& join = query->joins()[i];
    QueryRunner::Lookup lookup{.state = StateOf(table), .columns = table.columns};
    for (const uint32_t key_column : table.primary_key) {
      const auto at = std::find(join.lookup_columns.begin(), join.lookup_columns.end(), key_column);
      MR_CHECK(at != join.lookup_columns.end());
      const uint32_t driving_column =
          join.driving_columns[static_cast<size_t>(at - join.lookup_columns.begin())];
      const Field& left = (*table.columns)[key_column];
      const Field& right = (*driving.columns)[driving_column];
      if (!HaveSameKeys(left.type, right.type)) {
        return InvalidArgument(fmt::format(
            "the join compares {}.{} of type {} with {}.{} of type {}: rows are found by the bytes "
            "of their key, so both must be integers, or texts, or have one type",
            table.FullName(), left.name, left.type.ToString(), driving.FullName(), right.name,
            right.type.ToString()));
      }
      lookup.driving_columns.push_back(driving_column);
    }
    lookups.push_back(std::move(lookup));
  }
  return std::make_unique<QueryRunner>(std::move(query), std::move(lookups));
}

// Prepares the SQL on the tables' present names; where it does not fit them, on the names that the
// tables had in earlier versions or will have, table by table: the columns are the same.
Result<std::unique_ptr<sql::PreparedQuery>> Planner::Prepare(
    const sql::QuerySpec& spec, const std::vector<const Table*>& tables) {
  Result<std::unique_ptr<sql::PreparedQuery>> present = inputs_.sql.Prepare(spec);
  if (present.ok() || present.status().code() != Code::kInvalidArgument) {
    return present;
  }
  // Each combination once, as digits of a number; bounded.
  std::vector<std::vector<SchemaPtr>> choices;
  size_t combinations = 1;
  for (const Table* table : tables) {
    choices.push_back(NamedSchemas(*table));
    combinations = std::min(combinations * choices.back().size(), kNameTriesMax);
  }
  for (size_t i = 1; i < combinations; ++i) {
    sql::QuerySpec other = spec;
    size_t digits = i;
    for (size_t t = 0; t < tables.size(); ++t) {
      sql::QueryInput& input = t == 0 ? other.driving : other.lookups[t - 1];
      input.columns = choices[t][digits % choices[t].size()];
      digits /= choices[t].size();
    }
    Result<std::unique_ptr<sql::PreparedQuery>> query = inputs_.sql.Prepare(other);
    if (query.ok()) {
      inputs_.log.Warn(
          "The SQL of a stream uses names that columns no longer have, or do not have yet",
          {{"table", tables.front()->FullName()}});
      return query;
    }
  }
  return present;
}

// The stream's key, which must be the driving table's primary key under any names, so that a delete
// is known by its key alone.
Result<std::vector<uint32_t>> Planner::KeyColumns(const config::StreamConfig& config,
                                                  const Table& driving, const Schema& columns,
                                                  const std::vector<int>& driving_columns,
                                                  std::vector<uint32_t>& driving_key) const {
  std::vector<uint32_t> key;
  if (config.append_only) {
    if (!config.key.empty() && config.sql.empty()) {
      return InvalidArgument("a mirror that is append_only has no key: remove `key`");
    }
  } else if (driving.primary_key.empty()) {
    return InvalidArgument(
        fmt::format("table {} has no primary key: set append_only: true if its rows are only ever "
                    "inserted, or give the table a primary key",
                    driving.FullName()));
  }
  std::vector<std::string> names = config.key;
  if (names.empty() && !config.append_only) {
    for (const uint32_t column : driving.primary_key) {
      const auto at =
          std::find(driving_columns.begin(), driving_columns.end(), static_cast<int>(column));
      if (at == driving_columns.end()) {
        return InvalidArgument(fmt::format(
            "the result lacks column {} of the primary key of {}: select it, and name it in `key`",
            (*driving.columns)[column].name, driving.FullName()));
      }
      names.push_back(columns[static_cast<size_t>(at - driving_columns.begin())].name);
    }
  }
  for (const std::string& name : names) {
    const auto at = std::find_if(columns.begin(), columns.end(),
                                 [&](const Field& field) { return field.name == name; });
    if (at == columns.end()) {
      return InvalidArgument(fmt::format("key column '{}' is not a column of the result", name));
    }
    const auto column = static_cast<uint32_t>(at - columns.begin());
    key.push_back(column);
    if (driving_columns[column] < 0) {
      return InvalidArgument(
          fmt::format("key column '{}' must be a plain column of {}, so that a delete is known by "
                      "its key",
                      name, driving.FullName()));
    }
    driving_key.push_back(static_cast<uint32_t>(driving_columns[column]));
  }
  if (!config.append_only && std::set(driving_key.begin(), driving_key.end()) !=
                                 std::set(driving.primary_key.begin(), driving.primary_key.end())) {
    std::vector<std::string> wanted;
    for (const uint32_t column : driving.primary_key) {
      wanted.push_back((*driving.columns)[column].name);
    }
    return InvalidArgument(fmt::format("`key` must be the primary key of {}: {}",
                                       driving.FullName(), fmt::join(wanted, ", ")));
  }
  return key;
}

// The key, then everything else by which some sink addresses a row of the stream.
Result<std::vector<uint32_t>> Planner::AddressColumns(const Stream& stream) const {
  std::set<uint32_t> others;
  for (const sinks::StreamUse& use : inputs_.uses) {
    if (use.stream != stream.name) {
      continue;
    }
    for (const std::string& name : use.address_columns) {
      const int column = stream.FindColumn(name);
      if (column < 0) {
        return InvalidArgument(
            fmt::format("a sink addresses its rows by '{}', which is not a column of it", name));
      }
      if (std::find(stream.key.begin(), stream.key.end(), static_cast<uint32_t>(column)) ==
          stream.key.end()) {
        others.insert(static_cast<uint32_t>(column));
      }
    }
  }
  std::vector<uint32_t> address = stream.key;
  address.insert(address.end(), others.begin(), others.end());
  return address;
}

void Planner::FindTableRoles() {
  sources::TableRoles& roles = plan_.table_roles;
  for (const config::StreamConfig& config : inputs_.config.streams) {
    const Result<TablePtr> driving = FindTable(config.from);
    for (const config::StreamInput& lookup : config.lookups) {
      const Result<TablePtr> found = FindTable(lookup);
      if (found.ok() && driving.ok()) {
        roles.joined_by[(*driving)->FullName()].push_back((*found)->FullName());
      }
    }
  }
  for (const PlannedStream& planned : plan_.streams) {
    if (planned.stream()->append_only) {
      roles.append_only.push_back(planned.driving->FullName());
    }
  }
  // Each behind those that its streams join, where they do not join in a circle.
  std::set<std::string> seen;
  const std::function<void(const std::string&)> add = [&](const std::string& name) {
    if (!seen.insert(name).second) {
      return;
    }
    if (const auto joined = roles.joined_by.find(name); joined != roles.joined_by.end()) {
      for (const std::string& lookup : joined->second) {
        add(lookup);
      }
    }
    roles.snapshot_order.push_back(name);
  };
  for (const bool are_lookups : {true, false}) {
    for (const TablePtr& table : inputs_.tables) {
      if (IsLookup(*table) == are_lookups) {
        add(table->FullName());
        if (are_lookups) {
          roles.lookups.push_back(table->FullName());
        }
      }
    }
  }
}

}  // namespace

Result<StreamPlan> PlanStreams(const StreamPlanInputs& inputs) {
  StreamPlanInputs rest = inputs;
  for (;;) {
    std::erase_if(rest.tables,
                  [&](const TablePtr& table) { return rest.left_out.contains(table->FullName()); });
    std::string at_fault;
    Result<StreamPlan> plan = Planner(rest).Plan(at_fault);
    const bool may_be_left_out = std::find(rest.candidates.begin(), rest.candidates.end(),
                                           at_fault) != rest.candidates.end() &&
                                 !rest.left_out.contains(at_fault);
    if (plan.ok() || !may_be_left_out) {
      return plan;
    }
    rest.left_out[at_fault] = sources::LeftOutSentence(at_fault, plan.status());
  }
}

Result<std::vector<StreamPtr>> FollowTable(const TablePtr& newer, StreamPlanInputs& inputs,
                                           StreamPlan& plan) {
  for (TablePtr& table : inputs.tables) {
    if (table->FullName() == newer->FullName()) {
      table = newer;
    }
  }
  return Planner(inputs).Follow(newer, plan);
}

}  // namespace millrace::pipeline
