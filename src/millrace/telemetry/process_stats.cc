// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/process_stats.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include <sys/resource.h>
#include <unistd.h>

namespace millrace::telemetry {
namespace {

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Seconds since 1970-01-01 UTC at which the machine started, from the line `btime N`.
double BootTime() {
  const std::string stat = ReadFile("/proc/stat");
  const size_t at = stat.find("\nbtime ");
  return at == std::string::npos ? 0 : std::strtod(stat.c_str() + at + 7, nullptr);
}

}  // namespace

ProcessStats ReadProcessStats() {
  ProcessStats stats;
  // The second field is the program's name in parentheses and may hold anything; `state` is the
  // first field behind it.
  const std::string stat = ReadFile("/proc/self/stat");
  if (const size_t name_end = stat.rfind(") "); name_end != std::string::npos) {
    std::istringstream fields(stat.substr(name_end + 2));
    std::string skipped;
    uint64_t user = 0;
    uint64_t system = 0;
    uint64_t start = 0;
    uint64_t virtual_bytes = 0;
    uint64_t resident_pages = 0;
    const auto skip = [&](int n) {
      for (int i = 0; i < n; ++i) {
        fields >> skipped;
      }
    };
    skip(11);  // fields 3 to 13
    fields >> user >> system;
    skip(6);  // 16 to 21
    fields >> start >> virtual_bytes >> resident_pages;
    if (fields) {
      const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
      stats.cpu_seconds = static_cast<double>(user + system) / ticks;
      stats.start_time_seconds = BootTime() + static_cast<double>(start) / ticks;
      stats.resident_bytes = resident_pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    }
  }
  std::error_code error;
  for (std::filesystem::directory_iterator fd("/proc/self/fd", error), end; !error && fd != end;
       fd.increment(error)) {
    ++stats.open_fds;
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    stats.max_fds = limit.rlim_cur;
  }
  return stats;
}

}  // namespace millrace::telemetry
