// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
  std::optional<Lsn> confirmed_flush_lsn;  // nothing while the slot is being made
  std::optional<Lsn> restart_lsn;
  std::string wal_status;           // reserved, extended, unreserved, lost
  std::string invalidation_reason;  // the server's word; empty: valid
  // How much WAL can still be written before the slot is invalidated; nothing: without limit.
  std::optional<int64_t> safe_wal_size;
  bool two_phase = false;
  bool is_temporary = false;
  bool failover = false;  // standbys are to have it too
  bool synced = false;    // came here from another server
  uint64_t retained_wal_bytes = 0;
};

// The server that a connection reaches, by IDENTIFY_SYSTEM.
struct SystemInfo {
  uint64_t system_identifier = 0;
  uint32_t timeline = 0;
  // The end of the WAL; on a standby, of what it has received and replayed.
  Lsn wal_end;
  std::string database;
  bool is_standby = false;
};

// Where a timeline was left for the next one.
struct TimelineSwitch {
  uint32_t timeline = 0;
  Lsn at;
};
using TimelineHistory = std::vector<TimelineSwitch>;

// REQUIRES: a replication connection.
Result<SystemInfo> IdentifySystem(pg::Connection& connection);

// What tells a server from another and from itself before its last restart; a promotion keeps it.
Result<std::string> ReadInstance(pg::Connection& connection);

// The text of a timeline's history file; lines that are no entries are left out, as PostgreSQL
// does.
TimelineHistory ParseTimelineHistory(std::string_view text);

// The timelines before `timeline`, the oldest first. REQUIRES: a replication connection.
Result<TimelineHistory> ReadTimelineHistory(pg::Connection& connection, uint32_t timeline);

// Nothing if there is no slot of that name.
Result<std::optional<SlotInfo>> ReadSlot(pg::Connection& connection, const std::string& slot);

// Whether the server is the one that `state` belongs to, and its WAL holds all that was read: the
// same timeline, or one that was left for the server's not before `state.position`. `history` is
// that of the server's timeline; it is looked at only if the timelines differ.
// kFailedPrecondition with the choices if not; kUnavailable while a standby has not yet replayed
// up to the position. A state without system identifier fits every server.
Status CheckServerIsOurs(const SystemInfo& system, const TimelineHistory& history,
                         const SourceState& state);

// What stands between a slot and going on from it.
enum class SlotFault {
  kNone,
  kBusy,     // active for another connection, or being made by one
  kLost,     // no longer holds what follows our position: source.on_slot_lost says what to do
  kForeign,  // of a kind that Millrace neither reads nor drops
};

struct SlotVerdict {
  SlotFault fault = SlotFault::kNone;
  // One sentence with the choices: kUnavailable for kBusy, kFailedPrecondition for the others.
  Status status;
};

// Whether `slot` serves `state.position`. A slot behind the position does.
// REQUIRES: state.position, and CheckServerIsOurs() is OK.
SlotVerdict JudgeSlot(const std::string& name, const std::optional<SlotInfo>& slot,
                      const SystemInfo& system, const SourceState& state);

// Whether a slot of this name can be read by us at all, wherever it stands.
SlotVerdict JudgeSlotKind(const std::string& name, const SlotInfo& slot, const SystemInfo& system);

// The SQL by which an operator drops the slot.
std::string DropSlotStatement(const std::string& slot);

// Drops the slot, waiting up to `wait` while it is active. OK if there is none. An active slot is
// never taken from its reader: kUnavailable with the pid then.
Status DropSlot(pg::Connection& connection, const std::string& slot,
                std::chrono::milliseconds wait);

// The replication command that makes the slot. Two-phase is off. From PostgreSQL 17 on a slot of a
// primary is a failover slot, which standbys with sync_replication_slots have too.
// `server_version` as Connection's.
std::string CreateSlotCommand(const std::string& slot, int server_version, bool is_standby);

}  // namespace millrace::sources::postgres
