// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/slot.h"

#include <algorithm>
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

constexpr std::string_view kAdopt =
    "if the database moved here, run `millrace slot adopt`, which goes on with a new epoch";
constexpr std::string_view kOtherServer = "point source.url to the server that data_dir belongs to";

std::string SetUpAgain(const std::string& slot) {
  return fmt::format(
      "set source.on_slot_lost: snapshot to read all tables again, run `millrace slot adopt` to go "
      "on from here without them, or set the pipeline up again ({} on the server, then an empty "
      "data_dir)",
      DropSlotStatement(slot));
}

SlotVerdict Refuse(SlotFault fault, const std::string& name, std::string_view why,
                   std::string_view choices) {
  return {fault,
          FailedPrecondition(fmt::format("replication slot '{}' {}: {}", name, why, choices))};
}

Status Active(const std::string& name, int32_t pid) {
  return Unavailable(
      fmt::format("replication slot '{}' is active for PID {} of the server", name, pid));
}

// The server's word for why a slot is of no further use, and what keeps that from happening again.
struct Invalidation {
  std::string_view reason;
  std::string_view cause;
  std::string_view prevention;
};
constexpr Invalidation kInvalidations[] = {
    {"wal_removed", "its WAL was removed", "raise max_slot_wal_keep_size there"},
    {"rows_removed", "a conflict with recovery removed rows that it needs",
     "set hot_standby_feedback = on and a primary_slot_name on the standby"},
    {"wal_level_insufficient", "the primary's wal_level was set below logical",
     "set wal_level = logical on the primary"},
    {"idle_timeout", "it was idle for longer than idle_replication_slot_timeout",
     "raise idle_replication_slot_timeout there"},
    {"conflicting", "it was in conflict with recovery",
     "set hot_standby_feedback = on and a primary_slot_name on the standby"},
};

const Invalidation& Explain(const SlotInfo& slot) {
  for (const Invalidation& known : kInvalidations) {
    if (known.reason == slot.invalidation_reason) {
      return known;
    }
  }
  return kInvalidations[0];  // wal_status is all that servers before 16 say
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
  MR_ASSIGN_OR_RETURN(const pg::QueryResult standby,
                      connection.Exec("SELECT pg_catalog.pg_is_in_recovery()"));
  system.is_standby = standby.row_count() == 1 && standby.Text(0, 0) == "t";
  return system;
}

Result<std::string> ReadInstance(pg::Connection& connection) {
  MR_ASSIGN_OR_RETURN(const pg::QueryResult row,
                      connection.Exec("SELECT pg_postmaster_start_time()"));
  return std::string(row.row_count() == 1 ? row.Text(0, 0) : "");
}

TimelineHistory ParseTimelineHistory(std::string_view text) {
  TimelineHistory history;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto next_word = [&line] {
      line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
      const std::string_view word =
          line.substr(0, std::min(line.find_first_of(" \t"), line.size()));
      line.remove_prefix(word.size());
      return word;
    };
    const std::string_view number = next_word();
    const std::string_view lsn = next_word();
    if (number.empty() || number.front() == '#') {
      continue;
    }
    if (const Result<Lsn> at = ParseLsn(lsn); at.ok()) {
      history.push_back({Number<uint32_t>(number), *at});
    }
  }
  return history;
}

Result<TimelineHistory> ReadTimelineHistory(pg::Connection& connection, uint32_t timeline) {
  if (timeline <= 1) {
    return TimelineHistory();  // the first has no history file
  }
  MR_ASSIGN_OR_RETURN(const pg::QueryResult row,
                      connection.Exec(fmt::format("TIMELINE_HISTORY {}", timeline)));
  if (row.row_count() != 1 || row.column_count() < 2) {
    return Internal("TIMELINE_HISTORY gave no row");
  }
  return ParseTimelineHistory(row.Text(0, 1));
}

