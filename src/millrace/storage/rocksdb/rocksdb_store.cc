// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/rocksdb_store.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <rocksdb/convenience.h>

#include "millrace/common/check.h"
#include "millrace/common/coding.h"
#include "millrace/common/failpoint.h"
#include "millrace/storage/rocksdb/rocksdb_store_impl.h"
#include "millrace/storage/stream_codec.h"

namespace millrace::storage {

namespace {

constexpr size_t kMultiGetKeys = 256;
// After a record that was read from disk, its followers are decoded too, up to so many bytes: a
// sink that lags behind small records reads them in one go.
constexpr size_t kReadAheadBytes = 256 * 1024;

}  // namespace

Result<std::unique_ptr<Store>> OpenRocksDbStore(const OpenOptions& options) {
  MR_ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Database::Open(options));
  auto store = std::make_unique<RocksDbStore>(std::move(database), options);
  MR_RETURN_IF_ERROR(store->Load());
  return std::unique_ptr<Store>(std::move(store));
}

RocksDbStore::RocksDbStore(std::unique_ptr<Database> database, const OpenOptions& options)
    : database_(std::move(database)),
      compression_(options.compress_output ? RecordCompression::kLz4 : RecordCompression::kNone),
      recent_(options.recent_bytes) {}

Status RocksDbStore::Explain(const Status& status, std::string_view what) const {
  if (status.code() == Code::kCorruption) {
    return FromRocksDb(rocksdb::Status::Corruption(status.message()), what, database_->data_dir());
  }
  return status.WithContext(fmt::format("{}: data_dir {}", what, database_->data_dir()));
}

// ---- Source and snapshot ----

Status RocksDbStore::BeginSnapshot(uint64_t system_identifier, uint32_t timeline) {
  const MutexLock commit_lock(commit_mu_);
  SnapshotMark mark;
  LogPoint end;
  {
    const MutexLock lock(mu_);
    mark = snapshot_;
    end = log_end_;
  }
  if (mark.phase == SnapshotPhase::kComplete) {
    return FailedPrecondition(fmt::format("begin a snapshot: data_dir {} has one that is complete",
                                          database_->data_dir()));
  }
  if (mark.phase == SnapshotPhase::kNone) {
    mark = {SnapshotPhase::kPending, end};
  }
  // One write: a crash leaves either what was there before, or a snapshot that has just begun.
  rocksdb::WriteBatch batch;
  rocksdb::Status status =
      batch.Put(database_->meta(), ToSlice(kSnapshotKey), EncodeSnapshotMark(mark));
  const auto add = [&status](const rocksdb::Status& next) { status = status.ok() ? next : status; };
  add(batch.Put(database_->meta(), ToSlice(kSourceKey),
                EncodeSourceIdentity({system_identifier, timeline})));
  add(batch.Delete(database_->meta(), ToSlice(kPositionKey)));
  add(batch.Put(database_->meta(), ToSlice(kOutputEndKey), EncodeLogPoint(mark.staged_from)));
  if (mark.staged_from.offset != end.offset) {
    add(batch.DeleteRange(database_->output(), OutputKey(mark.staged_from.offset),
                          OutputKey(end.offset)));
  }
  std::string state_begin;
  std::string state_end;
  AppendStateKeyPrefix(state_begin, 0);
  AppendStateKeyPrefix(state_end, UINT32_MAX);
  add(batch.DeleteRange(database_->state(), state_begin, state_end));
  MR_RETURN_IF_ERROR(database_->ToStatus(status, "begin a snapshot"));
  MR_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true, "begin a snapshot"));
  {
    const MutexLock lock(mu_);
    snapshot_ = mark;
    log_end_ = mark.staged_from;
  }
  recent_.DropFrom(mark.staged_from.offset);
  return Status::Ok();
}

Status RocksDbStore::CompleteSnapshot(SourcePosition position) {
  const MutexLock commit_lock(commit_mu_);
  {
    const MutexLock lock(mu_);
    if (snapshot_.phase != SnapshotPhase::kPending) {
      return FailedPrecondition("complete a snapshot: none was begun");
    }
  }
  const SnapshotMark mark{SnapshotPhase::kComplete, {}};
  rocksdb::WriteBatch batch;
  rocksdb::Status status =
      batch.Put(database_->meta(), ToSlice(kSnapshotKey), EncodeSnapshotMark(mark));
  if (status.ok()) {
    status = batch.Put(database_->meta(), ToSlice(kPositionKey), EncodePosition(position));
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(status, "complete the snapshot"));
  MR_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true, "complete the snapshot"));
  const MutexLock lock(mu_);
  snapshot_ = mark;
  readable_.NotifyAll();
  return Status::Ok();
}

