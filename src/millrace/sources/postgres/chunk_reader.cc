// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/chunk_reader.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>
#include <pthread.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/common/failpoint.h"
#include "millrace/sources/postgres/catalog.h"
#include "millrace/sources/postgres/chunk_sql.h"
#include "millrace/sources/postgres/table_history.h"

namespace millrace::sources::postgres {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Rows that were read and not taken; one row may go beyond it.
constexpr size_t kQueueBytesMax = size_t{4} << 20;
// What is handed over at a time.
constexpr size_t kRunRowsMax = 4096;
constexpr size_t kRunBytesMax = size_t{1} << 20;
// What arrives slowly is handed over after this.
constexpr milliseconds kRunWait{20};
// Less than deadlock_timeout (1 s), so that no statement of the application is given up for ours.
constexpr milliseconds kLockTimeout{500};
// A wide table's chunk end is found by reading an index; its first page may take long.
constexpr seconds kStatementWait{300};
constexpr seconds kSnapshotWait{5};
constexpr seconds kEndCopyWait{10};
constexpr size_t kRowOverhead = 64;
// libpq keeps its input buffer as large as the largest row was: from here on, the connection goes.
constexpr size_t kLargeRow = size_t{16} << 20;

template <typename T>
T Number(std::string_view text) {
  T value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

ChunkReader::ChunkReader(Options options) : options_(std::move(options)) {
  thread_ = std::jthread([this](std::stop_token stop) { Run(std::move(stop)); });
}

ChunkReader::~ChunkReader() {
  thread_.request_stop();
  {
    MutexLock lock(mu_);
    changed_.NotifyAll();
  }
  thread_.join();
}

ChunkReader::State ChunkReader::state() const {
  MutexLock lock(mu_);
  return state_;
}

void ChunkReader::Prepare(ReadTask task) {
  task_ = std::move(task);
  MutexLock lock(mu_);
  MR_CHECK(state_ == State::kIdle);
  state_ = State::kPreparing;
  work_ = Work::kPrepare;
  changed_.NotifyAll();
}

void ChunkReader::Read() {
  MutexLock lock(mu_);
  MR_CHECK(state_ == State::kPrepared);
  state_ = State::kReading;
  work_ = Work::kRead;
  changed_.NotifyAll();
}

void ChunkReader::ReadPages(PageRange pages, bool keeps_snapshot) {
  task_.pages = pages;
  {
    MutexLock lock(mu_);
    keeps_snapshot_ = keeps_snapshot;
  }
  Read();
}

void ChunkReader::ReleaseSnapshot() {
  MutexLock lock(mu_);
  keeps_snapshot_ = false;
  changed_.NotifyAll();
}

void ChunkReader::Abandon() {
  MutexLock lock(mu_);
  MR_CHECK(state_ == State::kPrepared);
  state_ = State::kReading;
  work_ = Work::kAbandon;
  changed_.NotifyAll();
}

Result<TakenSnapshot> ChunkReader::TakeSnapshot(bool exports) {
  const uint32_t oid = task_.table.table->oid;
  Result<pg::QueryResult> row = connection_->Exec(
      fmt::format(
          "SELECT pg_current_snapshot(), pg_current_wal_insert_lsn(), (extract(epoch FROM "
          "clock_timestamp()) * 1000000)::bigint, {0}, greatest(pg_relation_size({1}::oid), "
          "(SELECT max(pg_relation_size(relid)) FROM pg_partition_tree({1}::oid::regclass))) "
          "/ current_setting('block_size')::int",
          exports ? "pg_export_snapshot()" : "''", oid),
      kSnapshotWait);
  const Result<TakenSnapshot> taken = [&]() -> Result<TakenSnapshot> {
    if (!row.ok()) {
      return row.status().WithContext("take a snapshot");
    }
    TakenSnapshot snapshot;
    MR_ASSIGN_OR_RETURN(snapshot.xids, XidSnapshot::Parse(row.value().Text(0, 0)));
    MR_ASSIGN_OR_RETURN(snapshot.wal_insert_lsn, ParseLsn(row.value().Text(0, 1)));
    snapshot.taken_at = Number<int64_t>(row.value().Text(0, 2));
    snapshot.exported = row.value().Text(0, 3);
    snapshot.pages = Number<uint64_t>(row.value().Text(0, 4));
    return snapshot;
  }();
  if (!taken.ok()) {
    connection_.reset();
    MutexLock lock(mu_);
    state_ = State::kEnded;
    status_ = taken.status();
  }
  return taken;
}

std::optional<ChunkRows> ChunkReader::TakeRows() {
  MutexLock lock(mu_);
  rows_bytes_ -= std::exchange(taken_bytes_, 0);
  changed_.NotifyAll();
  if (rows_.empty()) {
    return std::nullopt;
  }
  std::optional<ChunkRows> rows(std::move(rows_.front()));
  rows_.pop_front();
  taken_bytes_ = rows->bytes;
  return rows;
}

bool ChunkReader::has_rows() const {
  MutexLock lock(mu_);
  return !rows_.empty();
}

void ChunkReader::Stop() {
  MutexLock lock(mu_);
  is_stopping_ = true;
  changed_.NotifyAll();
}

bool ChunkReader::is_stopping() const {
  MutexLock lock(mu_);
  return is_stopping_;
}

Status ChunkReader::End() {
  MutexLock lock(mu_);
  MR_CHECK(state_ == State::kEnded);
  state_ = State::kIdle;
  is_stopping_ = false;
  keeps_snapshot_ = false;
  rows_.clear();
  rows_bytes_ = 0;
  taken_bytes_ = 0;
  return std::exchange(status_, Status::Ok());
}

void ChunkReader::Run(std::stop_token stop) {
  pthread_setname_np(pthread_self(), fmt::format("mr-chunk-{}", options_.number).c_str());
  for (;;) {
    Work work = Work::kNone;
    {
      MutexLock lock(mu_);
      while (work_ == Work::kNone && !stop.stop_requested()) {
        changed_.Wait(mu_);
      }
      work = std::exchange(work_, Work::kNone);
    }
    if (stop.stop_requested()) {
      return;
    }
    Status status;
    if (work == Work::kPrepare) {
      status = DoPrepare(stop);
    } else if (work == Work::kRead) {
      status = DoRead(stop);
    } else {
      status = connection_->Exec("ROLLBACK").status();
    }
    if (!status.ok() && status.code() != Code::kCancelled) {
      connection_.reset();
    }
    MutexLock lock(mu_);
    state_ = status.ok() && work == Work::kPrepare ? State::kPrepared : State::kEnded;
    status_ = std::move(status);
  }
}

Status ChunkReader::DoPrepare(const std::stop_token& stop) {
  if (connection_ == nullptr) {
    MR_ASSIGN_OR_RETURN(connection_, pg::Connection::Connect(
                                         options_.config.url,
                                         {.application_name = "millrace " + options_.config.slot,
                                          .lock_timeout = kLockTimeout},
                                         stop));
    // The key's index gives the order: a sort would read the whole table for each chunk.
    MR_RETURN_IF_ERROR(connection_
                           ->Exec("SET enable_seqscan = off; SET enable_bitmapscan = off; SET "
                                  "enable_sort = off; SET max_parallel_workers_per_gather = 0; SET "
                                  "jit = off")
                           .status());
  }
  const std::string context = fmt::format("read table {}", task_.table.table->FullName());
  if (task_.order.has_value() && !task_.range.includes_lo) {
    MR_RETURN_IF_ERROR(FindChunkEnd().WithContext(context));
  }
  std::string begin = fmt::format("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}",
                                  LockTableStatement(task_.table));
  if (task_.imported.empty()) {
    return connection_->Exec(begin).status().WithContext(context);
  }
  begin += "; SET TRANSACTION SNAPSHOT " + pg::QuoteLiteral(task_.imported);
  const Status status = connection_->Exec(begin).status();
  // The exporting reader broke off, most likely: the table is read anew.
  return status.ok() ? status : Unavailable(context + ": " + status.message());
}

Status ChunkReader::FindChunkEnd() {
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult row,
      connection_->Exec(ChunkEndStatement(task_.table, task_.range, task_.rows), kStatementWait));
  if (row.row_count() == 0) {
    return Status::Ok();  // the range's own end
  }
  std::vector<std::string> text;
  for (size_t i = 0; i < row.column_count(); ++i) {
    text.emplace_back(row.Text(0, i));
  }
  MR_ASSIGN_OR_RETURN(task_.range.hi, task_.order->FromText(std::move(text)));
  return Status::Ok();
}

Status ChunkReader::DoRead(const std::stop_token& stop) {
  MR_FAILPOINT("source.before_chunk_read");
  MR_RETURN_IF_ERROR(CheckShape());
  const std::string name = task_.table.table->FullName();
  const std::string statement = task_.order.has_value()
                                    ? CopyChunkStatement(task_.table, task_.range)
                                    : CopyPagesStatement(task_.table, task_.pages);
  MR_RETURN_IF_ERROR(
      connection_->StartCopyOut(statement).WithContext(fmt::format("read table {}", name)));
  MR_RETURN_IF_ERROR(CopyRows(stop));
  {
    MutexLock lock(mu_);
    while (keeps_snapshot_ && !is_stopping_ && !stop.stop_requested()) {
      changed_.Wait(mu_);
    }
  }
  return connection_->Exec("COMMIT").status();
}

// What the catalog says of the table holds while the lock does.
Status ChunkReader::CheckShape() {
  const Table& table = *task_.table.table;
  PostgresSourceConfig config = options_.config;
  config.tables = {pg::QuoteQualified(table.schema, table.name)};
  MR_ASSIGN_OR_RETURN(const Catalog catalog, LoadCatalog(*connection_, config));
  if (catalog.tables.size() != 1 || !IsAsKnown(task_.table, catalog.tables[0])) {
    return Unavailable(fmt::format(
        "table {} was altered or dropped, and the stream has not come to it", table.FullName()));
  }
  return Status::Ok();
}

Status ChunkReader::CopyRows(const std::stop_token& stop) {
  const std::vector<uint32_t> no_key;
  CopyRowParser parser(task_.table.table, task_.order ? task_.order->columns() : no_key);
  const SchemaPtr& schema = task_.table.table->columns;
  ChunkRows rows(schema);
  const auto post = [&]() -> bool {
    if (rows.rows.row_count() == 0) {
      return true;
    }
    if (task_.order) {
      rows.last = {parser.key_text(), rows.keys.back()};
    }
    const bool goes_on = Post(rows, stop);
    rows = ChunkRows(schema);
    return goes_on;
  };
  for (;;) {
    const pg::CopyRead read = connection_->TryReadCopy();
    if (read.state == pg::CopyState::kMessage) {
      MR_RETURN_IF_ERROR(parser.Append(read.bytes, rows.rows));
      if (task_.order) {
        std::string& key = rows.keys.emplace_back();
        task_.order->Encode(rows.rows, rows.rows.row_count() - 1, key);
      }
      rows.bytes += read.bytes.size() + kRowOverhead + schema->size() * sizeof(uint64_t);
      connection_->DropMessage();  // a large row is now in `rows`
      if (task_.order && read.bytes.size() >= kLargeRow) {
        connection_.reset();
        post();
        return Cancelled("the next chunk goes on behind a large row, over a new connection");
      }
      if ((rows.bytes >= kRunBytesMax || rows.rows.row_count() >= kRunRowsMax) && !post()) {
        return EndCopyEarly();
      }
      continue;
    }
    if (read.state == pg::CopyState::kEnd) {
      MR_RETURN_IF_ERROR(connection_->FinishCopy().WithContext(
          fmt::format("read table {}", task_.table.table->FullName())));
      return post() ? Status::Ok() : EndCopyEarly();
    }
    MR_ASSIGN_OR_RETURN(const bool has_bytes, connection_->WaitReadable(kRunWait));
    if (is_stopping() || (!has_bytes && !post())) {
      return EndCopyEarly();
    }
  }
}

bool ChunkReader::Post(ChunkRows& rows, const std::stop_token& stop) {
  MutexLock lock(mu_);
  rows_bytes_ += rows.bytes;
  rows_.push_back(std::move(rows));
  // Here and not before: another row may be as large, and would be read meanwhile.
  while (rows_bytes_ >= kQueueBytesMax && !is_stopping_ && !stop.stop_requested()) {
    changed_.Wait(mu_);
  }
  return !is_stopping_ && !stop.stop_requested();
}

// The rest of the copy is not wanted: the server is told so, and what is on its way is skipped.
Status ChunkReader::EndCopyEarly() {
  connection_->Cancel();
  const auto deadline = std::chrono::steady_clock::now() + kEndCopyWait;
  for (pg::CopyRead read = connection_->TryReadCopy(); read.state != pg::CopyState::kEnd;
       read = connection_->TryReadCopy()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return TimedOut("the server did not end a copy that was given up");
    }
    if (read.state == pg::CopyState::kNothingYet) {
      MR_RETURN_IF_ERROR(connection_->WaitReadable(kRunWait).status());
    }
  }
  connection_->FinishCopy().IgnoreError("the server says that it was cancelled, as it was told");
  MR_RETURN_IF_ERROR(connection_->Exec("ROLLBACK").status());
  return Cancelled("the rest of the piece was given up");
}

}  // namespace millrace::sources::postgres