Result<std::optional<SlotInfo>> ReadSlot(pg::Connection& connection, const std::string& slot) {
  // Columns that only newer servers have are asked for by name in JSON.
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult row,
      connection.Exec(
          "SELECT s.plugin, s.database, s.active, s.active_pid, s.confirmed_flush_lsn, "
          "s.restart_lsn, s.wal_status, s.safe_wal_size, s.two_phase, s.temporary, "
          "to_jsonb(s)->>'conflicting', to_jsonb(s)->>'invalidation_reason', "
          "to_jsonb(s)->>'failover', to_jsonb(s)->>'synced', "
          "greatest(0, coalesce(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE "
          "pg_current_wal_lsn() END - s.restart_lsn, 0)) FROM pg_replication_slots s "
          "WHERE s.slot_name = " +
          pg::QuoteLiteral(slot)));
  if (row.row_count() == 0) {
    return std::optional<SlotInfo>();
  }
  const auto lsn = [&row](size_t column) -> Result<std::optional<Lsn>> {
    if (row.IsNull(0, column)) {
      return std::optional<Lsn>();
    }
    MR_ASSIGN_OR_RETURN(const Lsn value, ParseLsn(row.Text(0, column)));
    return std::optional<Lsn>(value);
  };
  SlotInfo info;
  info.plugin = row.Text(0, 0);
  info.database = row.Text(0, 1);
  info.is_active = row.Text(0, 2) == "t";
  info.active_pid = Number<int32_t>(row.Text(0, 3));
  MR_ASSIGN_OR_RETURN(info.confirmed_flush_lsn, lsn(4));
  MR_ASSIGN_OR_RETURN(info.restart_lsn, lsn(5));
  info.wal_status = row.Text(0, 6);
  if (!row.IsNull(0, 7)) {
    info.safe_wal_size = Number<int64_t>(row.Text(0, 7));
  }
  info.two_phase = row.Text(0, 8) == "t";
  info.is_temporary = row.Text(0, 9) == "t";
  info.invalidation_reason = row.Text(0, 11);
  if (info.invalidation_reason.empty() && row.Text(0, 10) == "true") {
    info.invalidation_reason = "conflicting";
  }
  info.failover = row.Text(0, 12) == "true";
  info.synced = row.Text(0, 13) == "true";
  info.retained_wal_bytes = Number<uint64_t>(row.Text(0, 14));
  return std::optional<SlotInfo>(std::move(info));
}

Status CheckServerIsOurs(const SystemInfo& system, const TimelineHistory& history,
                         const SourceState& state) {
  if (state.system_identifier == 0) {
    return Status::Ok();
  }
  if (system.system_identifier != state.system_identifier) {
    return FailedPrecondition(
        fmt::format("the server has system identifier {}, and data_dir belongs to {}: {}, or, {}",
                    system.system_identifier, state.system_identifier, kOtherServer, kAdopt));
  }
  if (system.timeline < state.timeline) {
    return FailedPrecondition(fmt::format(
        "the server is on timeline {}, and data_dir goes on on timeline {}, so that this is an old "
        "primary that a failover left behind: point source.url to the server that took over",
        system.timeline, state.timeline));
  }
  if (!state.position.has_value()) {
    return Status::Ok();
  }
  const Lsn position = state.position->end_lsn;
  if (system.timeline != state.timeline) {
    const auto left =
        std::find_if(history.begin(), history.end(),
                     [&](const TimelineSwitch& entry) { return entry.timeline == state.timeline; });
    if (left == history.end()) {
      return FailedPrecondition(fmt::format(
          "the server is on timeline {}, which does not go back to timeline {} that data_dir "
          "belongs to: {}, or, {}",
          system.timeline, state.timeline, kOtherServer, kAdopt));
    }
    if (position > left->at) {
      return FailedPrecondition(fmt::format(
          "data_dir holds changes up to {} of timeline {}, and the server, now on timeline {}, has "
          "that one only up to {}, so that sinks hold changes that the failover undid: run "
          "`millrace slot adopt` and read the tables again with `millrace snapshot`, or set the "
          "pipeline up again with an empty data_dir",
          FormatLsn(position), state.timeline, system.timeline, FormatLsn(left->at)));
    }
  }
  if (position > system.wal_end && system.is_standby) {
    return Unavailable(
        fmt::format("the standby has WAL up to {}, and data_dir holds changes up to {}",
                    FormatLsn(system.wal_end), FormatLsn(position)));
  }
  if (position > system.wal_end) {
    return FailedPrecondition(fmt::format(
        "the server's WAL ends at {}, before the position {} that data_dir holds, so that it was "
        "set back: {}, or, {}",
        FormatLsn(system.wal_end), FormatLsn(position), kOtherServer, kAdopt));
  }
  return Status::Ok();
}

