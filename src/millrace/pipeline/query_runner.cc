// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/query_runner.h"

#include <algorithm>
#include <utility>

#include "millrace/storage/row_codec.h"

namespace millrace::pipeline {

namespace {

bool AnyNull(const RowBatch& rows, size_t row, const std::vector<uint32_t>& columns) {
  return std::any_of(columns.begin(), columns.end(),
                     [&](uint32_t column) { return rows.column(column).IsNull(row); });
}

// The transaction and commit time of each new row, in order.
struct RowTransactions {
  std::vector<uint32_t> transaction;
  std::vector<int64_t> commit_ts;
};

RowTransactions TransactionsOfNewRows(const ChangeBatch& batch, const TableChanges& changes) {
  RowTransactions rows;
  rows.transaction.reserve(changes.new_rows.row_count());
  rows.commit_ts.reserve(changes.new_rows.row_count());
  for (const Change& change : changes.changes) {
    if (change.new_row != kNoRow) {
      MR_DCHECK(change.new_row == rows.transaction.size());
      rows.transaction.push_back(change.transaction);
      rows.commit_ts.push_back(batch.transactions[change.transaction].commit_ts);
    }
  }
  return rows;
}

}  // namespace

QueryRunner::QueryRunner(std::unique_ptr<sql::PreparedQuery> query, std::vector<Lookup> lookups)
    : query_(std::move(query)), lookups_(std::move(lookups)) {}

Result<StreamRows> QueryRunner::Run(const ChangeBatch& batch, const TableChanges& changes) {
  StreamRows result{RowBatch(query_->columns()), {}};
  const RowTransactions of_row = TransactionsOfNewRows(batch, changes);
  const size_t row_count = of_row.transaction.size();
  if (row_count == 0) {
    return result;
  }

  std::vector<Chosen> chosen(lookups_.size());
  std::vector<std::string> keys(lookups_.size());
  size_t begin = 0;
  for (size_t row = 0; row < row_count; ++row) {
    // Two versions of one reference row cannot be joined in one run.
    bool conflict = false;
    std::vector<int> versions(lookups_.size());
    for (size_t i = 0; i < lookups_.size(); ++i) {
      keys[i].clear();
      if (AnyNull(changes.new_rows, row, lookups_[i].driving_columns)) {
        continue;
      }
      storage::EncodeKey(changes.new_rows, row, lookups_[i].driving_columns, keys[i]);
      versions[i] = lookups_[i].state->VersionAt(keys[i], of_row.transaction[row]);
      const auto found = chosen[i].versions.find(keys[i]);
      conflict |= found != chosen[i].versions.end() && found->second != versions[i];
    }
    if (conflict) {
      MR_RETURN_IF_ERROR(RunPart(changes, of_row.commit_ts, begin, row, chosen, result));
      begin = row;
      for (Chosen& c : chosen) {
        c.versions.clear();
      }
    }
    for (size_t i = 0; i < lookups_.size(); ++i) {
      if (!keys[i].empty()) {
        chosen[i].versions.try_emplace(keys[i], versions[i]);
      }
    }
  }
  MR_RETURN_IF_ERROR(RunPart(changes, of_row.commit_ts, begin, row_count, chosen, result));
  return result;
}

Status QueryRunner::RunPart(const TableChanges& changes, const std::vector<int64_t>& commit_ts,
                            size_t begin, size_t end, const std::vector<Chosen>& chosen,
                            StreamRows& into) {
  std::vector<RowBatch> lookup_rows;
  lookup_rows.reserve(lookups_.size());
  for (size_t i = 0; i < lookups_.size(); ++i) {
    TableState& state = *lookups_[i].state;
    std::vector<std::string> stored_keys;
    for (const auto& [key, version] : chosen[i].versions) {
      if (version == TableState::kAsStored || version == TableState::kIfSeen) {
        stored_keys.push_back(key);
      }
    }
    MR_RETURN_IF_ERROR(state.Fetch(stored_keys));
    RowBatch& rows = lookup_rows.emplace_back(lookups_[i].columns);
    for (const auto& [key, version] : chosen[i].versions) {
      if (const RowRef ref = state.Row(key, version); ref.exists()) {
        rows.AppendRow(*ref.batch, ref.row);
      }
    }
  }
  std::vector<const RowBatch*> lookups;
  lookups.reserve(lookup_rows.size());
  for (const RowBatch& rows : lookup_rows) {
    lookups.push_back(&rows);
  }

  const bool whole = begin == 0 && end == changes.new_rows.row_count();
  RowBatch part(changes.new_rows.schema());
  if (!whole) {
    part.AppendRange(changes.new_rows, begin, end);
  }
  const RowBatch& driving = whole ? changes.new_rows : part;
  MR_ASSIGN_OR_RETURN(
      sql::QueryResult rows,
      query_->Run(driving, std::span(commit_ts).subspan(begin, end - begin), lookups));

  for (size_t i = 0; i < rows.driving_row.size(); ++i) {
    if (i != 0 && rows.driving_row[i] == rows.driving_row[i - 1]) {
      return InvalidArgument(
          "the SQL gives more than one row for a row of the driving table: join lookups by their "
          "key only");
    }
    into.driving_row.push_back(rows.driving_row[i] + static_cast<uint32_t>(begin));
  }
  if (whole) {
    into.rows = std::move(rows.rows);
  } else {
    into.rows.AppendRange(rows.rows, 0, rows.rows.row_count());
  }
  return Status::Ok();
}

}  // namespace millrace::pipeline
