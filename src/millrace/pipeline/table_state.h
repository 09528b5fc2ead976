// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"
#include "millrace/pipeline/batch_writer.h"
#include "millrace/pipeline/seen_keys.h"
#include "millrace/pipeline/string_map.h"
#include "millrace/storage/store.h"

namespace millrace::pipeline {

// A row somewhere in a batch, or none.
struct RowRef {
  const RowBatch* batch = nullptr;
  uint32_t row = 0;

  bool exists() const { return batch != nullptr; }
};

// TableState remembers rows of one source table: all of them where a stream joins the table, or
// only those that may hold values out of line, which PostgreSQL does not send again while they do
// not change. Rows are keyed by primary key.
//
// Within a micro-batch it knows each version of a row, so that a row can be read as of any
// transaction of the batch.
//
// Lifecycle, for each micro-batch: BeginBatch(), then any reads, then Save() and EndBatch(). Memory
// is then ahead of the store until the commit; one that fails ends the run. A part of a large
// transaction is a micro-batch like others.
//
// What changes all rows, TRUNCATE and the end of reading the table again, is not gathered row by
// row: memory is bounded by the batch.
//
// Threads: the engine thread.
class TableState {
 public:
  enum class Keep { kWideRows, kAllRows };

  // `cache_bytes` bounds the rows kept decoded in memory.
  static Result<std::unique_ptr<TableState>> Make(TablePtr table, Keep keep, storage::Store& store,
                                                  size_t cache_bytes);

  const Table& table() const { return *table_; }
  Keep keep() const { return keep_; }
  storage::StateTableId id() const { return id_; }

  // The table has a later version of its columns: rows that were stored before are fitted in as
  // they are read. REQUIRES: not between BeginBatch() and EndBatch().
  Status Follow(TablePtr newer);

  // Takes the table's changes of this micro-batch, null if there are none, and fills the values
  // that PostgreSQL left out of them. kFailedPrecondition if such a value was never seen.
  Status BeginBatch(TableChanges* changes);

  // A state of a row in this batch.
  struct Version {
    uint32_t transaction = 0;   // from this one on
    uint32_t new_row = kNoRow;  // row of the changes' new_rows; kNoRow: deleted
  };
  static constexpr int kAsStored = -1;
  static constexpr int kGone = -2;
  static constexpr int kIfSeen = -3;

  // The number of the version of `key` that transaction `transaction` of this batch sees: its own
  // changes and those committed before it. If the batch has none for the key: kAsStored; kGone
  // after a TRUNCATE; kIfSeen after the end of reading the table again, which leaves a row only if
  // that has shown it.
  int VersionAt(std::string_view key, uint32_t transaction) const;

  // Makes the stored rows of `keys` ready for Row().
  Status Fetch(std::span<const std::string> keys);
  // The row of `key` at `version`. REQUIRES: fetched, if version is kAsStored or kIfSeen. Valid
  // until EndBatch() or the next Fetch().
  RowRef Row(std::string_view key, int version) const;

  // Writes the newest versions, and drops what is gone.
  Status Save(BatchWriter& writer);
  void EndBatch();

  // For a second pass over the changes of a large transaction that this state holds already: fills
  // what PostgreSQL left out of them, as of each row, and leaves this state as it is. It has the
  // same lifecycle as this one.
  TableState& Replay();
  // Forgets what it has in memory of stored rows: they are not what they were, because a large
  // transaction was dropped.
  void ForgetStored();

 private:
  static constexpr uint32_t kAbsent = UINT32_MAX;

  TableState(TablePtr table, Keep keep, storage::Store& store, storage::StateTableId id,
             StreamPtr columns, size_t cache_bytes, std::optional<SeenKeys> seen);

  Status AddChange(const Change& change);
  void Truncate(uint32_t transaction);
  Status EndReadAgain(uint32_t transaction);
  Status SaveSweep(BatchWriter& writer);
  void ForgetRows();
  bool HasGap(uint32_t new_row) const;
  void AddVersion(std::string_view key, Version version);
  Status FillUnchangedToast();
  // Where each new_row with gaps finds the row before it: at an earlier new_row, or in the state.
  struct GapSources {
    std::unordered_map<uint32_t, uint32_t> earlier;
    std::unordered_map<uint32_t, RowRef> stored;
  };
  Result<GapSources> FindGapSources();
  void FillGaps(const GapSources& from);
  bool MayHoldOutOfLineValues(const RowBatch& rows, size_t row) const;
  Status CacheRow(std::string_view key, std::optional<std::string_view> bytes);
  // A stored row of an earlier version of the columns, as one of this version.
  Status CacheEarlierRow(SchemaVersion version, std::string_view bytes);

  // Constant but for Follow().
  TablePtr table_;
  StreamPtr columns_;  // the registered version of the table's columns

  // Constant after construction.
  const Keep keep_;
  storage::Store& store_;
  const storage::StateTableId id_;
  const size_t cache_bytes_;

  TableChanges* changes_ = nullptr;
  StringMap<std::vector<Version>> versions_;
  // The first transaction of this batch after which a row is gone that has no version, and the
  // first after which it is gone unless it was seen.
  std::optional<uint32_t> gone_at_;
  std::optional<uint32_t> swept_at_;
  std::optional<SeenKeys> seen_;  // nothing: of a Replay()
  // With swept_at_: the fetched keys that reading again has not shown.
  std::unordered_set<std::string, StringHash, std::equal_to<>> unseen_;
  // Rows as stored before this batch, decoded; dropped whole beyond cache_bytes_.
  RowBatch cached_rows_;
  StringMap<uint32_t> cache_index_;
  size_t cache_index_bytes_ = 0;
  std::unique_ptr<TableState> replay_;
};

}  // namespace millrace::pipeline
