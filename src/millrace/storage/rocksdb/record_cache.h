// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>

#include "millrace/common/mutex.h"
#include "millrace/model/stream.h"

namespace millrace::storage {

// Records of the output log that were committed or decoded lately, so that several sinks near one
// place of the log share one decoding. Bounded by bytes; what was used longest ago goes first.
//
// Threads: any.
class RecordCache {
 public:
  explicit RecordCache(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // The record that holds `offset`.
  std::optional<OutputRecord> Find(Offset offset);
  // Keeps `record`, unless it is larger than the whole cache.
  void Insert(const OutputRecord& record);
  // Drops records that end at or before `offset`.
  void DropBefore(Offset offset);
  uint64_t byte_size() const;

 private:
  struct Entry {
    OutputRecord record;
    uint64_t bytes = 0;
  };
  using Entries = std::list<Entry>;

  void Erase(std::map<Offset, Entries::iterator>::iterator at) MR_REQUIRES(mu_);

  // Constant after construction.
  const uint64_t bytes_max_;
  // Guarded by mu_.
  mutable Mutex mu_;
  Entries entries_ MR_GUARDED_BY(mu_);  // used last first
  std::map<Offset, Entries::iterator> by_first_ MR_GUARDED_BY(mu_);
  uint64_t bytes_ MR_GUARDED_BY(mu_) = 0;
};

}  // namespace millrace::storage
