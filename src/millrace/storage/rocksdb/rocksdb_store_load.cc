// SPDX-License-Identifier: Apache-2.0
//
// What RocksDbStore does once, when it opens.

#include <array>

#include <fmt/format.h>
#include <sys/random.h>

#include "millrace/storage/rocksdb/rocksdb_store_impl.h"
#include "millrace/storage/stream_codec.h"

namespace millrace::storage {

namespace {

constexpr std::string_view kOpen = "open data_dir";

// 128 random bits as 32 hexadecimal digits.
Result<std::string> MakeInstanceId() {
  std::array<unsigned char, 16> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return Internal("make data_dir: the kernel gives no random bytes");
  }
  std::string id;
  for (const unsigned char byte : bytes) {
    id += fmt::format("{:02x}", byte);
  }
  return id;
}

// Calls `entry` with the rest of each key of the meta family that begins with `prefix`.
Status ForEachMeta(Database& database, std::string_view prefix,
                   const std::function<Status(std::string_view, std::string_view)>& entry) {
  const std::unique_ptr<rocksdb::Iterator> at(
      database.db().NewIterator(rocksdb::ReadOptions(), database.meta()));
  for (at->Seek(ToSlice(prefix)); at->Valid() && ToView(at->key()).starts_with(prefix);
       at->Next()) {
    MR_RETURN_IF_ERROR(entry(ToView(at->key()).substr(prefix.size()), ToView(at->value())));
  }
  return database.ToStatus(at->status(), kOpen);
}

Result<bool> IsEmpty(Database& database) {
  for (rocksdb::ColumnFamilyHandle* family :
       {database.meta(), database.state(), database.pending(), database.output(),
        database.delivery(), database.dead_letter()}) {
    const std::unique_ptr<rocksdb::Iterator> at(
        database.db().NewIterator(rocksdb::ReadOptions(), family));
    at->SeekToFirst();
    MR_RETURN_IF_ERROR(database.ToStatus(at->status(), kOpen));
    if (at->Valid()) {
      return false;
    }
  }
  return true;
}

}  // namespace

template <typename T>
Result<T> RocksDbStore::LoadMeta(std::string_view key, Result<T> (*decode)(std::string_view),
                                 T absent) {
  MR_ASSIGN_OR_RETURN(const std::optional<std::string> stored,
                      database_->Get(database_->meta(), key));
  if (!stored.has_value()) {
    return absent;
  }
  Result<T> value = decode(*stored);
  if (!value.ok()) {
    return Explain(value.status(), fmt::format("read '{}'", key));
  }
  return value;
}

template Result<SourceIdentity> RocksDbStore::LoadMeta(std::string_view,
                                                       Result<SourceIdentity> (*)(std::string_view),
                                                       SourceIdentity);
template Result<PartsMark> RocksDbStore::LoadMeta(std::string_view,
                                                  Result<PartsMark> (*)(std::string_view),
                                                  PartsMark);

Result<SourceState> RocksDbStore::LoadSourceState() {
  SourceState state;
  MR_ASSIGN_OR_RETURN(const SourceIdentity identity,
                      LoadMeta(kSourceKey, DecodeSourceIdentity, SourceIdentity()));
  state.system_identifier = identity.system_identifier;
  state.timeline = identity.timeline;
  MR_ASSIGN_OR_RETURN(const uint32_t slot, LoadMeta(kSlotKey, DecodeNumber, kSlotMade));
  state.slot_pending = slot == kSlotPending;
  MR_ASSIGN_OR_RETURN(const std::optional<std::string> position,
                      database_->Get(database_->meta(), kPositionKey));
  if (position.has_value()) {
    Result<SourcePosition> decoded = DecodePosition(*position);
    if (!decoded.ok()) {
      return Explain(decoded.status(), "read the source position");
    }
    state.position = *decoded;
  }
  MR_RETURN_IF_ERROR(
      ForEachMeta(*database_, kNotePrefix, [&](std::string_view name, std::string_view text) {
        state.notes.emplace(name, text);
        return Status::Ok();
      }));
  return state;
}

Status RocksDbStore::Load() {
  MR_RETURN_IF_ERROR(CheckFormat());
  MR_RETURN_IF_ERROR(LoadRegistries());
  MR_RETURN_IF_ERROR(LoadLog());
  MR_RETURN_IF_ERROR(LoadDeadLetterEnd());
  return LoadParts();
}

