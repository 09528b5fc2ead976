// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/model/lsn.h"
#include "millrace/model/source_state.h"

namespace millrace::sources::postgres {

// A replication slot as pg_replication_slots has it.
struct SlotInfo {
  std::string plugin;  // empty: a physical slot
  std::string database;
  bool is_active = false;
  int32_t active_pid = 0;
  std::optional<Lsn> confirmed_flush_lsn;
  std::string wal_status;           // reserved, extended, unreserved, lost
  std::string invalidation_reason;  // empty: valid
  bool two_phase = false;
  uint64_t retained_wal_bytes = 0;
};

// The server that a connection reaches, by IDENTIFY_SYSTEM.
struct SystemInfo {
  uint64_t system_identifier = 0;
  uint32_t timeline = 0;
  Lsn wal_end;
  std::string database;
};

// REQUIRES: a replication connection.
Result<SystemInfo> IdentifySystem(pg::Connection& connection);

// Nothing if there is no slot of that name.
Result<std::optional<SlotInfo>> ReadSlot(pg::Connection& connection, const std::string& slot);

// Whether the server is the one that `state` belongs to, and its WAL reaches to the position.
// kFailedPrecondition with the choices if not. A state without system identifier fits every server.
Status CheckServerIsOurs(const SystemInfo& system, const SourceState& state);

// Whether `slot` serves `state.position`: it exists, is ours to read, was not invalidated and did
// not move past the position. kFailedPrecondition with the choices; kUnavailable with the pid while
// it is active for another connection.
Status CheckSlotServes(const std::string& name, const std::optional<SlotInfo>& slot,
                       const SystemInfo& system, const SourceState& state);

// The SQL by which an operator drops the slot.
std::string DropSlotStatement(const std::string& slot);

// Drops the slot, waiting up to `wait` while it is active. OK if there is none. An active slot is
// never taken from its reader: kUnavailable with the pid then.
Status DropSlot(pg::Connection& connection, const std::string& slot,
                std::chrono::milliseconds wait);

// The replication command that makes the slot.
std::string CreateSlotCommand(const std::string& slot);

}  // namespace millrace::sources::postgres
