// SPDX-License-Identifier: Apache-2.0
//
// What is left after kill -9 at any moment. Each round goes on where the one before was killed.

#include <array>
#include <random>
#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "millrace/storage/rocksdb/rocksdb_store.h"
#include "millrace/storage/rocksdb/testing/crash_batches.h"
#include "millrace/storage/rocksdb/testing/temp_dir.h"

namespace millrace::storage {
namespace {

// Runs crash_writer; kills it once it has acknowledged `commits` and after `spin` more
// microseconds. Returns the newest commit that it acknowledged.
uint64_t WriteAndKill(const std::string& data_dir, uint64_t commits, uint64_t spin_us) {
  std::array<int, 2> ends{};
  EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execl(MILLRACE_CRASH_WRITER, "crash_writer", data_dir.c_str(), nullptr);
    _exit(127);
  }
  close(ends[1]);
  FILE* lines = fdopen(ends[0], "r");
  std::array<char, 32> line{};
  uint64_t newest = 0;
  uint64_t seen = 0;
  while (seen < commits && std::fgets(line.data(), line.size(), lines) != nullptr) {
    newest = std::stoull(line.data());
    ++seen;
  }
  EXPECT_EQ(seen, commits) << "crash_writer ended by itself";
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(spin_us);
  while (std::chrono::steady_clock::now() < until) {
  }
  kill(child, SIGKILL);
  while (std::fgets(line.data(), line.size(), lines) != nullptr) {
    newest = std::stoull(line.data());
  }
  std::fclose(lines);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  return newest;
}

TEST(RocksDbStoreCrashTest, KilledWritersLeaveWholeCommitsAndAllThatWereAcknowledged) {
  const testing::TempDir dir;
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  uint64_t before = 0;
  for (int round = 0; round < 20; ++round) {
    const uint64_t acknowledged = WriteAndKill(dir.path(), 1 + random() % 60, random() % 3000);
    EXPECT_GT(acknowledged, before);
    OpenOptions options;
    options.path = dir.path();
    auto store = OpenRocksDbStore(options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    const Status status = testing::CheckCommits(**store, acknowledged, before);
    ASSERT_TRUE(status.ok()) << "round " << round << ": " << status.ToString();
  }
}

}  // namespace
}  // namespace millrace::storage
