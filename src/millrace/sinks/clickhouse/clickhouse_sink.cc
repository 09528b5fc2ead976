// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_sink.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "millrace/common/check.h"
#include "millrace/common/failpoint.h"

namespace millrace::sinks::clickhouse {

namespace {

// How long an idle sink waits for the answer that tells that the server is alive.
constexpr std::chrono::milliseconds kLivenessTimeout{5'000};
// A token in a table that counts blocks is trusted this long: other writers would have to insert
// kDeduplicationWindow blocks meanwhile.
constexpr std::chrono::seconds kTokenTrust{3'600};

// Runs of rows of `slice` for which `takes` is true.
template <typename Predicate>
void AppendRuns(const OutputSlice& slice, Predicate takes, std::vector<OutputSlice>& runs) {
  for (size_t row = slice.begin; row < slice.end; ++row) {
    if (!takes(row)) {
      continue;
    }
    if (!runs.empty() && runs.back().batch == slice.batch && runs.back().end == row) {
      ++runs.back().end;
    } else {
      runs.push_back({slice.batch, row, row + 1});
    }
  }
}

size_t RowCount(const std::vector<OutputSlice>& slices) {
  size_t rows = 0;
  for (const OutputSlice& slice : slices) {
    rows += slice.row_count();
  }
  return rows;
}

std::string Range(Offset first, Offset end) {
  return fmt::format("{}-{}", first.value(), end.value());
}

}  // namespace

ClickHouseSink::ClickHouseSink(ClickHouseOptions options, SinkContext context, Clock clock)
    : options_(std::move(options)),
      context_(std::move(context)),
      clock_(std::move(clock)),
      streams_(context_.streams) {}

Result<std::unique_ptr<ClickHouseSink>> ClickHouseSink::Make(ClickHouseOptions options,
                                                             SinkContext context, Clock clock) {
  MR_CHECK(context.delivery_log != nullptr);
  std::unique_ptr<ClickHouseSink> sink(
      new ClickHouseSink(std::move(options), std::move(context), std::move(clock)));
  const Result<std::vector<TableNeed>> needs = sink->MakeNeeds("");
  if (!needs.ok()) {
    return needs.status();
  }
  return sink;
}

StreamPtr ClickHouseSink::AsConfigured(const StreamPtr& stream) const {
  const auto configured = context_.streams.find(stream->name);
  if (configured == context_.streams.end() ||
      configured->second->out_of_range == stream->out_of_range) {
    return stream;
  }
  auto copy = std::make_shared<Stream>(*stream);
  copy->out_of_range = configured->second->out_of_range;
  return copy;
}

Result<StreamPtr> ClickHouseSink::StreamOf(const TableOptions& table) const {
  const auto newest = streams_.find(table.stream);
  if (newest == streams_.end()) {
    return InvalidArgument(
        fmt::format("table '{}': there is no stream '{}'", table.table, table.stream));
  }
  for (const TablePlan& planned : plan_ ? plan_->tables : std::vector<TablePlan>()) {
    if (planned.table != table.table || !context_.find_stream ||
        planned.stream_id != newest->second->id.value()) {
      continue;
    }
    if (const StreamPtr stream = context_.find_stream(StreamId(planned.stream_id),
                                                      SchemaVersion(planned.schema_version))) {
      return AsConfigured(stream);
    }
  }
  return newest->second;
}

Result<TableNeed> ClickHouseSink::MakeNeed(const TableOptions& table, const StreamPtr& stream,
                                           std::string_view naive_zone) const {
  Result<TableNeed> need = MakeTableNeed(table, options_.database, stream, naive_zone);
  if (!need.ok()) {
    return need.status().WithContext(fmt::format("table '{}'", table.table));
  }
  for (uint32_t v = stream->schema_version.value(); v > 1 && context_.find_stream;) {
    if (StreamPtr earlier = context_.find_stream(stream->id, SchemaVersion(--v))) {
      need->earlier.push_back(std::move(earlier));
    }
  }
  return need;
}

Result<std::vector<TableNeed>> ClickHouseSink::MakeNeeds(std::string_view naive_zone) const {
  std::vector<TableNeed> needs;
  for (const TableOptions& table : options_.tables) {
    MR_ASSIGN_OR_RETURN(const StreamPtr stream, StreamOf(table));
    MR_ASSIGN_OR_RETURN(TableNeed need, MakeNeed(table, stream, naive_zone));
    needs.push_back(std::move(need));
  }
  return needs;
}

PrepareOptions ClickHouseSink::MakePrepareOptions() const {
  PrepareOptions prepare;
  prepare.accept_inexact_views = options_.accept_inexact_views;
  prepare.has_position = position_.has_value() && position_->value() != 0;
  for (const TablePlan& table : plan_ ? plan_->tables : std::vector<TablePlan>()) {
    prepare.planned_tables.insert(table.table);
  }
  return prepare;
}

Result<SinkPosition> ClickHouseSink::Open(std::stop_token stop) {
  Close();
  Result<SinkPosition> position = Connect(std::move(stop));
  if (!position.ok()) {
    Close();
  }
  return position;
}

Result<SinkPosition> ClickHouseSink::Connect(std::stop_token stop) {
  MR_ASSIGN_OR_RETURN(const DeliveryLog::State state, context_.delivery_log->Load());
  position_ = state.delivered;
  if (!state.plan.empty()) {
    MR_ASSIGN_OR_RETURN(plan_, DeliveryPlan::Parse(state.plan));
    if (state.delivered != plan_->first) {
      return Corruption("the stored delivery plan does not begin at the stored position");
    }
  }
  MR_ASSIGN_OR_RETURN(client_, ClickHouseClient::Make(options_.http));
  MR_ASSIGN_OR_RETURN(facts_, ReadServerFacts(*client_, stop));
  MR_ASSIGN_OR_RETURN(needs_, MakeNeeds(facts_.naive_zone));
  MR_ASSIGN_OR_RETURN(prepared_, PrepareTables(*client_, facts_, needs_, MakePrepareOptions(),
                                               context_.log, std::move(stop)));
  SinkPosition position;
  position.delivered = position_;
  if (plan_.has_value()) {
    position.pending_end = plan_->end;
  }
  return position;
}

Status ClickHouseSink::Prepare(const StreamPtr& version, std::stop_token stop) {
  const StreamPtr stream = AsConfigured(version);
  if (client_ == nullptr || plan_.has_value()) {
    return Internal("a version of a stream for a sink that is not open, or that has an open plan");
  }
  const auto known = streams_.find(stream->name);
  if (known != streams_.end() && known->second->schema_version < stream->schema_version) {
    known->second = stream;
  }
  for (size_t i = 0; i < needs_.size(); ++i) {
    if (needs_[i].stream->id != stream->id ||
        needs_[i].stream->schema_version >= stream->schema_version) {
      continue;
    }
    Result<TableNeed> need = MakeNeed(options_.tables[i], stream, facts_.naive_zone);
    if (!need.ok()) {
      // The configuration fitted the columns as they were.
      return FailedPrecondition(need.status().message());
    }
    MR_ASSIGN_OR_RETURN(
        std::vector<PreparedTable> prepared,
        PrepareTables(*client_, facts_, {*need}, MakePrepareOptions(), context_.log, stop));
    needs_[i] = *std::move(need);
    prepared_[i] = std::move(prepared.front());
  }
  return Status::Ok();
}

Status ClickHouseSink::Deliver(const DeliveryBatch& batch, std::stop_token stop) {
  if (client_ == nullptr) {
    return Internal("a delivery to a sink that is not open");
  }
  if (batch.end < batch.first || (position_.has_value() && batch.first != *position_)) {
    return Internal(fmt::format("offsets {} were offered to a sink that is at {}",
                                Range(batch.first, batch.end),
                                position_.value_or(Offset()).value()));
  }
  // Rows are refused before anything is planned: an open plan has none.
  MR_ASSIGN_OR_RETURN(const std::vector<Block> blocks, MakeBlocks(batch));
  const DeliveryPlan plan = MakePlan(batch, blocks);
  const bool is_repeat = plan_.has_value();
  if (is_repeat) {
    MR_RETURN_IF_ERROR(CheckSamePlan(*plan_, plan));
  } else if (!blocks.empty()) {
    if (stop.stop_requested()) {
      return Cancelled("delivery: stopped");
    }
    MR_RETURN_IF_ERROR(context_.delivery_log->SavePlan(batch.first, plan.Format()));
    plan_ = plan;
  }
  if (!blocks.empty()) {
    MR_FAILPOINT("clickhouse.after_plan_before_insert");
    MR_RETURN_IF_ERROR(InsertAll(blocks, is_repeat, std::move(stop)));
    MR_FAILPOINT("clickhouse.after_insert_before_position");
  }
  MR_RETURN_IF_ERROR(context_.delivery_log->SavePosition(batch.end));
  plan_.reset();
  position_ = batch.end;
  return Status::Ok();
}

Result<std::vector<ClickHouseSink::Block>> ClickHouseSink::MakeBlocks(const DeliveryBatch& batch) {
  std::vector<Block> blocks;
  Status failure;
  refused_ = {};
  for (size_t i = 0; i < options_.tables.size(); ++i) {
    const TableOptions& options = options_.tables[i];
    Block block;
    block.table = i;
    for (const OutputSlice& slice : batch.slices) {
      if (slice.batch->stream->id != needs_[i].stream->id) {
        continue;
      }
      if (options.snapshot) {
        block.slices.push_back(slice);
      } else {
        AppendRuns(
            slice, [&](size_t row) { return slice.batch->ops[row] != OutputOp::kRead; },
            block.slices);
      }
    }
    if (RowCount(block.slices) == 0) {
      continue;
    }
    const TableNeed& need = needs_[i];
    if (block.slices.back().batch->stream->schema_version > need.stream->schema_version) {
      return Internal(fmt::format("rows of a newer version of the stream '{}' than its table is of",
                                  need.stream->name));
    }
    block.encoder =
        std::make_unique<NativeEncoder>(need.stream, need.as_string, need.stream->out_of_range);
    const Status encoded = block.encoder->Encode(block.slices, block.bytes);
    if (encoded.code() == Code::kInvalidArgument) {
      refused_.rows.merge(block.encoder->FindRefused(block.slices));
      failure = failure.ok() ? encoded : failure;
      continue;
    }
    MR_RETURN_IF_ERROR(encoded);
    blocks.push_back(std::move(block));
  }
  if (!failure.ok()) {
    return failure;
  }
  return blocks;
}

DeliveryPlan ClickHouseSink::MakePlan(const DeliveryBatch& batch,
                                      const std::vector<Block>& blocks) const {
  DeliveryPlan plan;
  plan.first = batch.first;
  plan.end = batch.end;
  plan.position = batch.position;
  plan.encoder_version = kEncoderVersion;
  plan.planned_at = clock_();
  for (const Block& block : blocks) {
    const Stream& stream = *block.encoder->stream();
    TablePlan table;
    table.database = options_.database;
    table.table = options_.tables[block.table].table;
    table.stream_id = stream.id.value();
    table.schema_version = stream.schema_version.value();
    table.row_count = RowCount(block.slices);
    table.byte_count = block.bytes.size();
    table.layout = Checksum(std::string_view(block.encoder->layout()));
    table.checksum = Checksum(block.bytes.Pieces());
    // The checksum keeps a token that named other rows, in a data_dir since restored, from
    // swallowing these.
    table.token =
        fmt::format("{}/{}/{}/{}/{}/{:016x}", context_.instance_id, context_.pipeline,
                    context_.name, table.table, Range(batch.first, batch.end), table.checksum);
    plan.tables.push_back(std::move(table));
  }
  return plan;
}

Status ClickHouseSink::InsertAll(const std::vector<Block>& blocks, bool is_repeat,
                                 std::stop_token stop) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    const Block& block = blocks[i];
    const TablePlan& plan = plan_->tables[i];
    if (i != 0) {
      MR_FAILPOINT("clickhouse.between_inserts");
    }
    const Status status =
        is_repeat ? InsertAgain(block, plan, stop) : Insert(block, plan.token, stop);
    MR_RETURN_IF_ERROR(
        status.WithContext(fmt::format("insert into {}", needs_[block.table].QualifiedName())));
  }
  return Status::Ok();
}

Status ClickHouseSink::Insert(const Block& block, const std::string& token, std::stop_token stop) {
  Settings settings = facts_.insert_settings;
  settings["insert_deduplication_token"] = token;
  const std::string sql =
      fmt::format("INSERT INTO {} ({}) FORMAT Native", needs_[block.table].QualifiedName(),
                  block.encoder->column_list());
  return client_->Insert(sql, settings, block.bytes.Pieces(), std::move(stop));
}

bool ClickHouseSink::MayHaveForgotten(const PreparedTable& table) const {
  const std::optional<std::chrono::milliseconds> age = Elapsed(plan_->planned_at, clock_());
  // Half of the lifetime: the clocks of two machines, and the time that the insert itself takes.
  const std::chrono::seconds trust =
      table.is_replicated ? std::min(table.token_lifetime / 2, kTokenTrust) : kTokenTrust;
  return !age || *age > trust;
}

Result<size_t> ClickHouseSink::CountFound(const Block& block, std::stop_token stop,
                                          std::map<UInt128, size_t>& missing) {
  for (const OutputSlice& slice : block.slices) {
    for (size_t row = slice.begin; row < slice.end; ++row) {
      ++missing[slice.batch->VersionOf(row).Encode()];
    }
  }
  const std::string sql = fmt::format(
      "SELECT toString(_version), toString(count()) FROM {} WHERE _version BETWEEN "
      "toUInt128('{}') AND toUInt128('{}') GROUP BY _version SETTINGS "
      "select_sequential_consistency = 1",
      needs_[block.table].QualifiedName(), FormatUInt128(missing.begin()->first),
      FormatUInt128(missing.rbegin()->first));
  MR_ASSIGN_OR_RETURN(const ClickHouseClient::Rows rows, client_->Select(sql, std::move(stop)));
  size_t found = 0;
  std::map<std::string, size_t> present;
  for (const auto& row : rows) {
    size_t count = 0;
    std::from_chars(row[1].data(), row[1].data() + row[1].size(), count);
    present[row[0]] = count;
  }
  for (auto& [version, count] : missing) {
    const auto at = present.find(FormatUInt128(version));
    const size_t there = at == present.end() ? 0 : std::min(count, at->second);
    count -= there;
    found += there;
  }
  return found;
}

Status ClickHouseSink::InsertAgain(const Block& block, const TablePlan& plan,
                                   std::stop_token stop) {
  if (MayHaveForgotten(prepared_[block.table])) {
    return InsertMissing(block, plan, std::move(stop));
  }
  if (!prepared_[block.table].has_views) {
    // Other writers may have pushed the token out of the table's window. An insert that still runs
    // on the server shows no row or some, and meets its own token.
    std::map<UInt128, size_t> missing;
    MR_ASSIGN_OR_RETURN(const size_t found, CountFound(block, stop, missing));
    if (found == plan.row_count) {
      return Status::Ok();
    }
  }
  return Insert(block, plan.token, std::move(stop));
}

Status ClickHouseSink::InsertMissing(const Block& block, const TablePlan& plan,
                                     std::stop_token stop) {
  std::map<UInt128, size_t> missing;
  MR_ASSIGN_OR_RETURN(const size_t found, CountFound(block, stop, missing));
  context_.log.Warn("Delivery settled by reading the table, its token may be forgotten",
                    {{"table", plan.table}, {"rows", plan.row_count}, {"rows_found", found}});
  if (found == 0) {
    return Insert(block, plan.token, std::move(stop));
  }
  if (prepared_[block.table].has_views && !options_.accept_inexact_views) {
    return FailedPrecondition(
        "rows of an interrupted delivery are there, but whether the materialized views behind the "
        "table have them can no longer be told; rebuild the views, then set accept_inexact_views: "
        "true for one start");
  }
  if (found == plan.row_count) {
    return Status::Ok();
  }
  Block rest;
  rest.table = block.table;
  for (const OutputSlice& slice : block.slices) {
    AppendRuns(
        slice,
        [&](size_t row) {
          size_t& count = missing[slice.batch->VersionOf(row).Encode()];
          const bool takes = count != 0;
          count -= takes ? 1 : 0;
          return takes;
        },
        rest.slices);
  }
  rest.encoder =
      std::make_unique<NativeEncoder>(block.encoder->stream(), needs_[block.table].as_string,
                                      needs_[block.table].stream->out_of_range);
  MR_RETURN_IF_ERROR(rest.encoder->Encode(rest.slices, rest.bytes));
  // Other rows than the plan's: a token of their own.
  return Insert(rest, fmt::format("{}/rest/{:016x}", plan.token, Checksum(rest.bytes.Pieces())),
                std::move(stop));
}

Result<std::optional<Offset>> ClickHouseSink::ReadPosition() {
  if (client_ == nullptr) {
    return Internal("the sink is not open");
  }
  std::vector<std::string> tables;
  for (const TableNeed& need : needs_) {
    tables.push_back(need.table);
  }
  MR_ASSIGN_OR_RETURN(const auto uuids,
                      ReadTableUuids(*client_, options_.database, tables, {}, kLivenessTimeout));
  for (size_t i = 0; i < needs_.size(); ++i) {
    const auto found = uuids.find(needs_[i].table);
    if (found == uuids.end() || found->second != prepared_[i].uuid) {
      return FailedPrecondition(
          fmt::format("table {} was dropped or replaced, with the rows that were delivered to it: "
                      "restore it, or rebuild what the sink holds in a new data_dir",
                      needs_[i].QualifiedName()));
    }
  }
  MR_ASSIGN_OR_RETURN(const DeliveryLog::State state, context_.delivery_log->Load());
  return state.delivered;
}

void ClickHouseSink::Close() {
  client_.reset();
  plan_.reset();
  position_.reset();
  needs_.clear();
  prepared_.clear();
}

}  // namespace millrace::sinks::clickhouse
