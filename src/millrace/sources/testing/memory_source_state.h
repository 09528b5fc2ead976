// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "millrace/sources/source.h"

namespace millrace::sources::testing {

// A SourceStateStore in memory, for tests of a source without a data_dir.
class MemorySourceState final : public SourceStateStore {
 public:
  Status BeginSlot(uint64_t system_identifier, uint32_t timeline) override {
    state.system_identifier = system_identifier;
    state.timeline = timeline;
    state.slot_pending = true;
    return Status::Ok();
  }
  Status BeginStreaming(SourcePosition position, std::span<const SourceNote> notes) override {
    state.slot_pending = false;
    state.position = position;
    Keep(notes);
    return Status::Ok();
  }
  Status FollowServer(uint64_t system_identifier, uint32_t timeline,
                      std::optional<SourcePosition> position,
                      std::span<const SourceNote> notes) override {
    state.system_identifier = system_identifier;
    state.timeline = timeline;
    state.position = position.has_value() ? position : state.position;
    Keep(notes);
    return Status::Ok();
  }
  void Keep(std::span<const SourceNote> notes) {
    for (const SourceNote& note : notes) {
      if (note.text) {
        state.notes.insert_or_assign(note.name, *note.text);
      } else {
        state.notes.erase(note.name);
      }
    }
  }

  SourceState state;
};

}  // namespace millrace::sources::testing
