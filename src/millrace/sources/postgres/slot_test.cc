// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/slot.h"

#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace::sources::postgres {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr uint64_t kServer = 7'000'000'000'000'000'001;

SystemInfo System() {
  return {.system_identifier = kServer, .timeline = 1, .wal_end = Lsn(1000), .database = "shop"};
}

SourceState State() {
  SourceState state;
  state.system_identifier = kServer;
  state.timeline = 1;
  state.position = SourcePosition{Epoch(0), Lsn(500)};
  return state;
}

SlotInfo Slot() {
  SlotInfo slot;
  slot.plugin = "pgoutput";
  slot.database = "shop";
  slot.confirmed_flush_lsn = Lsn(500);
  slot.restart_lsn = Lsn(400);
  slot.wal_status = "reserved";
  return slot;
}

struct SlotCase {
  const char* name;
  std::function<void(SlotInfo&, SystemInfo&)> change;
  SlotFault fault;
  const char* text;
};

// Cases: 7, 8, 9, 10.
TEST(SlotTest, EveryStateIsNamed) {
  const SlotCase cases[] = {
      {"at the position", [](SlotInfo&, SystemInfo&) {}, SlotFault::kNone, ""},
      {"behind", [](SlotInfo& s, SystemInfo&) { s.confirmed_flush_lsn = Lsn(499); },
       SlotFault::kNone, ""},
      {"ahead", [](SlotInfo& s, SystemInfo&) { s.confirmed_flush_lsn = Lsn(501); },
       SlotFault::kLost, "has moved past what this data_dir holds (0/1F5 against 0/1F4)"},
      {"active",
       [](SlotInfo& s, SystemInfo&) {
         s.is_active = true;
         s.active_pid = 42;
       },
       SlotFault::kBusy, "is active for PID 42"},
      {"active for another data_dir",
       [](SlotInfo& s, SystemInfo&) {
         s.is_active = true;
         s.confirmed_flush_lsn = Lsn(501);
       },
       SlotFault::kLost, "has moved past"},
      {"being made", [](SlotInfo& s, SystemInfo&) { s.confirmed_flush_lsn.reset(); },
       SlotFault::kBusy, "is being made by PID"},
      {"temporary", [](SlotInfo& s, SystemInfo&) { s.is_temporary = true; }, SlotFault::kBusy,
       "is being made by PID"},
      {"physical", [](SlotInfo& s, SystemInfo&) { s.plugin = ""; }, SlotFault::kForeign,
       "is a physical slot: name another source.slot"},
      {"other plugin", [](SlotInfo& s, SystemInfo&) { s.plugin = "wal2json"; }, SlotFault::kForeign,
       "is of plugin wal2json and not pgoutput"},
      {"other database", [](SlotInfo& s, SystemInfo&) { s.database = "other"; },
       SlotFault::kForeign, "belongs to database other and not shop"},
      {"two-phase", [](SlotInfo& s, SystemInfo&) { s.two_phase = true; }, SlotFault::kForeign,
       "has two_phase on"},
      {"a standby's copy",
       [](SlotInfo& s, SystemInfo& system) {
         s.synced = true;
         system.is_standby = true;
       },
       SlotFault::kForeign, "is a copy that the standby keeps"},
      {"lost", [](SlotInfo& s, SystemInfo&) { s.wal_status = "lost"; }, SlotFault::kLost,
       "was invalidated by the server (its WAL was removed)"},
      {"idle",
       [](SlotInfo& s, SystemInfo&) {
         s.wal_status = "lost";
         s.invalidation_reason = "idle_timeout";
       },
       SlotFault::kLost, "raise idle_replication_slot_timeout there"},
      {"conflict", [](SlotInfo& s, SystemInfo&) { s.invalidation_reason = "rows_removed"; },
       SlotFault::kLost, "a conflict with recovery removed rows that it needs"},
      {"promoted and not synced", [](SlotInfo&, SystemInfo& system) { system.timeline = 2; },
       SlotFault::kLost, "was not synced to this server before it went from timeline 1 to 2"},
      {"promoted and synced",
       [](SlotInfo& s, SystemInfo& system) {
         system.timeline = 2;
         s.synced = true;
       },
       SlotFault::kNone, ""},
  };
  for (const SlotCase& c : cases) {
    SlotInfo slot = Slot();
    SystemInfo system = System();
    c.change(slot, system);
    const SlotVerdict verdict = JudgeSlot("s", slot, system, State());
    EXPECT_EQ(verdict.fault, c.fault) << c.name;
    EXPECT_THAT(verdict.status.message(), HasSubstr(c.text)) << c.name;
    const Code code = c.fault == SlotFault::kNone   ? Code::kOk
                      : c.fault == SlotFault::kBusy ? Code::kUnavailable
                                                    : Code::kFailedPrecondition;
    EXPECT_EQ(verdict.status.code(), code) << c.name;
  }
}

