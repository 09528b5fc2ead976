// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/clock.h"

#include <fstream>

#include <time.h>

namespace millrace {

namespace {

std::string ReadBootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

}  // namespace

Moment NowOfMachine() {
  static const std::string kBoot = ReadBootId();
  timespec since_boot{};
  clock_gettime(CLOCK_BOOTTIME, &since_boot);
  return {.wall_ms = NowMicros() / 1000,
          .boot = kBoot,
          .boot_ms = int64_t{since_boot.tv_sec} * 1000 + since_boot.tv_nsec / 1'000'000};
}

std::optional<std::chrono::milliseconds> Elapsed(const Moment& from, const Moment& to) {
  const bool is_same_start = !from.boot.empty() && from.boot == to.boot;
  const int64_t elapsed = is_same_start ? to.boot_ms - from.boot_ms : to.wall_ms - from.wall_ms;
  return elapsed < 0 ? std::nullopt : std::optional(std::chrono::milliseconds(elapsed));
}

}  // namespace millrace
