// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/seen_keys.h"

namespace millrace::pipeline {

namespace {

// Stands in the table while reading again goes on. No row has an empty key.
const std::string kMarker;

}  // namespace

Result<SeenKeys> SeenKeys::Make(std::string_view name, storage::Store& store) {
  MR_ASSIGN_OR_RETURN(const storage::StateTableId table,
                      store.OpenStateTable(std::string("seen/").append(name)));
  return SeenKeys(store, table);
}

Status SeenKeys::Load() {
  if (!is_loaded_) {
    MR_ASSIGN_OR_RETURN(const auto marker, store_->GetState(table_, std::span(&kMarker, 1)));
    is_active_ = marker.front().has_value();
    is_loaded_ = true;
  }
  was_active_ = is_active_;
  return Status::Ok();
}

void SeenKeys::Begin() {
  is_active_ = true;
  has_begun_ = true;
  shown_.clear();
}

void SeenKeys::Save(storage::StoreBatch& batch) {
  if (was_active_ && (has_begun_ || !is_active_)) {
    batch.ClearState(table_);
  }
  if (is_active_) {
    if (has_begun_) {
      batch.PutState(table_, kMarker, "");
    }
    for (const std::string& key : shown_) {
      batch.PutState(table_, key, "");
    }
  }
  has_begun_ = false;
  shown_.clear();
}

void SeenKeys::ForgetStored() { is_loaded_ = false; }

Result<std::vector<bool>> SeenKeys::AreSeen(std::span<const std::string> keys) {
  std::vector<bool> seen(keys.size());
  if (!has_begun_) {
    MR_ASSIGN_OR_RETURN(seen, WereSeen(keys));
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    seen[i] = seen[i] || shown_.contains(keys[i]);
  }
  return seen;
}

Result<std::vector<bool>> SeenKeys::WereSeen(std::span<const std::string> keys) {
  MR_ASSIGN_OR_RETURN(const auto stored, store_->GetState(table_, keys));
  std::vector<bool> seen(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    seen[i] = stored[i].has_value();
  }
  return seen;
}

}  // namespace millrace::pipeline
