// SPDX-License-Identifier: Apache-2.0
//
// crash_writer DATA_DIR: opens the store and commits micro-batches until it is killed, printing the
// number of each once Commit() has returned. crash_test.cc kills it and looks at what is left.

#include <cstdio>
#include <memory>
#include <string>

#include "millrace/storage/rocksdb/rocksdb_store.h"
#include "millrace/storage/rocksdb/testing/crash_batches.h"

namespace millrace::storage {
namespace {

int Run(const std::string& data_dir) {
  OpenOptions options;
  options.path = data_dir;
  options.write_buffer_bytes = 4 << 20;  // small, so that flushes and moves of files are met too
  auto store = OpenRocksDbStore(options);
  if (!store.ok()) {
    std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
    return 1;
  }
  const Status status = testing::CommitForEver(**store, [](uint64_t commit) {
    std::printf("%llu\n", static_cast<unsigned long long>(commit));
    std::fflush(stdout);
  });
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace millrace::storage

int main(int argc, char** argv) { return argc == 2 ? millrace::storage::Run(argv[1]) : 2; }
