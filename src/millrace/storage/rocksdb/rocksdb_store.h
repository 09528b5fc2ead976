// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "millrace/common/result.h"
#include "millrace/storage/store.h"

namespace rocksdb {
class Env;
}

namespace millrace::storage {

// Memory of an open store: cache_bytes + write_buffer_bytes + recent_bytes, plus the micro-batch
// that is being committed and about 30 MiB for the heads of open files and for compaction.
struct OpenOptions {
  // data_dir. Made with mode 0700 if missing; an empty directory, and one of ours, is set to 0700.
  std::string path;
  // Blocks of state rows, with their indexes and filters.
  uint64_t cache_bytes = uint64_t{64} << 20;
  // Committed changes that are not in table files yet. Flushes begin at seven eighths of it; while
  // a flush runs the rest and at most as much again may be used.
  uint64_t write_buffer_bytes = uint64_t{64} << 20;
  // Decoded records of the output log that sinks may read again.
  uint64_t recent_bytes = uint64_t{32} << 20;
  // LZ4 on records of the output log.
  bool compress_output = true;
  // For tests: the file system. Null: the machine's.
  rocksdb::Env* env = nullptr;
};

// Opens data_dir, or makes it. Replays what the last run committed: blocking, up to seconds.
//
// kFailedPrecondition if another process holds data_dir, or if the directory holds other things;
// kUnsupported if a newer version of Millrace wrote it; kCorruption, kPermissionDenied,
// kResourceExhausted with the remedy.
Result<std::unique_ptr<Store>> OpenRocksDbStore(const OpenOptions& options);

}  // namespace millrace::storage