TEST(SlotTest, AMissingSlotIsLostWithTheChoices) {
  const SlotVerdict verdict = JudgeSlot("my slot", std::nullopt, System(), State());
  EXPECT_EQ(verdict.fault, SlotFault::kLost);
  EXPECT_THAT(verdict.status.message(), HasSubstr("'my slot' does not exist"));
  EXPECT_THAT(verdict.status.message(), HasSubstr("0/1F4"));
  EXPECT_THAT(verdict.status.message(), HasSubstr("`millrace slot adopt`"));
}

TEST(SlotTest, OnlyOurServerServes) {
  const auto check = [](const std::function<void(SystemInfo&, SourceState&)>& change,
                        const TimelineHistory& history = {}) {
    SystemInfo system = System();
    SourceState state = State();
    change(system, state);
    return CheckServerIsOurs(system, history, state);
  };
  EXPECT_TRUE(check([](SystemInfo&, SourceState&) {}).ok());
  EXPECT_TRUE(check([](SystemInfo&, SourceState& s) { s = SourceState(); }).ok());
  const Status other = check([](SystemInfo& s, SourceState&) { s.system_identifier = 1; });
  EXPECT_EQ(other.code(), Code::kFailedPrecondition);
  EXPECT_THAT(other.message(), HasSubstr("has system identifier 1"));
  EXPECT_THAT(other.message(), HasSubstr("millrace slot adopt"));
  const Status set_back = check([](SystemInfo& s, SourceState&) { s.wal_end = Lsn(499); });
  EXPECT_EQ(set_back.code(), Code::kFailedPrecondition);
  EXPECT_THAT(set_back.message(), HasSubstr("was set back"));
  // A standby that has just started goes on to replay.
  EXPECT_EQ(check([](SystemInfo& s, SourceState&) {
              s.wal_end = Lsn(499);
              s.is_standby = true;
            }).code(),
            Code::kUnavailable);
}

// Cases: 10.
TEST(SlotTest, ATimelineIsFollowedOnlyIfItHoldsAllThatWasRead) {
  const auto check = [](uint32_t timeline, uint64_t position, const TimelineHistory& history) {
    SystemInfo system = System();
    system.timeline = timeline;
    SourceState state = State();
    state.timeline = 2;
    state.position->end_lsn = Lsn(position);
    return CheckServerIsOurs(system, history, state);
  };
  const TimelineHistory history = {{1, Lsn(100)}, {2, Lsn(600)}, {3, Lsn(700)}};
  EXPECT_TRUE(check(4, 600, history).ok());
  const Status undone = check(4, 601, history);
  EXPECT_EQ(undone.code(), Code::kFailedPrecondition);
  EXPECT_THAT(undone.message(), HasSubstr("sinks hold changes that the failover undid"));
  const Status foreign = check(4, 500, {{1, Lsn(100)}, {3, Lsn(700)}});
  EXPECT_EQ(foreign.code(), Code::kFailedPrecondition);
  EXPECT_THAT(foreign.message(), HasSubstr("does not go back to timeline 2"));
  const Status old = check(1, 500, {});
  EXPECT_EQ(old.code(), Code::kFailedPrecondition);
  EXPECT_THAT(old.message(), HasSubstr("an old primary that a failover left behind"));
}

TEST(SlotTest, HistoryFilesAreReadAsPostgresWritesThem) {
  const TimelineHistory history = ParseTimelineHistory(
      "1\t0/30001A0\tno recovery target specified\n\n# by hand\n2\t16/B374D848\tbefore 2020\nx\n3");
  ASSERT_THAT(history, SizeIs(2));
  EXPECT_EQ(history[0].timeline, 1u);
  EXPECT_EQ(history[0].at, Lsn(0x30001A0));
  EXPECT_EQ(history[1].timeline, 2u);
  EXPECT_EQ(history[1].at, Lsn(0x16B374D848));
  EXPECT_THAT(ParseTimelineHistory(""), SizeIs(0));
}

TEST(SlotTest, SlotsOfPrimariesAreFailoverSlotsWhereThatExists) {
  EXPECT_EQ(CreateSlotCommand("a\"b", 160004, false),
            "CREATE_REPLICATION_SLOT \"a\"\"b\" LOGICAL pgoutput NOEXPORT_SNAPSHOT");
  EXPECT_EQ(CreateSlotCommand("s", 170000, false),
            "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput (SNAPSHOT 'nothing', FAILOVER true)");
  EXPECT_EQ(CreateSlotCommand("s", 180000, true),
            "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput NOEXPORT_SNAPSHOT");
}

}  // namespace
}  // namespace millrace::sources::postgres
