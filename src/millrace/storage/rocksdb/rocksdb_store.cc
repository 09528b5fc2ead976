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

// After a record that was read from disk, its followers are decoded too, up to so many bytes: a
// sink that lags behind small records reads them in one go.
constexpr size_t kReadAheadBytes = size_t{256} * 1024;

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

// ---- Source ----

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
          newest.append_only == stream.append_only && newest.table == stream.table) {
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

// ---- Commit ----

std::unique_ptr<StoreBatch> RocksDbStore::NewBatch() {
  const MutexLock lock(mu_);
  return std::make_unique<RocksDbBatch>(*database_, log_end_, compression_);
}

Status RocksDbStore::Commit(std::unique_ptr<StoreBatch> batch) {
  const MutexLock commit_lock(commit_mu_);
  auto& gathered = static_cast<RocksDbBatch&>(*batch);
  PartsMark mark;
  {
    const MutexLock lock(mu_);
    mark = parts_;
    if (gathered.log_begin().offset != log_end_.offset) {
      return FailedPrecondition(
          "commit a micro-batch: the output log has another end than when the batch was made");
    }
  }
  if (mark.phase == PartsPhase::kOpen && !gathered.is_part()) {
    return FailedPrecondition("commit a micro-batch: a transaction in parts is open");
  }
  if (mark.phase == PartsPhase::kNone && gathered.is_part()) {
    mark.outputs_from = gathered.log_begin();
  }
  if (gathered.is_part()) {
    mark.phase = gathered.is_last_part() ? PartsPhase::kSealed : PartsPhase::kOpen;
  }
  gathered.Finish(mark);
  MR_RETURN_IF_ERROR(gathered.status());
  // Before this returns, a crash leaves the batch out or, if the WAL has all of it, in; never a
  // part. Parts that are not the last become durable with the last.
  MR_RETURN_IF_ERROR(database_->Write(gathered.write_batch(),
                                      /*sync=*/mark.phase != PartsPhase::kOpen,
                                      "commit a micro-batch"));
  if (mark.phase == PartsPhase::kOpen) {
    // A crash here leaves beginnings of records, which opening drops with the transaction.
    while (const auto pieces = gathered.TakeRest()) {
      MR_RETURN_IF_ERROR(gathered.status());
      MR_RETURN_IF_ERROR(database_->Write(*pieces, /*sync=*/false, "commit a large record"));
    }
  }
  for (const OutputRecord& record : gathered.records()) {
    recent_.Insert(record);
  }
  {
    const MutexLock lock(mu_);
    log_end_ = gathered.log_end();
    parts_ = mark;
    if (gathered.is_part()) {
      cleared_.insert(gathered.cleared().begin(), gathered.cleared().end());
    }
    readable_.NotifyAll();
  }
  const size_t bytes = batch->byte_size();
  batch.reset();  // its memory, before others take some
  MR_RETURN_IF_ERROR(database_->FlushAfter(bytes));
  return mark.phase == PartsPhase::kSealed ? MergeParts() : Status::Ok();
}

// ---- Output log ----

Offset RocksDbStore::ReadableEndLocked() const {
  return parts_.phase == PartsPhase::kOpen ? parts_.outputs_from.offset : log_end_.offset;
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
  const LogPoint& end = parts_.phase == PartsPhase::kOpen ? parts_.outputs_from : log_end_;
  return end.bytes - log_begin_.bytes;
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

Result<std::unique_ptr<rocksdb::Iterator>> RocksDbStore::SeekRecord(std::optional<Offset> offset,
                                                                    std::string_view what) {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  std::unique_ptr<rocksdb::Iterator> at(database_->db().NewIterator(options, database_->output()));
  if (offset.has_value()) {
    at->SeekForPrev(OutputKey(*offset, UINT32_MAX));
  } else {
    at->SeekToLast();
  }
  if (at->Valid()) {
    MR_ASSIGN_OR_RETURN(const OutputPlace place, DecodeOutputKey(ToView(at->key())));
    if (place.piece != 0) {
      at->Seek(OutputKey(place.first));
    }
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(at->status(), what));
  return at;
}

// The record at which `at` stands, of any number of pieces; `at` is behind its last then if it has
// more than one.
Result<OutputRecord> RocksDbStore::ReadRecord(Offset first, rocksdb::Iterator& at) const {
  if (at.value().size() != kLogBytesPrefix + kOutputPiece) {
    return DecodeRecord(at.value());
  }
  Buffer record;
  record.Append(ToView(at.value()));
  at.Next();
  for (uint32_t piece = 1; at.Valid() && ToView(at.key()) == OutputKey(first, piece); ++piece) {
    record.Append(ToView(at.value()));
    at.Next();
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(at.status(), "read a large record"));
  return DecodeRecord(ToSlice(record.view()));
}

Result<OutputRecord> RocksDbStore::ReadOutputFromDisk(Offset offset, Offset readable_end) {
  const std::unique_lock turn = TakeTurn();
  if (std::optional<OutputRecord> record = recent_.Find(offset)) {
    return *std::move(record);  // another reader brought it meanwhile
  }
  const std::string what = fmt::format("read the output log at offset {}", offset.value());
  MR_ASSIGN_OR_RETURN(const std::unique_ptr<rocksdb::Iterator> at, SeekRecord(offset, what));
  std::optional<OutputRecord> found;
  size_t bytes = 0;
  while (at->Valid()) {
    MR_ASSIGN_OR_RETURN(const OutputPlace place, DecodeOutputKey(ToView(at->key())));
    if (place.first >= readable_end) {
      break;
    }
    const size_t size = at->value().size();
    Result<OutputRecord> record = ReadRecord(place.first, *at);
    if (record.ok() && (record->first != place.first || place.piece != 0)) {
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
    bytes += size;
    if (bytes >= kReadAheadBytes) {
      break;  // before the next one, which may be large, comes into memory
    }
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
    MR_ASSIGN_OR_RETURN(const std::unique_ptr<rocksdb::Iterator> at,
                        SeekRecord(offset, "truncate the output log"));
    if (!at->Valid() || at->value().size() < kLogBytesPrefix) {
      return Explain(Corruption("no record holds the offset"), "truncate the output log");
    }
    MR_ASSIGN_OR_RETURN(const OutputPlace place, DecodeOutputKey(ToView(at->key())));
    if (place.first <= begin.offset) {
      return Status::Ok();
    }
    begin.offset = place.first;
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