Status RocksDbStore::BeginSlot(uint64_t system_identifier, uint32_t timeline) {
  const MutexLock commit_lock(commit_mu_);
  rocksdb::WriteBatch batch;
  rocksdb::Status status =
      batch.Put(database_->meta(), ToSlice(kSlotKey), EncodeNumber(kSlotPending));
  if (status.ok()) {
    status = batch.Put(database_->meta(), ToSlice(kSourceKey),
                       EncodeSourceIdentity({system_identifier, timeline}));
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(status, "record that a slot is about to be made"));
  return database_->Write(batch, /*sync=*/true, "record that a slot is about to be made");
}

Status RocksDbStore::BeginStreaming(SourcePosition position, std::span<const SourceNote> notes) {
  const MutexLock commit_lock(commit_mu_);
  rocksdb::WriteBatch batch;
  rocksdb::Status status = batch.Put(database_->meta(), ToSlice(kSlotKey), EncodeNumber(kSlotMade));
  const auto add = [&status](const rocksdb::Status& next) { status = status.ok() ? next : status; };
  add(batch.Put(database_->meta(), ToSlice(kPositionKey), EncodePosition(position)));
  for (const SourceNote& note : notes) {
    add(PutNote(*database_, note, batch));
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(status, "record that the slot is made"));
  return database_->Write(batch, /*sync=*/true, "record that the slot is made");
}

Status RocksDbStore::FollowServer(uint64_t system_identifier, uint32_t timeline,
                                  std::optional<SourcePosition> position,
                                  std::span<const SourceNote> notes) {
  constexpr std::string_view kWhat = "record the server on which the source goes on";
  const MutexLock commit_lock(commit_mu_);
  MR_ASSIGN_OR_RETURN(const SourceState state, LoadSourceState());
  if (!state.position.has_value() || position.value_or(*state.position) < *state.position) {
    return FailedPrecondition(
        fmt::format("{}: data_dir {} {}", kWhat, database_->data_dir(),
                    state.position.has_value() ? "is further than that" : "has no position yet"));
  }
  rocksdb::WriteBatch batch;
  rocksdb::Status status = batch.Put(database_->meta(), ToSlice(kSourceKey),
                                     EncodeSourceIdentity({system_identifier, timeline}));
  const auto add = [&status](const rocksdb::Status& next) { status = status.ok() ? next : status; };
  if (position.has_value()) {
    add(batch.Put(database_->meta(), ToSlice(kPositionKey), EncodePosition(*position)));
  }
  for (const SourceNote& note : notes) {
    add(PutNote(*database_, note, batch));
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(status, kWhat));
  return database_->Write(batch, /*sync=*/true, kWhat);
}

// ---- Registries ----

Result<StateTableId> RocksDbStore::OpenStateTable(std::string_view name) {
  const MutexLock registry_lock(registry_mu_);
  uint32_t newest = 0;
  {
    const MutexLock lock(mu_);
    if (const auto it = state_tables_.find(name); it != state_tables_.end()) {
      return it->second;
    }
    for (const auto& [known, id] : state_tables_) {
      newest = std::max(newest, id.value());
    }
  }
  const StateTableId id(newest + 1);
  MR_CHECK(id.value() < UINT32_MAX - 1);
  rocksdb::WriteBatch batch;
  const std::string key = std::string(kStateTablePrefix).append(name);
  MR_RETURN_IF_ERROR(database_->ToStatus(
      batch.Put(database_->meta(), key, EncodeNumber(id.value())), "open a state table"));
  MR_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true, "open a state table"));
  const MutexLock lock(mu_);
  state_tables_.emplace(name, id);
  return id;
}

