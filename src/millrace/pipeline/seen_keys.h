// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/pipeline/string_map.h"
#include "millrace/storage/store.h"

namespace millrace::pipeline {

// SeenKeys remembers, while a table is read again (ChangeOp::kReadAgainBegin), the keys of the rows
// that a read or another change has shown since that began, so that at its end the others can be
// swept. Reading again may take many batches and restarts; the keys are a state table that is
// dropped at the end.
//
// Lifecycle, for each micro-batch: Load(), then Begin(), Show() and End() in the order of the
// changes, then Save() into the StoreBatch, which ends the micro-batch.
//
// Threads: the engine thread.
class SeenKeys {
 public:
  // `name` is that of the state table whose rows are seen.
  static Result<SeenKeys> Make(std::string_view name, storage::Store& store);

  Status Load();
  // The table is being read again.
  bool is_active() const { return is_active_; }
  void Begin();
  // REQUIRES: is_active().
  void Show(std::string_view key) { shown_.emplace(key); }
  void End() { is_active_ = false; }
  void Save(storage::StoreBatch& batch);
  // What is stored is not what it was, because a large transaction was dropped.
  void ForgetStored();

  // Reading again began in this micro-batch: nothing that was shown before it counts.
  bool has_begun() const { return has_begun_; }
  // Which of `keys` have been shown, in this micro-batch or before.
  Result<std::vector<bool>> AreSeen(std::span<const std::string> keys);
  // Which of `keys` had been shown when this micro-batch began.
  Result<std::vector<bool>> WereSeen(std::span<const std::string> keys);

  // The same for many keys, in ascending order.
  class Scan {
   public:
    explicit Scan(SeenKeys& keys) : stored_(keys.store_->ScanState(keys.table_)) {}
    bool WasSeen(std::string_view key) {
      while (stored_->Valid() && stored_->key() < key) {
        stored_->Next();
      }
      return stored_->Valid() && stored_->key() == key;
    }
    Status status() const { return stored_->status(); }

   private:
    std::unique_ptr<storage::StateCursor> stored_;
  };

 private:
  SeenKeys(storage::Store& store, storage::StateTableId table) : store_(&store), table_(table) {}

  // Constant after construction.
  storage::Store* store_;
  storage::StateTableId table_;

  bool is_loaded_ = false;
  bool is_active_ = false;
  // Of this micro-batch.
  bool has_begun_ = false;
  bool was_active_ = false;
  std::unordered_set<std::string, StringHash, std::equal_to<>> shown_;
};

}  // namespace millrace::pipeline
