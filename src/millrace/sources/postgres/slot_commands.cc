// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/slot_commands.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "millrace/clients/postgres/connection.h"
#include "millrace/sources/postgres/publication.h"
#include "millrace/sources/postgres/server_check.h"
#include "millrace/sources/postgres/snapshot_progress.h"
#include "millrace/sources/postgres/table_registry.h"
#include "millrace/sources/postgres/xid_snapshot.h"

namespace millrace::sources::postgres {
namespace {

constexpr std::chrono::milliseconds kLockTimeout{5'000};
constexpr std::chrono::milliseconds kDropSlotWait{5'000};
// A slot that is made waits for all transactions that run then.
constexpr std::chrono::milliseconds kMakeSlotWait{60'000};
constexpr Epoch kEpochMax(127);

Result<std::unique_ptr<pg::Connection>> Open(const PostgresSourceConfig& config) {
  return pg::Connection::Connect(
      config.url,
      {.replication = true, .application_name = "millrace slot", .lock_timeout = kLockTimeout});
}

Result<SlotReport> Read(pg::Connection& connection, const PostgresSourceConfig& config) {
  SlotReport report{.peer = connection.peer(), .server_version = connection.server_version()};
  MR_ASSIGN_OR_RETURN(report.system, IdentifySystem(connection));
  MR_ASSIGN_OR_RETURN(report.slot, ReadSlot(connection, config.slot));
  return report;
}

std::string Bytes(uint64_t bytes) {
  return bytes < 10'000 ? fmt::format("{} bytes", bytes)
                        : fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

void Line(std::string& text, std::string_view name, std::string_view value) {
  text += fmt::format("{:<17} {}\n", name, value);
}

void AppendSlot(std::string& text, const SlotInfo& slot) {
  const auto lsn = [](const std::optional<Lsn>& value) {
    return value.has_value() ? FormatLsn(*value) : std::string("none");
  };
  Line(text, "active", slot.is_active ? fmt::format("for PID {}", slot.active_pid) : "no");
  Line(text, "confirmed", lsn(slot.confirmed_flush_lsn));
  Line(text, "restart", lsn(slot.restart_lsn));
  Line(text, "WAL status",
       slot.invalidation_reason.empty()
           ? slot.wal_status
           : fmt::format("{}, {}", slot.wal_status, slot.invalidation_reason));
  Line(text, "retained WAL", Bytes(slot.retained_wal_bytes));
  Line(text, "safe WAL size",
       slot.safe_wal_size.has_value()
           ? Bytes(static_cast<uint64_t>(std::max<int64_t>(0, *slot.safe_wal_size)))
           : "without limit (max_slot_wal_keep_size is -1)");
  Line(text, "failover slot",
       slot.synced     ? "yes, came here from another server"
       : slot.failover ? "yes"
                       : "no");
}

// Whether the slot would go on where data_dir is. `connection` is asked for timelines.
Status Serves(pg::Connection& connection, const std::string& name, const SlotReport& report,
              const SourceState& state) {
  TimelineHistory history;
  if (report.system.timeline > state.timeline) {
    MR_ASSIGN_OR_RETURN(history, ReadTimelineHistory(connection, report.system.timeline));
  }
  MR_RETURN_IF_ERROR(CheckServerIsOurs(report.system, history, state));
  return JudgeSlot(name, report.slot, report.system, state).status;
}

Result<Lsn> MakeSlot(pg::Connection& connection, const PostgresSourceConfig& config,
                     const SystemInfo& system) {
  const Result<pg::QueryResult> made = connection.Exec(
      CreateSlotCommand(config.slot, connection.server_version(), system.is_standby),
      kMakeSlotWait);
  if (made.status().code() == Code::kTimedOut) {
    connection.Cancel();  // it would go on, and leave a slot
    return TimedOut(fmt::format(
        "replication slot '{}' waits for transactions that run on the server: end them, and try "
        "again",
        config.slot));
  }
  MR_RETURN_IF_ERROR(made.status());
  const pg::QueryResult& row = *made;
  if (row.row_count() != 1 || row.column_count() < 2) {
    return Internal("CREATE_REPLICATION_SLOT gave no row");
  }
  return ParseLsn(row.Text(0, 1));
}

// Whether there is something to adopt, and nothing in its way.
Status CheckMayAdopt(pg::Connection& connection, const PostgresSourceConfig& config,
                     const SlotReport& report, const SourceState& state) {
  if (!state.position.has_value()) {
    return FailedPrecondition(
        "data_dir holds no position, so that there is nothing to go on with: `millrace run` makes "
        "the slot and reads the tables");
  }
  if (state.slot_pending) {
    return FailedPrecondition(
        "data_dir is about to make its slot and read all tables again: let `millrace run` finish "
        "that on the server that it began on, or set the pipeline up again with an empty data_dir");
  }
  const Status serves = Serves(connection, config.slot, report, state);
  if (serves.ok() || serves.code() == Code::kUnavailable) {
    return FailedPrecondition(fmt::format(
        "nothing has moved: the server is the one that data_dir belongs to{}, and `millrace run` "
        "goes on there",
        serves.ok() ? ", its slot serves data_dir's position" : " (" + serves.message() + ")"));
  }
  if (state.position->epoch >= kEpochMax) {
    return FailedPrecondition(
        fmt::format("data_dir has been adopted {} times, and versions have no room for more: set "
                    "the pipeline up again with an empty data_dir",
                    kEpochMax.value()));
  }
  return Status::Ok();
}

// Files and transactions of partitions are others there.
std::optional<SourceNote> ForgetPartitions(const Table& table, const SourceState& state) {
  const auto note = state.notes.find(NoteNameOf(table.FullName()));
  if (note == state.notes.end()) {
    return std::nullopt;
  }
  Result<SourceTable> known = ParseTableNote(note->second);
  if (!known.ok() || !known->partitions) {
    return std::nullopt;
  }
  known->partitions.reset();
  return SourceNote{note->first, FormatTableNote(*known)};
}

// How far the tables had been read when the database moved.
struct Readings {
  std::vector<SourceNote> done;         // what is not read again, though oids may be others there
  std::vector<SourceTable> unfinished;  // what is: transaction ids there are others
};

Result<Readings> FindReadings(const Catalog& catalog, const SourceState& state) {
  Readings readings;
  for (const CatalogTable& entry : catalog.tables) {
    const auto note = state.notes.find(ProgressNoteName(*entry.source.table));
    if (note == state.notes.end()) {
      continue;
    }
    MR_ASSIGN_OR_RETURN(TableProgress progress, DecodeProgress(note->second));
    if (!progress.is_done) {
      readings.unfinished.push_back(entry.source);
      continue;
    }
    progress.oid = entry.source.table->oid;
    readings.done.push_back({note->first, EncodeProgress(progress)});
    if (std::optional<SourceNote> table = ForgetPartitions(*entry.source.table, state)) {
      readings.done.push_back(*std::move(table));
    }
  }
  return readings;
}

// A standby's snapshot leaves running transactions out, so that it does not tell when a table may
// be read again.
Status CheckAllIsRead(const Readings& readings) {
  if (readings.unfinished.empty()) {
    return Status::Ok();
  }
  return FailedPrecondition(fmt::format(
      "table {} was being read when the database moved, and a standby cannot tell when to read it "
      "again: point source.url to the primary for this",
      readings.unfinished.front().table->FullName()));
}

// The notes to go on with. REQUIRES: the slot is there.
Result<std::vector<SourceNote>> PlanReading(pg::Connection& connection, Readings readings) {
  MR_ASSIGN_OR_RETURN(const pg::QueryResult row, connection.Exec("SELECT pg_current_snapshot()"));
  MR_ASSIGN_OR_RETURN(const XidSnapshot now, XidSnapshot::Parse(row.Text(0, 0)));
  for (SourceNote& note : PlanReadingAgain(readings.unfinished, now)) {
    readings.done.push_back(std::move(note));
  }
  return std::move(readings.done);
}

}  // namespace

Result<SlotReport> ShowPostgresSlot(const PostgresSourceConfig& config) {
  MR_ASSIGN_OR_RETURN(const std::unique_ptr<pg::Connection> connection, Open(config));
  return Read(*connection, config);
}

std::string RenderSlotReport(const std::string& slot, const SlotReport& report,
                             const SourceState* state) {
  std::string text;
  Line(text, "server",
       fmt::format("PostgreSQL {} at {}{}", report.server_version / 10000, report.peer,
                   report.system.is_standby ? ", a standby" : ""));
  Line(text, "system identifier", fmt::format("{}", report.system.system_identifier));
  Line(text, "timeline", fmt::format("{}", report.system.timeline));
  Line(text, "WAL end", FormatLsn(report.system.wal_end));
  Line(text, "slot", report.slot.has_value() ? slot : slot + " (does not exist)");
  if (report.slot.has_value()) {
    AppendSlot(text, *report.slot);
  }
  if (state != nullptr && state->position.has_value()) {
    Line(text, "data_dir",
         fmt::format("{}, epoch {}, timeline {}, system identifier {}",
                     FormatLsn(state->position->end_lsn), state->position->epoch.value(),
                     state->timeline, state->system_identifier));
  } else if (state != nullptr) {
    Line(text, "data_dir", "no position");
  }
  return text;
}

Result<bool> DropPostgresSlot(const PostgresSourceConfig& config) {
  MR_ASSIGN_OR_RETURN(const std::unique_ptr<pg::Connection> connection, Open(config));
  MR_ASSIGN_OR_RETURN(const SlotReport report, Read(*connection, config));
  if (!report.slot.has_value()) {
    return false;
  }
  MR_RETURN_IF_ERROR(JudgeSlotKind(config.slot, *report.slot, report.system).status);
  MR_RETURN_IF_ERROR(DropSlot(*connection, config.slot, kDropSlotWait));
  return true;
}

Result<Adoption> AdoptPostgresSlot(const PostgresSourceConfig& config, const SourceState& state,
                                   SourceStateStore& store) {
  MR_ASSIGN_OR_RETURN(const std::unique_ptr<pg::Connection> connection, Open(config));
  MR_ASSIGN_OR_RETURN(const SlotReport report, Read(*connection, config));
  MR_RETURN_IF_ERROR(CheckMayAdopt(*connection, config, report, state));
  const std::set<std::string> taken = TakenTables(state);
  MR_ASSIGN_OR_RETURN(const ServerReport server,
                      InspectServer(*connection, config, config.discover ? &taken : nullptr));
  if (!server.errors.empty()) {
    return server.errors.front();
  }
  MR_ASSIGN_OR_RETURN(Readings readings, FindReadings(server.catalog, state));
  if (report.system.is_standby) {
    MR_RETURN_IF_ERROR(CheckAllIsRead(readings));
  }
  Adoption adoption{.from = *state.position};
  adoption.to.epoch = Epoch(static_cast<uint8_t>(adoption.from.epoch.value() + 1));
  if (report.slot.has_value()) {
    // Judged as if data_dir stood where the slot does.
    SourceState there = state;
    there.timeline = report.system.timeline;
    there.position->end_lsn = report.slot->confirmed_flush_lsn.value_or(Lsn(0));
    MR_RETURN_IF_ERROR(JudgeSlot(config.slot, report.slot, report.system, there).status);
    adoption.to.end_lsn = there.position->end_lsn;
  } else {
    std::vector<SourceTable> tables;
    for (const CatalogTable& entry : server.catalog.tables) {
      tables.push_back(entry.source);
    }
    // The slot sees the publications only from their making on.
    MR_RETURN_IF_ERROR(EnsurePublications(*connection, config, tables).status());
    MR_ASSIGN_OR_RETURN(adoption.to.end_lsn, MakeSlot(*connection, config, report.system));
    adoption.made_slot = true;
  }
  MR_ASSIGN_OR_RETURN(const std::vector<SourceNote> notes,
                      PlanReading(*connection, std::move(readings)));
  MR_RETURN_IF_ERROR(store.FollowServer(report.system.system_identifier, report.system.timeline,
                                        adoption.to, notes));
  return adoption;
}

}  // namespace millrace::sources::postgres
