// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/output_builder.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "millrace/storage/row_codec.h"

namespace millrace::pipeline {

namespace {

SchemaPtr SelectColumns(const Schema& columns, const std::vector<uint32_t>& selected) {
  Schema schema;
  for (const uint32_t column : selected) {
    schema.push_back(columns[column]);
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

// What one Build() works on.
struct OutputBuilder::Run {
  Run(OutputBatch o, StreamRows r, storage::StoreBatch& batch)
      : output(std::move(o)), rows(std::move(r)), store_batch(batch) {}

  OutputBatch output;
  StreamRows rows;
  storage::StoreBatch& store_batch;
  // Address of the newest output of each key that this batch asks for or changes; nothing: no
  // output.
  StringMap<std::optional<std::string>> addresses;
  size_t next_row = 0;  // of rows, the first that has not been passed
};

Result<std::unique_ptr<OutputBuilder>> OutputBuilder::Make(Options options, storage::Store& store) {
  const Stream& stream = *options.stream;
  // The registry of streams gives the address columns a version of their own: they follow the
  // sinks' configuration.
  Stream address;
  address.name = "address/" + stream.name;
  address.columns = SelectColumns(*stream.columns, options.address);
  address.append_only = true;
  MR_ASSIGN_OR_RETURN(const StreamPtr registered, store.OpenStream(address));
  MR_ASSIGN_OR_RETURN(const storage::StateTableId state,
                      store.OpenStateTable("stream/" + stream.name));
  return std::unique_ptr<OutputBuilder>(
      new OutputBuilder(std::move(options), store, state, *registered));
}

OutputBuilder::OutputBuilder(Options options, storage::Store& store, storage::StateTableId state,
                             const Stream& address)
    : options_(std::move(options)),
      store_(store),
      state_(state),
      address_schema_(address.columns),
      address_version_(address.schema_version) {}

std::string OutputBuilder::KeyOf(const RowBatch& driving_rows, uint32_t row) const {
  std::string key;
  storage::EncodeKey(driving_rows, row, options_.driving_key, key);
  return key;
}

Result<OutputBatch> OutputBuilder::Build(const ChangeBatch& batch, const TableChanges& changes,
                                         StreamRows rows, storage::StoreBatch& store_batch) {
  OutputBatch output(options_.stream);
  output.transactions = batch.transactions;

  const bool only_new = std::all_of(changes.changes.begin(), changes.changes.end(), [](auto& c) {
    return c.op == ChangeOp::kInsert || c.op == ChangeOp::kRead;
  });
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
    return BuildAppended(changes, std::move(rows), std::move(output), nullptr);
  }
  if (only_new) {
    return BuildAppended(changes, std::move(rows), std::move(output), &store_batch);
  }

  Run run(std::move(output), std::move(rows), store_batch);
  MR_RETURN_IF_ERROR(FindOldAddresses(changes, run));
  for (const Change& change : changes.changes) {
    MR_RETURN_IF_ERROR(AddChange(change, changes, run));
  }
  return std::move(run.output);
}

// Nothing but new rows: they are taken as they are, without a look at the state.
Result<OutputBatch> OutputBuilder::BuildAppended(const TableChanges& changes, StreamRows rows,
                                                 OutputBatch output,
                                                 storage::StoreBatch* store_batch) {
  const size_t count = rows.driving_row.size();
  output.ops.reserve(count);
  output.transaction.reserve(count);
  output.ordinals.reserve(count);
  size_t next = 0;
  for (const Change& change : changes.changes) {
    if (next == count) {
      break;
    }
    if (change.new_row != rows.driving_row[next]) {
      continue;  // filtered out, or a truncate, which an append_only stream ignores
    }
    AddMetadata(UpsertOp(change), change, output);
    ++next;
  }
  MR_CHECK(next == count);
  if (store_batch != nullptr) {
    storage::EncodedRows keys;
    storage::EncodeKeys(rows.rows, 0, count, options_.stream->key, keys);
    storage::EncodedRows addresses;
    storage::EncodeRows(rows.rows, 0, count, address_version_, options_.address, addresses);
    for (size_t i = 0; i < count; ++i) {
      store_batch->PutState(state_, keys[i], addresses[i]);
    }
  }
  output.rows = std::move(rows.rows);
  return output;
}

// Reads in one go the addresses of all rows that this batch updates or deletes.
Status OutputBuilder::FindOldAddresses(const TableChanges& changes, Run& run) {
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
    if (change.op == ChangeOp::kUpdate) {
      want(KeyOf(changes.new_rows, change.new_row));
    }
  }
  MR_ASSIGN_OR_RETURN(auto addresses, store_.GetState(state_, keys));
  for (size_t i = 0; i < keys.size(); ++i) {
    run.addresses[keys[i]] = std::move(addresses[i]);
  }
  return Status::Ok();
}

Status OutputBuilder::AddChange(const Change& change, const TableChanges& changes, Run& run) {
  if (change.op == ChangeOp::kTruncate) {
    return AddTruncate(change, run);
  }
  if (change.op == ChangeOp::kDelete) {
    return AddDelete(KeyOf(changes.old_rows, change.old_row), change, run);
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
  storage::EncodeRow(run.rows.rows, stream_row, address_version_, options_.address, address);
  std::optional<std::string>& newest = run.addresses[key];
  if (newest && *newest != address) {
    MR_RETURN_IF_ERROR(AddAddressRow(OutputOp::kMovedAway, change, *newest, run));
  }
  run.output.rows.AppendRow(run.rows.rows, stream_row);
  AddMetadata(UpsertOp(change), change, run.output);
  run.store_batch.PutState(state_, key, address);
  newest = std::move(address);
  return Status::Ok();
}

Status OutputBuilder::AddDelete(const std::string& key, const Change& change, Run& run) {
  const auto found = run.addresses.find(key);
  if (found == run.addresses.end() || !found->second) {
    return Status::Ok();  // the stream never showed the row
  }
  MR_RETURN_IF_ERROR(AddAddressRow(OutputOp::kDelete, change, *found->second, run));
  run.store_batch.DeleteState(state_, key);
  found->second.reset();
  return Status::Ok();
}

Status OutputBuilder::AddTruncate(const Change& change, Run& run) {
  // The stored rows in key order, but for those that this batch has changed; then those.
  MR_RETURN_IF_ERROR(store_.ScanState(state_, [&](std::string_view key, std::string_view address) {
    if (run.addresses.contains(key)) {
      return Status::Ok();
    }
    run.addresses.emplace(std::string(key), std::nullopt);
    run.store_batch.DeleteState(state_, key);
    return AddAddressRow(OutputOp::kDelete, change, address, run);
  }));
  std::vector<std::string> changed;
  for (const auto& [key, address] : run.addresses) {
    if (address) {
      changed.push_back(key);
    }
  }
  std::sort(changed.begin(), changed.end());
  for (const std::string& key : changed) {
    MR_RETURN_IF_ERROR(AddDelete(key, change, run));
  }
  return Status::Ok();
}

// Appends a row of nothing but its key and its address, out of state.
Status OutputBuilder::AddAddressRow(OutputOp op, const Change& change, std::string_view address,
                                    Run& run) {
  const std::string context = fmt::format("state of stream '{}'", options_.stream->name);
  MR_ASSIGN_OR_RETURN(const SchemaVersion version, storage::DecodeRowVersion(address));
  if (version != address_version_) {
    return FailedPrecondition(fmt::format(
        "{}: its sinks addressed rows by other columns when this row was written: give the sinks "
        "their earlier sorting keys, templates and message keys, or use a new data_dir",
        context));
  }
  RowBatch values(address_schema_);
  MR_RETURN_IF_ERROR(storage::DecodeRow(address, values).WithContext(context));
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