Status RocksDbStore::CheckFormat() {
  MR_ASSIGN_OR_RETURN(const uint32_t format, LoadMeta(kFormatKey, DecodeNumber, uint32_t{0}));
  if (format == 0) {
    return CreateFormat();
  }
  if (format > kDataDirFormat) {
    return Unsupported(
        fmt::format("open data_dir {}: it has format {}, this version of millrace reads up to {}; "
                    "start it with "
                    "the version that wrote it, or a newer one",
                    database_->data_dir(), format, kDataDirFormat));
  }
  if (!database_->unknown_family().empty()) {
    return Explain(Corruption(fmt::format("it has the column family '{}', which format {} has not",
                                          database_->unknown_family(), format)),
                   kOpen);
  }
  MR_ASSIGN_OR_RETURN(std::optional<std::string> id,
                      database_->Get(database_->meta(), kInstanceIdKey));
  if (!id.has_value() || id->size() != 32) {
    return Explain(Corruption("it has no instance id"), kOpen);
  }
  instance_id_ = *std::move(id);
  return Status::Ok();
}

Status RocksDbStore::CreateFormat() {
  // A crash before the write below leaves a database without entries, which comes here again.
  MR_ASSIGN_OR_RETURN(const bool empty, IsEmpty(*database_));
  if (!empty) {
    return Explain(Corruption("it holds rows but no format"), kOpen);
  }
  MR_ASSIGN_OR_RETURN(instance_id_, MakeInstanceId());
  rocksdb::WriteBatch batch;
  rocksdb::Status status =
      batch.Put(database_->meta(), std::string(kFormatKey), EncodeNumber(kDataDirFormat));
  if (status.ok()) {
    status = batch.Put(database_->meta(), std::string(kInstanceIdKey), instance_id_);
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(status, "make data_dir"));
  return database_->Write(batch, /*sync=*/true, "make data_dir");
}

Status RocksDbStore::LoadRegistries() {
  const MutexLock lock(mu_);
  const auto add_state_table = [&](std::string_view name, std::string_view value) MR_REQUIRES(mu_) {
    const Result<uint32_t> id = DecodeNumber(value);
    if (!id.ok()) {
      return Explain(id.status(), "read a state table");
    }
    state_tables_.emplace(name, StateTableId(*id));
    return Status::Ok();
  };
  MR_RETURN_IF_ERROR(ForEachMeta(*database_, kStateTablePrefix, add_state_table));
  const auto add_stream = [&](std::string_view, std::string_view value) MR_REQUIRES(mu_) {
    Result<StreamPtr> stream = DecodeStream(value);
    if (!stream.ok()) {
      return Explain(stream.status(), "read a stream");
    }
    // Versions come in ascending order.
    streams_[{(*stream)->id, (*stream)->schema_version}] = *stream;
    newest_streams_[(*stream)->name] = *stream;
    return Status::Ok();
  };
  return ForEachMeta(*database_, kStreamPrefix, add_stream);
}

Status RocksDbStore::LoadLog() {
  const MutexLock lock(mu_);
  MR_ASSIGN_OR_RETURN(log_begin_, LoadMeta(kOutputBeginKey, DecodeLogPoint, LogPoint()));
  MR_ASSIGN_OR_RETURN(log_end_, LoadMeta(kOutputEndKey, DecodeLogPoint, LogPoint()));
  MR_ASSIGN_OR_RETURN(parts_, LoadMeta(kPartsKey, DecodePartsMark, PartsMark()));
  if (log_begin_.offset > log_end_.offset || log_begin_.bytes > log_end_.bytes ||
      (parts_.phase == PartsPhase::kOpen && parts_.outputs_from.offset > log_end_.offset)) {
    return Explain(Corruption("the output log begins behind its end"), kOpen);
  }
  // The newest record must be where the log ends: positions and records are of one commit.
  MR_ASSIGN_OR_RETURN(const std::unique_ptr<rocksdb::Iterator> at, SeekRecord({}, kOpen));
  Offset stored_end = log_begin_.offset;
  OutputPlace newest;
  if (at->Valid()) {
    MR_ASSIGN_OR_RETURN(newest, DecodeOutputKey(ToView(at->key())));
  }
  const bool is_rest_of_dropped = newest.piece != 0 && newest.first < log_begin_.offset;
  if (at->Valid() && !is_rest_of_dropped) {
    if (at->value().size() < kLogBytesPrefix) {
      return Explain(Corruption("the newest record of the output log is cut off"), kOpen);
    }
    const Result<OutputRecordHead> head =
        DecodeOutputRecordHead(ToView(at->value()).substr(kLogBytesPrefix));
    if (!head.ok()) {
      return Explain(head.status(), kOpen);
    }
    stored_end = std::max(stored_end, head->end);
  }
  if (stored_end != log_end_.offset) {
    return Explain(Corruption(fmt::format("the output log ends at offset {} where {} was committed",
                                          stored_end.value(), log_end_.offset.value())),
                   kOpen);
  }
  return Status::Ok();
}

}  // namespace millrace::storage
