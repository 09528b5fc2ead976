// SPDX-License-Identifier: Apache-2.0
//
// The dead letters of RocksDbStore.

#include <utility>

#include <fmt/format.h>

#include "millrace/common/check.h"
#include "millrace/storage/rocksdb/rocksdb_store_impl.h"

namespace millrace::storage {

namespace {

constexpr std::string_view kRead = "read the dead letters";
constexpr std::string_view kChange = "change the dead letters";

rocksdb::ReadOptions Uncached() {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  return options;
}

}  // namespace

Status RocksDbStore::LoadDeadLetterEnd() {
  MR_ASSIGN_OR_RETURN(const std::optional<std::string> stored,
                      database_->Get(database_->meta(), kDeadLetterEndKey));
  if (!stored.has_value()) {
    return Status::Ok();
  }
  if (stored->size() != sizeof(uint64_t)) {
    return Explain(Corruption("the next letter's number has another size"), kRead);
  }
  const MutexLock lock(mu_);
  dead_letter_end_ = DeadLetterId(LoadBigEndian<uint64_t>(stored->data()));
  return Status::Ok();
}

DeadLetterId RocksDbStore::NextDeadLetter() {
  const MutexLock lock(mu_);
  const DeadLetterId id = dead_letter_end_;
  dead_letter_end_ = DeadLetterId(id.value() + 1);
  return id;
}

Status RocksDbStore::ChangeDeadLetters(const DeadLetterChanges& changes) {
  MR_CHECK(changes.rows.size() <= changes.put.size());
  rocksdb::ColumnFamilyHandle* const family = database_->dead_letter();
  rocksdb::WriteBatch batch;
  rocksdb::Status status;
  const auto add = [&status](const rocksdb::Status& next) { status = status.ok() ? next : status; };
  RecordScratch scratch;
  for (size_t i = 0; i < changes.put.size(); ++i) {
    DeadLetter letter = changes.put[i];
    if (i < changes.rows.size()) {
      Buffer row;
      MR_RETURN_IF_ERROR(EncodeOutputRecord(changes.rows[i], compression_, scratch, row));
      letter.row_bytes = row.size();
      add(batch.Put(family, DeadLetterKey(kLetterRowPrefix, letter.id.value()),
                    ToSlice(row.view())));
    }
    add(batch.Put(family, DeadLetterKey(kLetterPrefix, letter.id.value()),
                  EncodeDeadLetter(letter)));
  }
  for (const DeadLetterId id : changes.removed) {
    add(batch.Delete(family, DeadLetterKey(kLetterPrefix, id.value())));
    add(batch.Delete(family, DeadLetterKey(kLetterRowPrefix, id.value())));
  }
  for (const Offset offset : changes.left_out) {
    add(batch.Put(family, DeadLetterKey(kLeftOutPrefix, offset.value(), changes.sink), ""));
  }
  if (changes.left_out_begin != Offset()) {
    add(batch.DeleteRange(family, DeadLetterKey(kLeftOutPrefix, 0),
                          DeadLetterKey(kLeftOutPrefix, changes.left_out_begin.value())));
  }
  if (!changes.rows.empty()) {
    std::string end;
    {
      const MutexLock lock(mu_);
      AppendBigEndian(end, dead_letter_end_.value());
    }
    add(batch.Put(database_->meta(), ToSlice(kDeadLetterEndKey), end));
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(status, kChange));
  // Before this returns a crash leaves all of it out, or all of it in.
  const size_t bytes = batch.GetDataSize();
  MR_RETURN_IF_ERROR(database_->Write(batch, /*sync=*/true, kChange));
  return database_->FlushAfter(bytes);
}

Result<std::vector<DeadLetter>> RocksDbStore::ReadDeadLetters(DeadLetterId after, size_t limit) {
  const std::unique_ptr<rocksdb::Iterator> at(
      database_->db().NewIterator(Uncached(), database_->dead_letter()));
  std::vector<DeadLetter> letters;
  for (at->Seek(DeadLetterKey(kLetterPrefix, after.value() + 1));
       at->Valid() && at->key()[0] == kLetterPrefix && letters.size() < limit; at->Next()) {
    MR_ASSIGN_OR_RETURN(const auto key, DecodeDeadLetterKey(ToView(at->key())));
    Result<DeadLetter> letter = DecodeDeadLetter(DeadLetterId(key.first), ToView(at->value()));
    if (!letter.ok()) {
      return Explain(letter.status(), kRead);
    }
    letters.push_back(*std::move(letter));
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(at->status(), kRead));
  return letters;
}

Result<OutputRecord> RocksDbStore::ReadDeadLetterRow(DeadLetterId id) {
  MR_ASSIGN_OR_RETURN(
      const std::optional<std::string> stored,
      database_->Get(database_->dead_letter(), DeadLetterKey(kLetterRowPrefix, id.value())));
  if (!stored.has_value()) {
    return NotFound(fmt::format("there is no dead letter {}", id.value()));
  }
  Result<OutputRecord> record = DecodeOutputRecord(
      *stored,
      [this](StreamId stream, SchemaVersion version) { return FindStream(stream, version); });
  if (!record.ok()) {
    return Explain(record.status(), fmt::format("read dead letter {}", id.value()));
  }
  if (record->batches.size() != 1 || record->batches.front()->row_count() != 1) {
    return Explain(Corruption(fmt::format("dead letter {} is not one row", id.value())), kRead);
  }
  return record;
}

Result<std::vector<LeftOutRow>> RocksDbStore::ReadLeftOutRows() {
  const std::unique_ptr<rocksdb::Iterator> at(
      database_->db().NewIterator(Uncached(), database_->dead_letter()));
  std::vector<LeftOutRow> rows;
  for (at->Seek({&kLeftOutPrefix, 1}); at->Valid() && at->key()[0] == kLeftOutPrefix; at->Next()) {
    MR_ASSIGN_OR_RETURN(const auto key, DecodeDeadLetterKey(ToView(at->key())));
    rows.push_back({std::string(key.second), Offset(key.first)});
  }
  MR_RETURN_IF_ERROR(database_->ToStatus(at->status(), kRead));
  return rows;
}

}  // namespace millrace::storage
