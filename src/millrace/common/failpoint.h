// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <string_view>

// Named places at which a test makes the process die, as kill -9 would, to show what a crash there
// costs. MILLRACE_FAILPOINT=<name> dies there at the first pass, <name>:<n> at the n-th.
namespace millrace::failpoint {

// Every failpoint, named module.moment. The crash suite loops over this list (`millrace version
// --failpoints`), so that a line here is a test more.
inline constexpr std::array<std::string_view, 27> kAll = {
    "source.before_slot_created",
    "source.after_slot_created",
    "source.before_chunk_read",
    "source.before_chunk_joins",
    "source.before_confirm",
    "source.after_tables_published",
    "pipeline.before_new_plan",
    "pipeline.after_new_plan",
    "engine.before_commit",
    "engine.after_commit",
    "sink_writer.before_prepare",
    "sink_writer.after_prepare",
    "dead_letters.before_keep",
    "dead_letters.after_keep",
    "dead_letters.before_send_again",
    "dead_letters.after_send_again",
    "sink_writer.before_deliver",
    "sink_writer.after_deliver",
    "clickhouse.before_alter",
    "clickhouse.after_plan_before_insert",
    "clickhouse.between_inserts",
    "clickhouse.after_insert_before_position",
    "redis.before_exec",
    "redis.after_exec",
    "kafka.before_commit",
    "kafka.after_commit",
    "storage.after_truncate_outputs",
};

namespace internal {
extern std::atomic<bool> armed;
void Pass(std::string_view name);
}  // namespace internal

// Reads MILLRACE_FAILPOINT. False if it names no failpoint. Called once by main().
bool ArmFromEnvironment();

}  // namespace millrace::failpoint

// One relaxed load while no failpoint is armed.
#define MR_FAILPOINT(name)                                                                     \
  do {                                                                                         \
    if (::millrace::failpoint::internal::armed.load(std::memory_order_relaxed)) [[unlikely]] { \
      ::millrace::failpoint::internal::Pass(name);                                             \
    }                                                                                          \
  } while (false)
