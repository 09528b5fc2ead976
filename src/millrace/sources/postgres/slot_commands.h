// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/source_state.h"
#include "millrace/sources/postgres/postgres_config.h"
#include "millrace/sources/postgres/slot.h"
#include "millrace/sources/source.h"

namespace millrace::sources::postgres {

// What `millrace slot` does; each call makes its own connections.

struct SlotReport {
  std::string peer;  // host:port/database
  int server_version = 0;
  SystemInfo system;
  std::optional<SlotInfo> slot;
};

Result<SlotReport> ShowPostgresSlot(const PostgresSourceConfig& config);

// The report as lines `name  value`. With `state` also our position, and whether the slot serves
// it.
std::string RenderSlotReport(const std::string& slot, const SlotReport& report,
                             const SourceState* state);

// Drops the slot. kUnavailable with the pid while it is in use, kFailedPrecondition if it is not of
// the kind that Millrace makes. True if there was one.
Result<bool> DropPostgresSlot(const PostgresSourceConfig& config);

struct Adoption {
  SourcePosition from;
  SourcePosition to;
  bool made_slot = false;
};

// Lets data_dir go on at a database that moved, with the next epoch: at the position of the slot
// that is there, or of one that it makes. What changed between both positions is not read.
//
// A crash leaves data_dir as it was, or adopted; and at most a slot that the next try takes.
//
// kFailedPrecondition if the database did not move, data_dir has no position, a snapshot is not
// complete, or the epochs are used up; kUnavailable while the slot is in use.
// REQUIRES: nobody else holds `store`.
Result<Adoption> AdoptPostgresSlot(const PostgresSourceConfig& config, const SourceState& state,
                                   SourceStateStore& store);

}  // namespace millrace::sources::postgres
