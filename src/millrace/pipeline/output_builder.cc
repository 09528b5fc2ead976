// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/output_builder.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "millrace/model/evolution.h"
#include "millrace/storage/row_codec.h"

namespace millrace::pipeline {

namespace {

// Outputs that do not stand for a change of the batch, which is bounded, are handed on when they
// are so many.
constexpr size_t kFlushRows = 4096;
constexpr size_t kFlushBytes = size_t{4} << 20;

// A mirror's columns are known by their place, which stays; others by their name.
SchemaPtr AddressColumns(const Stream& stream, const std::vector<uint32_t>& address) {
  Schema schema;
  for (const uint32_t column : address) {
    schema.push_back((*stream.columns)[column]);
    if (!stream.table.empty()) {
      schema.back().name = fmt::format("#{}", column);
    }
  }
  return std::make_shared<const Schema>(std::move(schema));
}

OutputOp UpsertOp(const Change& change) {
  return change.op == ChangeOp::kRead ? OutputOp::kRead : OutputOp::kUpsert;
}

void AddMetadata(OutputOp op, const Change& change, OutputBatch& output) {
  output.ops.push_back(op);
  output.transaction.push_back(change.transaction);
  output.ordinals.push_back(change.ordinal);
}

}  // namespace

// Which rows are there as they were stored before a batch, of those that it does not know
// otherwise: none, those that were seen while the table was read again, or all.
enum class OutputBuilder::Stored { kNone, kSeen, kAll };

// What one Build() works on.
struct OutputBuilder::Run {
  Run(StreamPtr stream, const std::vector<Transaction>& transactions, StreamRows r, BatchWriter& w)
      : output(std::move(stream)), rows(std::move(r)), writer(w) {
    output.transactions = transactions;
  }