Result<StreamPtr> RocksDbStore::OpenStream(const Stream& stream) {
  const MutexLock registry_lock(registry_mu_);
  auto opened = std::make_shared<Stream>(stream);
  {
    const MutexLock lock(mu_);
    const auto it = newest_streams_.find(stream.name);
    if (it != newest_streams_.end()) {
      const Stream& newest = *it->second;
      if (*newest.columns == *stream.columns && newest.key == stream.key &&
          newest.append_only == stream.append_only) {
        return it->second;
      }
      opened->id = newest.id;
      opened->schema_version = SchemaVersion(newest.schema_version.value() + 1);
    } else {
      uint32_t id = 0;
      for (const auto& [name, known] : newest_streams_) {
        id = std::max(id, known->id.value());
      }
      opened->id = StreamId(id + 1);
      opened->schema_version = SchemaVersion(1);
    }
  }
  rocksdb::WriteBatch batch;
  std::string key(kStreamPrefix);
  AppendBigEndian(key, opened->id.value());
  AppendBigEndian(key, opened->schema_version.value());
  MR_RETURN_IF_ERROR(database_->ToStatus(batch.Put(database_->meta(), key, EncodeStream(*opened)),
                                         "open a stream"));
  MR_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true, "open a stream"));
  const MutexLock lock(mu_);
  streams_[{opened->id, opened->schema_version}] = opened;
  newest_streams_[opened->name] = opened;
  return StreamPtr(std::move(opened));
}

StreamPtr RocksDbStore::FindStream(StreamId id, SchemaVersion version) const {
  const MutexLock lock(mu_);
  const auto it = streams_.find({id, version});
  return it == streams_.end() ? nullptr : it->second;
}

// ---- State ----

Result<std::vector<std::optional<std::string>>> RocksDbStore::GetState(
    StateTableId table, std::span<const std::string> keys) {
  std::vector<std::optional<std::string>> rows(keys.size());
  std::string bytes;  // the prefixed keys of one group, one behind the other
  std::vector<rocksdb::Slice> slices;
  std::vector<rocksdb::PinnableSlice> values(std::min(keys.size(), kMultiGetKeys));
  std::vector<rocksdb::Status> statuses(values.size());
  for (size_t begin = 0; begin < keys.size(); begin += kMultiGetKeys) {
    const size_t n = std::min(kMultiGetKeys, keys.size() - begin);
    bytes.clear();
    for (size_t i = 0; i < n; ++i) {
      AppendStateKeyPrefix(bytes, table.value());
      bytes.append(keys[begin + i]);
    }
    slices.clear();
    for (size_t i = 0, at = 0; i < n; ++i) {
      slices.emplace_back(bytes.data() + at, kStateKeyPrefix + keys[begin + i].size());
      at += slices.back().size();
    }
    database_->db().MultiGet(rocksdb::ReadOptions(), database_->state(), n, slices.data(),
                             values.data(), statuses.data());
    for (size_t i = 0; i < n; ++i) {
      if (statuses[i].ok()) {
        rows[begin + i].emplace(values[i].data(), values[i].size());
      } else if (!statuses[i].IsNotFound()) {
        return database_->ToStatus(statuses[i], "read state rows");
      }
      values[i].Reset();
    }
  }
  return rows;
}

