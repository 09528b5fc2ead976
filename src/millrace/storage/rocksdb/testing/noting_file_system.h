// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include "millrace/common/mutex.h"

namespace millrace::storage::testing {

// The synced bytes of each file by its path.
class SyncedSizes {
 public:
  void Set(const std::string& path, uint64_t bytes) {
    const MutexLock lock(mu_);
    bytes_[path] = bytes;
  }
  void Rename(const std::string& from, const std::string& to) {
    const MutexLock lock(mu_);
    if (const auto it = bytes_.find(from); it != bytes_.end()) {
      bytes_[to] = it->second;
      bytes_.erase(it);
    }
  }
  uint64_t Get(const std::string& path) const {
    const MutexLock lock(mu_);
    const auto it = bytes_.find(path);
    return it == bytes_.end() ? 0 : it->second;
  }

 private:
  mutable Mutex mu_;
  std::map<std::string, uint64_t> bytes_ MR_GUARDED_BY(mu_);
};

// Notes how much of a file is written and synced.
class NotingFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  NotingFile(std::unique_ptr<rocksdb::FSWritableFile> file, std::string path, SyncedSizes& sizes,
             const std::function<void()>& on_wal_write)
      : FSWritableFileOwnerWrapper(std::move(file)),
        path_(std::move(path)),
        sizes_(sizes),
        on_wal_write_(on_wal_write) {
    sizes_.Set(path_, 0);
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
    return Written(data.size(), target()->Append(data, options, debug));
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& info,
                           rocksdb::IODebugContext* debug) override {
    return Written(data.size(), target()->Append(data, options, info, debug));
  }
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* debug) override {
    sizes_.Set(path_, written_);
    return target()->Sync(options, debug);
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    sizes_.Set(path_, written_);
    return target()->Fsync(options, debug);
  }

 private:
  rocksdb::IOStatus Written(uint64_t bytes, rocksdb::IOStatus status) {
    written_ += bytes;
    if (on_wal_write_ && path_.ends_with(".log")) {
      on_wal_write_();
    }
    return status;
  }

  const std::string path_;
  SyncedSizes& sizes_;
  const std::function<void()>& on_wal_write_;
  uint64_t written_ = 0;
};

// A file system that notes what a power cut at any moment leaves.
class NotingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit NotingFileSystem(SyncedSizes& sizes)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), sizes_(sizes) {}
  // Called after each write to the WAL, before it is synced; by the thread that writes.
  void OnWalWrite(std::function<void()> call) { on_wal_write_ = std::move(call); }
  const char* Name() const override { return "NotingFileSystem"; }
  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override {
    std::unique_ptr<rocksdb::FSWritableFile> opened;
    rocksdb::IOStatus status = target()->NewWritableFile(path, options, &opened, debug);
    if (status.ok()) {
      *file = std::make_unique<NotingFile>(std::move(opened), path, sizes_, on_wal_write_);
    }
    return status;
  }
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    sizes_.Rename(from, to);
    return target()->RenameFile(from, to, options, debug);
  }

 private:
  SyncedSizes& sizes_;
  std::function<void()> on_wal_write_;
};

// Copies what a process that dies at this moment leaves of the data_dir `from` into `to`; with a
// `synced`, what a machine does whose power is cut.
inline void CopyAfterCrash(const std::string& from, const std::string& to,
                           const SyncedSizes* synced) {
  namespace fs = std::filesystem;
  fs::create_directories(to + "/rocksdb");
  for (const auto& entry : fs::directory_iterator(from + "/rocksdb")) {
    const std::string copy = to + "/rocksdb/" + entry.path().filename().string();
    fs::copy_file(entry.path(), copy);
    if (synced != nullptr) {
      fs::resize_file(copy, std::min<uint64_t>(entry.file_size(), synced->Get(entry.path())));
    }
  }
  fs::permissions(to, fs::perms(0700));
}

}  // namespace millrace::storage::testing