  OutputBatch output;
  StreamRows rows;
  BatchWriter& writer;
  // Address of the newest output of each key that this batch asks for or changes; nothing: no
  // output.
  StringMap<std::optional<std::string>> addresses;
  size_t next_row = 0;  // of rows, the first that has not been passed
  Stored stored = Stored::kAll;
  size_t outputs = 0;  // given to the writer
};

Result<std::unique_ptr<OutputBuilder>> OutputBuilder::Make(Options options, storage::Store& store) {
  const Stream& stream = *options.stream;
  // The registry of streams gives the address columns a version of their own: they follow the
  // sinks' configuration.
  Stream address;
  address.name = "address/" + stream.name;
  address.columns = AddressColumns(stream, options.address);
  address.append_only = true;
  MR_ASSIGN_OR_RETURN(StreamPtr registered, store.OpenStream(address));
  MR_ASSIGN_OR_RETURN(const storage::StateTableId state,
                      store.OpenStateTable("stream/" + stream.name));
  MR_ASSIGN_OR_RETURN(SeenKeys seen, SeenKeys::Make("stream/" + stream.name, store));
  return std::unique_ptr<OutputBuilder>(
      new OutputBuilder(std::move(options), store, state, std::move(registered), std::move(seen)));
}

OutputBuilder::OutputBuilder(Options options, storage::Store& store, storage::StateTableId state,
                             StreamPtr address, SeenKeys seen)
    : options_(std::move(options)),
      store_(store),
      state_(state),
      address_(std::move(address)),
      seen_(std::move(seen)) {}

std::string OutputBuilder::KeyOf(const RowBatch& driving_rows, uint32_t row) const {
  std::string key;
  storage::EncodeKey(driving_rows, row, options_.driving_key, key);
  return key;
}

Result<size_t> OutputBuilder::Build(const ChangeBatch& batch, const TableChanges& changes,
                                    StreamRows rows, BatchWriter& writer) {
  Run run(options_.stream, batch.transactions, std::move(rows), writer);
  if (options_.stream->append_only) {
    for (const Change& change : changes.changes) {
      if (change.op == ChangeOp::kUpdate || change.op == ChangeOp::kDelete) {
        return InvalidArgument(fmt::format(
            "stream '{}': table {} has an update or delete in the transaction that ends at {}, and "
            "the stream is append_only: set append_only: false and a key, or keep such changes out "
            "of the publication",
            options_.stream->name, changes.table->FullName(),
            FormatLsn(batch.transactions[change.transaction].end_lsn)));
      }
    }
    return BuildAppended(changes, run);
  }
  MR_RETURN_IF_ERROR(seen_.Load());
  const bool only_new =
      !seen_.is_active() &&
      std::all_of(changes.changes.begin(), changes.changes.end(), [](const Change& c) {
        return c.op == ChangeOp::kInsert || c.op == ChangeOp::kRead;
      });
  if (only_new) {
    return BuildAppended(changes, run);
  }
  MR_RETURN_IF_ERROR(FindOldAddresses(changes, run));
  for (const Change& change : changes.changes) {
    MR_RETURN_IF_ERROR(AddChange(change, changes, run));
  }
  seen_.Save(writer.state());
  run.outputs += run.output.row_count();
  MR_RETURN_IF_ERROR(writer.AddOutput(std::move(run.output)));
  return run.outputs;
}

// Nothing but new rows: they are taken as they are, without a look at the state.
Result<size_t> OutputBuilder::BuildAppended(const TableChanges& changes, Run& run) {
  const StreamRows& rows = run.rows;
  const size_t count = rows.driving_row.size();
  run.output.ops.reserve(count);
  run.output.transaction.reserve(count);
  run.output.ordinals.reserve(count);
  size_t next = 0;
  for (const Change& change : changes.changes) {
    if (next == count) {
      break;
    }
    if (change.new_row != rows.driving_row[next]) {
      continue;  // filtered out, or a truncate, which an append_only stream ignores
    }
    AddMetadata(UpsertOp(change), change, run.output);
    ++next;
  }
  MR_CHECK(next == count);
  if (!options_.stream->append_only) {
    storage::EncodedRows keys;
    storage::EncodeKeys(rows.rows, 0, count, options_.stream->key, keys);
    storage::EncodedRows addresses;
    storage::EncodeRows(rows.rows, 0, count, address_->schema_version, options_.address, addresses);
    for (size_t i = 0; i < count; ++i) {
      run.writer.state().PutState(state_, keys[i], addresses[i]);
    }
  }
  run.output.rows = std::move(run.rows.rows);
  MR_RETURN_IF_ERROR(run.writer.AddOutput(std::move(run.output)));
  return count;
}

// Reads in one go the addresses of all rows that this batch updates, deletes or reads again.
Status OutputBuilder::FindOldAddresses(const TableChanges& changes, Run& run) {
  // A row that is new to the source may be known here, if its end was missed: that is why the table
  // is read again.
  const bool any_may_be_known =
      seen_.is_active() ||
      std::any_of(changes.changes.begin(), changes.changes.end(),
                  [](const Change& c) { return c.op == ChangeOp::kReadAgainBegin; });
  std::vector<std::string> keys;
  const auto want = [&](std::string key) {
    if (run.addresses.emplace(key, std::nullopt).second) {
      keys.push_back(std::move(key));
    }
  };
  for (const Change& change : changes.changes) {
    if (change.old_row != kNoRow) {
      want(KeyOf(changes.old_rows, change.old_row));
    }
    if (change.op == ChangeOp::kUpdate || (any_may_be_known && change.new_row != kNoRow)) {
      want(KeyOf(changes.new_rows, change.new_row));
    }
  }
  MR_ASSIGN_OR_RETURN(auto addresses, store_.GetState(state_, keys));
  for (size_t i = 0; i < keys.size(); ++i) {
    if (addresses[i]) {
      MR_RETURN_IF_ERROR(
          RenewAddress(*addresses[i])
              .WithContext(fmt::format("state of stream '{}'", options_.stream->name)));
    }
    run.addresses[keys[i]] = std::move(addresses[i]);
  }
  return Status::Ok();
}

// Addresses are compared by their bytes.
Status OutputBuilder::RenewAddress(std::string& address) const {
  MR_ASSIGN_OR_RETURN(const SchemaVersion version, storage::DecodeRowVersion(address));
  if (version != address_->schema_version) {
    MR_ASSIGN_OR_RETURN(const RowBatch values, DecodeAddress(address));
    address.clear();
    storage::EncodeRow(values, 0, address_->schema_version, address);
  }
  return Status::Ok();
}

Status OutputBuilder::AddChange(const Change& change, const TableChanges& changes, Run& run) {
  switch (change.op) {
    case ChangeOp::kTruncate:
      return AddTruncate(change, run);
    case ChangeOp::kReadAgainBegin:
      seen_.Begin();
      return Status::Ok();
    case ChangeOp::kReadAgainEnd:
      return AddSweep(change, run);
    case ChangeOp::kDelete:
      return AddDelete(KeyOf(changes.old_rows, change.old_row), change, run);
    case ChangeOp::kInsert:
    case ChangeOp::kUpdate:
    case ChangeOp::kRead:
      break;
  }
  if (change.op == ChangeOp::kUpdate && change.old_row != kNoRow) {
    const std::string old_key = KeyOf(changes.old_rows, change.old_row);
    if (old_key != KeyOf(changes.new_rows, change.new_row)) {
      MR_RETURN_IF_ERROR(AddDelete(old_key, change, run));
    }
  }
  const bool passed = run.next_row < run.rows.driving_row.size() &&
                      run.rows.driving_row[run.next_row] == change.new_row;
  if (passed) {
    return AddUpsert(change, changes, static_cast<uint32_t>(run.next_row++), run);
  }
  // Filtered out: what stood there before is gone.
  return AddDelete(KeyOf(changes.new_rows, change.new_row), change, run);
}

Status OutputBuilder::AddUpsert(const Change& change, const TableChanges& changes,
                                uint32_t stream_row, Run& run) {
  std::string key = KeyOf(changes.new_rows, change.new_row);
  std::string address;
  storage::EncodeRow(run.rows.rows, stream_row, address_->schema_version, options_.address,
                     address);
  std::optional<std::string>& newest = run.addresses[key];
  if (newest && *newest != address) {
    MR_RETURN_IF_ERROR(AddAddressRow(OutputOp::kMovedAway, change, *newest, run));
  }
  run.output.rows.AppendRow(run.rows.rows, stream_row);
  AddMetadata(UpsertOp(change), change, run.output);
  run.writer.state().PutState(state_, key, address);
  if (seen_.is_active()) {
    seen_.Show(key);
  }
  newest = std::move(address);
  return Status::Ok();
}

Status OutputBuilder::AddDelete(const std::string& key, const Change& change, Run& run) {
  const auto found = run.addresses.find(key);
  if (found == run.addresses.end() || !found->second) {
    return Status::Ok();  // the stream never showed the row
  }
  MR_RETURN_IF_ERROR(AddAddressRow(OutputOp::kDelete, change, *found->second, run));
  run.writer.state().DeleteState(state_, key);
  found->second.reset();
  return Status::Ok();
}

// The keys of the rows that are there, of those whose addresses this batch knows.
std::vector<std::string> OutputBuilder::KnownKeys(const Run& run) {
  std::vector<std::string> known;
  for (const auto& [key, address] : run.addresses) {
    if (address) {
      known.push_back(key);
    }
  }
  return known;
}

Status OutputBuilder::AddTruncate(const Change& change, Run& run) {
  run.writer.state().ClearState(state_);
  return DeleteInOrder(change, KnownKeys(run), Stored::kNone, run);
}

// Deletes what has not been shown since the table began to be read again.
Status OutputBuilder::AddSweep(const Change& change, Run& run) {
  if (!seen_.is_active()) {
    return Status::Ok();
  }
  const std::vector<std::string> known = KnownKeys(run);
  MR_ASSIGN_OR_RETURN(const std::vector<bool> seen, seen_.AreSeen(known));
  std::vector<std::string> gone;
  for (size_t i = 0; i < known.size(); ++i) {
    if (!seen[i]) {
      gone.push_back(known[i]);
    }
  }
  const Stored left = seen_.has_begun() ? Stored::kNone : Stored::kSeen;
  seen_.End();
  return DeleteInOrder(change, std::move(gone), left, run);
}

// Deletes in key order the rows `known`, whose addresses this batch knows, and those whose
// addresses it does not know until no more than `left` of them are there.
Status OutputBuilder::DeleteInOrder(const Change& change, std::vector<std::string> known,
                                    Stored left, Run& run) {
  std::sort(known.begin(), known.end());
  auto next = known.begin();
  const auto delete_known_until = [&](auto end) -> Status {
    for (; next != end; ++next) {
      MR_RETURN_IF_ERROR(AddDelete(*next, change, run));
      MR_RETURN_IF_ERROR(FlushIfLarge(run));
    }
    return Status::Ok();
  };
  if (left < run.stored) {
    SeenKeys::Scan seen(seen_);
    const std::unique_ptr<storage::StateCursor> at = store_.ScanState(state_);
    for (; at->Valid(); at->Next()) {
      const std::string key(at->key());
      MR_RETURN_IF_ERROR(delete_known_until(std::lower_bound(next, known.end(), key)));
      const Stored row = seen.WasSeen(key) ? Stored::kSeen : Stored::kAll;
      if (row > run.stored || row <= left || run.addresses.contains(key)) {
        continue;
      }
      MR_RETURN_IF_ERROR(AddAddressRow(OutputOp::kDelete, change, at->row(), run));
      if (change.op != ChangeOp::kTruncate) {  // which has cleared the state
        run.writer.state().DeleteState(state_, key);
      }
      MR_RETURN_IF_ERROR(FlushIfLarge(run));
    }
    MR_RETURN_IF_ERROR(seen.status());
    MR_RETURN_IF_ERROR(at->status());
    run.stored = left;
  }
  return delete_known_until(known.end());
}

Status OutputBuilder::FlushIfLarge(Run& run) {
  if (run.output.row_count() < kFlushRows && run.output.rows.byte_size() < kFlushBytes) {
    return Status::Ok();
  }
  OutputBatch next(options_.stream);
  next.transactions = run.output.transactions;
  run.outputs += run.output.row_count();
  std::swap(next, run.output);
  return run.writer.AddOutput(std::move(next));
}

Result<RowBatch> OutputBuilder::DecodeAddress(std::string_view address) const {
  MR_ASSIGN_OR_RETURN(const SchemaVersion version, storage::DecodeRowVersion(address));
  RowBatch values(address_->columns);
  if (version == address_->schema_version) {
    MR_RETURN_IF_ERROR(storage::DecodeRow(address, values));
    return values;
  }
  const StreamPtr earlier = store_.FindStream(address_->id, version);
  if (earlier == nullptr) {
    return Corruption("a row is of a version of the address that is not known");
  }
  RowBatch stored(earlier->columns);
  MR_RETURN_IF_ERROR(storage::DecodeRow(address, stored));
  for (size_t i = 0; i < values.column_count(); ++i) {
    const int at = address_->FindInEarlier(*earlier, i);
    Column& to = values.column(i);
    if (at < 0 || !Widens(stored.column(static_cast<size_t>(at)).type(), to.type())) {
      return FailedPrecondition(
          "its sinks addressed rows by other columns when this row was written: give the sinks "
          "their earlier sorting keys, templates and message keys, or use a new data_dir");
    }
    AppendWidened(stored.column(static_cast<size_t>(at)), 0, 1, to);
  }
  return values;
}

// Appends a row of nothing but its key and its address, out of state.
Status OutputBuilder::AddAddressRow(OutputOp op, const Change& change, std::string_view address,
                                    Run& run) {
  Result<RowBatch> decoded = DecodeAddress(address);
  if (!decoded.ok()) {
    return decoded.status().WithContext(fmt::format("state of stream '{}'", options_.stream->name));
  }
  const RowBatch& values = *decoded;
  for (uint32_t i = 0; i < run.output.rows.column_count(); ++i) {
    Column& column = run.output.rows.column(i);
    const auto at = std::find(options_.address.begin(), options_.address.end(), i);
    if (at != options_.address.end()) {
      column.AppendFrom(values.column(static_cast<size_t>(at - options_.address.begin())), 0);
    } else {
      column.AppendNull();
    }
  }
  AddMetadata(op, change, run.output);
  return Status::Ok();
}

}  // namespace millrace::pipeline
