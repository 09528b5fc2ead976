// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/slot.h"

#include <charconv>
#include <thread>

#include <fmt/format.h>

#include "millrace/clients/postgres/quoting.h"

namespace millrace::sources::postgres {
namespace {

template <typename T>
T Number(std::string_view text) {
  T value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

constexpr std::chrono::milliseconds kDropRetryWait{100};

std::string SetUpAgain(const std::string& slot) {
  return fmt::format("set the pipeline up again ({} on the server, then an empty data_dir)",
                     DropSlotStatement(slot));
}

Status Refuse(const std::string& name, std::string_view why, std::string_view choices) {
  return FailedPrecondition(fmt::format("replication slot '{}' {}: {}", name, why, choices));
}

}  // namespace

Result<SystemInfo> IdentifySystem(pg::Connection& connection) {
  MR_ASSIGN_OR_RETURN(const pg::QueryResult row, connection.Exec("IDENTIFY_SYSTEM"));
  if (row.row_count() != 1 || row.column_count() < 4) {
    return Internal("IDENTIFY_SYSTEM gave no row");
  }
  SystemInfo system;
  system.system_identifier = Number<uint64_t>(row.Text(0, 0));
  system.timeline = Number<uint32_t>(row.Text(0, 1));
  MR_ASSIGN_OR_RETURN(system.wal_end, ParseLsn(row.Text(0, 2)));
  system.database = row.Text(0, 3);
  return system;
}

Result<std::optional<SlotInfo>> ReadSlot(pg::Connection& connection, const std::string& slot) {
  // Columns that only newer servers have are asked for by name in JSON.
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult row,
      connection.Exec(
          "SELECT s.plugin, s.database, s.active, s.active_pid, s.confirmed_flush_lsn, "
          "s.wal_status, s.two_phase, to_jsonb(s)->>'conflicting', "
          "to_jsonb(s)->>'invalidation_reason', CASE WHEN pg_is_in_recovery() THEN 0 ELSE "
          "coalesce(pg_current_wal_lsn() - s.restart_lsn, 0) END FROM pg_replication_slots s "
          "WHERE s.slot_name = " +
          pg::QuoteLiteral(slot)));
  if (row.row_count() == 0) {
    return std::optional<SlotInfo>();
  }
  SlotInfo info;
  info.plugin = row.Text(0, 0);
  info.database = row.Text(0, 1);
  info.is_active = row.Text(0, 2) == "t";
  info.active_pid = Number<int32_t>(row.Text(0, 3));
  if (!row.IsNull(0, 4)) {
    MR_ASSIGN_OR_RETURN(info.confirmed_flush_lsn, ParseLsn(row.Text(0, 4)));
  }
  info.wal_status = row.Text(0, 5);
  info.two_phase = row.Text(0, 6) == "t";
  info.invalidation_reason = row.Text(0, 8);
  if (info.invalidation_reason.empty() && row.Text(0, 7) == "true") {
    info.invalidation_reason = "conflicting with recovery";
  }
  info.retained_wal_bytes = Number<uint64_t>(row.Text(0, 9));
  return std::optional<SlotInfo>(std::move(info));
}

Status CheckServerIsOurs(const SystemInfo& system, const SourceState& state) {
  constexpr std::string_view kServerChoices =
      "point source.url to the right server, or set the pipeline up again with an empty data_dir";
  if (state.system_identifier == 0) {
    return Status::Ok();
  }
  if (system.system_identifier != state.system_identifier) {
    return FailedPrecondition(
        fmt::format("the server has system identifier {}, and data_dir belongs to {}: {}",
                    system.system_identifier, state.system_identifier, kServerChoices));
  }
  if (system.timeline != state.timeline) {
    return FailedPrecondition(
        fmt::format("the server is on timeline {}, and data_dir belongs to timeline {}, so that a "
                    "failover or a "
                    "restore lies between and changes may be missing: {}",
                    system.timeline, state.timeline, kServerChoices));
  }
  if (state.position.has_value() && state.position->end_lsn > system.wal_end) {
    return FailedPrecondition(
        fmt::format("the server's WAL ends at {}, before the position {} that data_dir holds, so "
                    "that it was set "
                    "back: {}",
                    FormatLsn(system.wal_end), FormatLsn(state.position->end_lsn), kServerChoices));
  }
  return Status::Ok();
}

Status CheckSlotServes(const std::string& name, const std::optional<SlotInfo>& slot,
                       const SystemInfo& system, const SourceState& state) {
  const SourcePosition position = *state.position;
  if (!slot.has_value()) {
    return Refuse(name,
                  fmt::format("does not exist, and data_dir goes on at {}, so that the changes "
                              "since then are gone",
                              FormatLsn(position.end_lsn)),
                  "set the pipeline up again with an empty data_dir");
  }
  if (slot->plugin != "pgoutput") {
    return Refuse(name,
                  slot->plugin.empty()
                      ? "is a physical slot"
                      : fmt::format("is of plugin {} and not pgoutput", slot->plugin),
                  "name another source.slot");
  }
  if (slot->database != system.database) {
    return Refuse(name,
                  fmt::format("belongs to database {} and not {}", slot->database, system.database),
                  "correct source.url, or name another source.slot");
  }
  if (slot->wal_status == "lost" || !slot->invalidation_reason.empty()) {
    return Refuse(
        name,
        fmt::format(
            "was invalidated by the server ({}), so that changes since {} are gone",
            slot->invalidation_reason.empty() ? "its WAL was removed" : slot->invalidation_reason,
            FormatLsn(position.end_lsn)),
        SetUpAgain(name) + ", and raise max_slot_wal_keep_size there");
  }
  if (slot->two_phase) {
    return Refuse(name,
                  "has two_phase on, with which prepared transactions are gone after a restart",
                  "name another source.slot, or set the pipeline up again");
  }
  if (slot->confirmed_flush_lsn.has_value() && *slot->confirmed_flush_lsn > position.end_lsn) {
    return Refuse(name,
                  fmt::format("has moved past what this data_dir holds ({} against {})",
                              FormatLsn(*slot->confirmed_flush_lsn), FormatLsn(position.end_lsn)),
                  "start with the data_dir that the slot belongs to, restore a backup of it, or " +
                      SetUpAgain(name));
  }
  if (slot->is_active) {
    return Unavailable(fmt::format("replication slot '{}' is active for PID {} of the server", name,
                                   slot->active_pid));
  }
  return Status::Ok();
}

std::string DropSlotStatement(const std::string& slot) {
  return fmt::format("SELECT pg_drop_replication_slot({})", pg::QuoteLiteral(slot));
}

Status DropSlot(pg::Connection& connection, const std::string& slot,
                std::chrono::milliseconds wait) {
  const auto deadline = std::chrono::steady_clock::now() + wait;
  for (;;) {
    MR_ASSIGN_OR_RETURN(const std::optional<SlotInfo> info, ReadSlot(connection, slot));
    if (!info.has_value()) {
      return Status::Ok();
    }
    Status status;
    if (info->is_active) {
      status = Unavailable(fmt::format("replication slot '{}' is active for PID {} of the server",
                                       slot, info->active_pid));
    } else {
      const Result<pg::QueryResult> dropped = connection.Exec(DropSlotStatement(slot));
      if (dropped.ok() || dropped.status().code() == Code::kNotFound) {
        return Status::Ok();
      }
      status = dropped.status().WithContext(fmt::format("drop replication slot '{}'", slot));
    }
    if (status.code() != Code::kUnavailable || std::chrono::steady_clock::now() >= deadline) {
      return status;
    }
    std::this_thread::sleep_for(kDropRetryWait);
  }
}

std::string CreateSlotCommand(const std::string& slot) {
  // The form without parentheses is understood from 14 to 18. Two-phase is off unless asked for.
  return fmt::format("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput NOEXPORT_SNAPSHOT",
                     pg::QuoteIdentifier(slot));
}

}  // namespace millrace::sources::postgres
