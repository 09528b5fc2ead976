// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>

#include "millrace/sources/source.h"
#include "millrace/storage/store.h"

namespace millrace::pipeline {

// The source's view of data_dir. `store` outlives it.
class StoredSourceState final : public sources::SourceStateStore {
 public:
  explicit StoredSourceState(storage::Store& store) : store_(store) {}
  Status BeginSlot(uint64_t system_identifier, uint32_t timeline) override {
    return store_.BeginSlot(system_identifier, timeline);
  }
  Status BeginStreaming(SourcePosition position, std::span<const SourceNote> notes) override {
    return store_.BeginStreaming(position, notes);
  }
  Status FollowServer(uint64_t system_identifier, uint32_t timeline,
                      std::optional<SourcePosition> position,
                      std::span<const SourceNote> notes) override {
    return store_.FollowServer(system_identifier, timeline, position, notes);
  }

 private:
  storage::Store& store_;
};

}  // namespace millrace::pipeline