SlotVerdict JudgeSlotKind(const std::string& name, const SlotInfo& slot, const SystemInfo& system) {
  if (slot.plugin != "pgoutput") {
    return Refuse(SlotFault::kForeign, name,
                  slot.plugin.empty()
                      ? "is a physical slot"
                      : fmt::format("is of plugin {} and not pgoutput", slot.plugin),
                  "name another source.slot");
  }
  if (slot.database != system.database) {
    return Refuse(SlotFault::kForeign, name,
                  fmt::format("belongs to database {} and not {}", slot.database, system.database),
                  "correct source.url, or name another source.slot");
  }
  if (slot.two_phase) {
    return Refuse(SlotFault::kForeign, name,
                  "has two_phase on, with which prepared transactions are gone after a restart",
                  "name another source.slot, or set the pipeline up again");
  }
  if (system.is_standby && slot.synced) {
    return Refuse(SlotFault::kForeign, name,
                  "is a copy that the standby keeps of the primary's slot, which cannot be read",
                  "point source.url to the primary, or name another source.slot");
  }
  return {};
}

SlotVerdict JudgeSlot(const std::string& name, const std::optional<SlotInfo>& slot,
                      const SystemInfo& system, const SourceState& state) {
  const Lsn position = state.position->end_lsn;
  if (!slot.has_value()) {
    return Refuse(SlotFault::kLost, name,
                  fmt::format("does not exist, and data_dir goes on at {}, so that the changes "
                              "since then are gone",
                              FormatLsn(position)),
                  SetUpAgain(name));
  }
  if (SlotVerdict kind = JudgeSlotKind(name, *slot, system); kind.fault != SlotFault::kNone) {
    return kind;
  }
  if (slot->wal_status == "lost" || !slot->invalidation_reason.empty()) {
    const Invalidation& why = Explain(*slot);
    return Refuse(
        SlotFault::kLost, name,
        fmt::format("was invalidated by the server ({}), so that changes since {} are gone",
                    why.cause, FormatLsn(position)),
        fmt::format("{}, and {}", SetUpAgain(name), why.prevention));
  }
  if (slot->is_temporary || !slot->confirmed_flush_lsn.has_value()) {
    return {SlotFault::kBusy,
            Unavailable(fmt::format("replication slot '{}' is being made by PID {} of the server",
                                    name, slot->active_pid))};
  }
  if (*slot->confirmed_flush_lsn > position) {
    return Refuse(
        SlotFault::kLost, name,
        fmt::format("has moved past what this data_dir holds ({} against {}), or was made "
                    "again, so that changes between are gone",
                    FormatLsn(*slot->confirmed_flush_lsn), FormatLsn(position)),
        "start with the data_dir that the slot belongs to, restore a backup of it, " +
            SetUpAgain(name));
  }
  // A copy of a slot's files on a promoted server may lack rows of the catalog that it needs.
  if (state.system_identifier != 0 && system.timeline != state.timeline && !slot->synced) {
    return Refuse(SlotFault::kLost, name,
                  fmt::format("was not synced to this server before it went from timeline {} to {}",
                              state.timeline, system.timeline),
                  fmt::format("{}; with PostgreSQL 17 or newer, sync_replication_slots = on at the "
                              "standby keeps it",
                              SetUpAgain(name)));
  }
  if (slot->is_active) {
    return {SlotFault::kBusy, Active(name, slot->active_pid)};
  }
  return {};
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
      status = Active(slot, info->active_pid);
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

std::string CreateSlotCommand(const std::string& slot, int server_version, bool is_standby) {
  const std::string begin =
      fmt::format("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput", pg::QuoteIdentifier(slot));
  if (server_version >= 170000 && !is_standby) {
    return begin + " (SNAPSHOT 'nothing', FAILOVER true)";
  }
  // The form without parentheses is understood from 14 to 18.
  return begin + " NOEXPORT_SNAPSHOT";
}

}  // namespace millrace::sources::postgres
