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

class Planner {
 public:
  explicit Planner(const StreamPlanInputs& inputs) : inputs_(inputs) {}

  Result<StreamPlan> Plan();

 private:
  Result<TablePtr> FindTable(const config::StreamInput& input) const;
  Status PlanTableStates();
  Status PlanStream(const config::StreamConfig& config);
  Result<std::unique_ptr<QueryRunner>> PlanQuery(const config::StreamConfig& config,
                                                 const Table& driving);
  Result<std::vector<uint32_t>> KeyColumns(const config::StreamConfig& config, const Table& driving,
                                           const Schema& columns,
                                           const std::vector<int>& driving_columns,
                                           std::vector<uint32_t>& driving_key) const;
  Result<std::vector<uint32_t>> AddressColumns(const Stream& stream) const;
  TableState* StateOf(const Table& table);
  void FindTableRoles();

  const StreamPlanInputs& inputs_;
  StreamPlan plan_;
};

Result<StreamPlan> Planner::Plan() {
  MR_RETURN_IF_ERROR(PlanTableStates());
  for (const config::StreamConfig& config : inputs_.config.streams) {
    MR_RETURN_IF_ERROR(PlanStream(config).WithContext(fmt::format("stream '{}'", config.name)));
  }
  FindTableRoles();
  return std::move(plan_);
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

Status Planner::PlanTableStates() {
  std::set<std::string> lookups;
  std::set<std::string> driving;
  for (const config::StreamConfig& config : inputs_.config.streams) {
    MR_ASSIGN_OR_RETURN(const TablePtr from, FindTable(config.from));
    driving.insert(from->FullName());
    for (const config::StreamInput& lookup : config.lookups) {
      MR_ASSIGN_OR_RETURN(const TablePtr table, FindTable(lookup));
      if (table->primary_key.empty()) {
        return InvalidArgument(fmt::format(
            "stream '{}': lookup {} has no primary key by which it could be joined: add one",
            config.name, table->FullName()));
      }
      lookups.insert(table->FullName());
    }
  }
  const size_t cache = kLookupCacheBytes / std::max<size_t>(1, lookups.size());
  for (const TablePtr& table : inputs_.tables) {
    const bool is_lookup = lookups.contains(table->FullName());
    if ((is_lookup || driving.contains(table->FullName())) && table->OldImagesLackKey()) {
      MR_ASSIGN_OR_RETURN(std::unique_ptr<IdentityMap> map,
                          IdentityMap::Make(table, is_lookup, inputs_.store));
      plan_.identity_maps.push_back(std::move(map));
    }
    const bool may_be_wide =
        driving.contains(table->FullName()) && !table->primary_key.empty() &&
        table->replica_identity != ReplicaIdentity::kFull &&
        std::find(table->toastable.begin(), table->toastable.end(), true) != table->toastable.end();
    if (!is_lookup && !may_be_wide) {
      continue;
    }
    MR_ASSIGN_OR_RETURN(
        std::unique_ptr<TableState> state,
        TableState::Make(table,
                         is_lookup ? TableState::Keep::kAllRows : TableState::Keep::kWideRows,
                         inputs_.store, is_lookup ? cache : size_t{1} << 20));
    plan_.table_states.push_back(std::move(state));
  }
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

Status Planner::PlanStream(const config::StreamConfig& config) {
  MR_ASSIGN_OR_RETURN(const TablePtr driving, FindTable(config.from));
  if (config.on_error == config::OnError::kDeadLetter) {
    inputs_.log.Warn("Dead letters are not kept by this version, a bad row ends the run",
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
  plan_.by_name[stream.name] = options.stream;
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
  plan_.streams.push_back(std::move(planned));
  return Status::Ok();
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
  MR_ASSIGN_OR_RETURN(std::unique_ptr<sql::PreparedQuery> query, inputs_.sql.Prepare(spec));

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
      if (!(left.type == right.type)) {
        return InvalidArgument(fmt::format(
            "the join compares {}.{} of type {} with {}.{} of type {}: rows are found by the bytes "
            "of their key, so both must have one type",
            table.FullName(), left.name, left.type.ToString(), driving.FullName(), right.name,
            right.type.ToString()));
      }
      lookup.driving_columns.push_back(driving_column);
    }
    lookups.push_back(std::move(lookup));
  }
  return std::make_unique<QueryRunner>(std::move(query), std::move(lookups));
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
  std::set<std::string> lookups;
  for (const config::StreamConfig& config : inputs_.config.streams) {
    const Result<TablePtr> driving = FindTable(config.from);
    for (const config::StreamInput& lookup : config.lookups) {
      const Result<TablePtr> found = FindTable(lookup);
      if (found.ok()) {
        lookups.insert((*found)->FullName());
      }
      if (found.ok() && driving.ok()) {
        roles.joined_by[(*driving)->FullName()].push_back((*found)->FullName());
      }
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
      if (lookups.contains(table->FullName()) == are_lookups) {
        add(table->FullName());
      }
    }
  }
  roles.lookups.assign(lookups.begin(), lookups.end());
}

}  // namespace

Result<StreamPlan> PlanStreams(const StreamPlanInputs& inputs) { return Planner(inputs).Plan(); }

}  // namespace millrace::pipeline