Status RocksDbStore::ScanState(
    StateTableId table,
    const std::function<Status(std::string_view key, std::string_view row)>& row) {
  std::string begin;
  std::string end;
  AppendStateKeyPrefix(begin, table.value());
  AppendStateKeyPrefix(end, table.value() + 1);
  const rocksdb::Slice bound(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &bound;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> at(
      database_->db().NewIterator(options, database_->state()));
  for (at->Seek(begin); at->Valid(); at->Next()) {
    MR_RETURN_IF_ERROR(row(ToView(at->key()).substr(kStateKeyPrefix), ToView(at->value())));
  }
  return database_->ToStatus(at->status(), "read state rows");
}

uint64_t RocksDbStore::ApproximateStateBytes(StateTableId table) {
  std::string begin;
  std::string end;
  AppendStateKeyPrefix(begin, table.value());
  AppendStateKeyPrefix(end, table.value() + 1);
  const rocksdb::Range range(begin, end);
  rocksdb::SizeApproximationOptions options;
  options.include_memtables = true;
  uint64_t bytes = 0;
  const rocksdb::Status status = database_->db().GetApproximateSizes(
      options, database_->state(), &range, /*num_ranges=*/1, &bytes);
  return status.ok() ? bytes : 0;
}

// ---- Commit ----

std::unique_ptr<StoreBatch> RocksDbStore::NewBatch() {
  const MutexLock lock(mu_);
  return std::make_unique<RocksDbBatch>(*database_, log_end_, compression_);
}

Status RocksDbStore::Commit(std::unique_ptr<StoreBatch> batch) {
  const MutexLock commit_lock(commit_mu_);
  auto& gathered = static_cast<RocksDbBatch&>(*batch);
  {
    const MutexLock lock(mu_);
    if (gathered.log_begin().offset != log_end_.offset) {
      return FailedPrecondition(
          "commit a micro-batch: the output log has another end than when the batch was made");
    }
  }
  gathered.Finish();
  MR_RETURN_IF_ERROR(gathered.status());
  // Before this returns, a crash leaves the batch out or, if the WAL has all of it, in; never a
  // part.
  MR_RETURN_IF_ERROR(
      database_->Write(gathered.write_batch(), /*sync=*/true, "commit a micro-batch"));
  for (const OutputRecord& record : gathered.records()) {
    recent_.Insert(record);
  }
  const MutexLock lock(mu_);
  log_end_ = gathered.log_end();
  readable_.NotifyAll();
  return Status::Ok();
}

// ---- Output log ----

Offset RocksDbStore::ReadableEndLocked() const {
  return snapshot_.phase == SnapshotPhase::kPending ? snapshot_.staged_from.offset
                                                    : log_end_.offset;
}

Offset RocksDbStore::ReadableEnd() const {
  const MutexLock lock(mu_);
  return ReadableEndLocked();
}

Offset RocksDbStore::AppendEnd() const {
  const MutexLock lock(mu_);
  return log_end_.offset;
}

Offset RocksDbStore::LogBegin() const {
  const MutexLock lock(mu_);
  return log_begin_.offset;
}

uint64_t RocksDbStore::OutputLogBytes() const {
  const MutexLock lock(mu_);
  return log_end_.bytes - log_begin_.bytes;
}

Result<OutputRecord> RocksDbStore::ReadOutput(Offset offset) {
  Offset end;
  {
    const MutexLock lock(mu_);
    end = ReadableEndLocked();
    if (offset < log_begin_.offset) {
      return NotFound(fmt::format("read the output log at offset {}: it begins at {}",
                                  offset.value(), log_begin_.offset.value()));
    }
  }
  if (offset >= end) {
    return InvalidArgument(fmt::format("read the output log at offset {}: it ends at {}",
                                       offset.value(), end.value()));
  }
  if (std::optional<OutputRecord> record = recent_.Find(offset)) {
    return *std::move(record);
  }
  return ReadOutputFromDisk(offset, end);
}

Result<OutputRecord> RocksDbStore::DecodeRecord(rocksdb::Slice value) const {
  if (value.size() < kLogBytesPrefix) {
    return Corruption("a record of the output log is cut off");
  }
  value.remove_prefix(kLogBytesPrefix);
  return DecodeOutputRecord(ToView(value), [this](StreamId id, SchemaVersion version) {
    return FindStream(id, version);
  });
}

Result<OutputRecord> RocksDbStore::ReadOutputFromDisk(Offset offset, Offset readable_end) {
  const std::string what = fmt::format("read the output log at offset {}", offset.value());
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> at(
      database_->db().NewIterator(options, database_->output()));
  at->SeekForPrev(OutputKey(offset));
  MR_RETURN_IF_ERROR(database_->ToStatus(at->status(), what));
  std::optional<OutputRecord> found;
  size_t bytes = 0;
  while (at->Valid() && bytes < kReadAheadBytes) {
    MR_ASSIGN_OR_RETURN(const Offset first, DecodeOutputKey(ToView(at->key())));
    if (first >= readable_end) {
      break;
    }
    Result<OutputRecord> record = DecodeRecord(at->value());
    if (record.ok() && record->first != first) {
      record = Corruption("a record of the output log stands at another offset than its own");
    }
    if (!found.has_value()) {
      if (!record.ok()) {
        return Explain(record.status(), what);
      }
      if (record->end <= offset) {
        break;
      }
      found = *record;
    } else if (!record.ok()) {
      break;  // said when it is read itself
    }
    recent_.Insert(*record);
    bytes += at->value().size();
    at->Next();
  }
  if (found.has_value()) {
    return *std::move(found);
  }
  if (offset < LogBegin()) {  // truncated meanwhile
    return NotFound(what + ": it was dropped");
  }
  return Explain(Corruption("no record holds this offset"), what);
}

void RocksDbStore::WaitForOutput(Offset offset, std::chrono::steady_clock::time_point deadline,
                                 std::stop_token stop) {
  // Runs here, without the lock, if stop was requested before; else in the thread that requests it.
  const std::stop_callback wake(stop, [this] {
    const MutexLock lock(mu_);
    readable_.NotifyAll();
  });
  const MutexLock lock(mu_);
  while (ReadableEndLocked() <= offset && !stop.stop_requested()) {
    if (!readable_.WaitUntil(mu_, deadline)) {
      return;
    }
  }
}

Status RocksDbStore::TruncateOutput(Offset offset) {
  const MutexLock truncate_lock(truncate_mu_);
  LogPoint begin;
  LogPoint end;
  Offset readable_end;
  {
    const MutexLock lock(mu_);
    begin = log_begin_;
    end = log_end_;
    readable_end = ReadableEndLocked();
  }
  if (offset > readable_end) {
    return InvalidArgument(fmt::format("truncate the output log at offset {}: it ends at {}",
                                       offset.value(), readable_end.value()));
  }
  if (offset <= begin.offset) {
    return Status::Ok();
  }
  if (offset == end.offset) {
    begin = end;
  } else {
    const std::unique_ptr<rocksdb::Iterator> at(
        database_->db().NewIterator(rocksdb::ReadOptions(), database_->output()));
    at->SeekForPrev(OutputKey(offset));
    MR_RETURN_IF_ERROR(database_->ToStatus(at->status(), "truncate the output log"));
    if (!at->Valid() || at->value().size() < kLogBytesPrefix) {
      return Explain(Corruption("no record holds the offset"), "truncate the output log");
    }
    MR_ASSIGN_OR_RETURN(const Offset first, DecodeOutputKey(ToView(at->key())));
    if (first <= begin.offset) {
      return Status::Ok();
    }
    begin.offset = first;
    std::memcpy(&begin.bytes, at->value().data(), kLogBytesPrefix);
  }
  rocksdb::WriteBatch batch;
  MR_RETURN_IF_ERROR(database_->ToStatus(
      batch.Put(database_->meta(), ToSlice(kOutputBeginKey), EncodeLogPoint(begin)),
      "truncate the output log"));
  MR_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true, "truncate the output log"));
  {
    const MutexLock lock(mu_);
    log_begin_ = begin;
  }
  recent_.DropBefore(begin.offset);
  // A crash here leaves files that the next truncation drops: it begins at 0 again.
  MR_FAILPOINT("storage.after_truncate_outputs");
  const std::string limit = OutputKey(begin.offset);
  const rocksdb::Slice limit_slice(limit);
  return database_->ToStatus(
      rocksdb::DeleteFilesInRange(&database_->db(), database_->output(), nullptr, &limit_slice,
                                  /*include_end=*/false),
      "drop files of the output log");
}

// ---- Delivery ----

Result<DeliveryState> RocksDbStore::LoadDelivery(std::string_view sink) {
  MR_ASSIGN_OR_RETURN(const std::optional<std::string> stored,
                      database_->Get(database_->delivery(), sink));
  if (!stored.has_value()) {
    return DeliveryState();
  }
  Result<DeliveryState> state = DecodeDelivery(*stored);
  if (!state.ok()) {
    return Explain(state.status(), fmt::format("read the delivery state of sink '{}'", sink));
  }
  return state;
}

Status RocksDbStore::SaveDelivery(std::string_view sink, const DeliveryState& state, bool sync) {
  const std::string what = fmt::format("save the delivery state of sink '{}'", sink);
  rocksdb::WriteBatch batch;
  MR_RETURN_IF_ERROR(database_->ToStatus(
      batch.Put(database_->delivery(), ToSlice(sink), EncodeDelivery(state)), what));
  return database_->Write(batch, sync, what);
}

}  // namespace millrace::storage
