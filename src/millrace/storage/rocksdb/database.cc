// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/database.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "millrace/storage/rocksdb/database_options.h"

namespace millrace::storage {

namespace {

namespace fs = std::filesystem;

constexpr char kSubdirectory[] = "rocksdb";
// What an open writes at once, a few files and the log of them, with room to spare.
constexpr uint64_t kFreeToOpen = uint64_t{16} << 20;
// A write of this size is beyond what batches of common rows come to.
constexpr size_t kLargeWrite = size_t{24} << 20;

Status FromErrno(int error, std::string_view what) {
  const std::string text =
      fmt::format("{}: {}", what, std::error_code(error, std::generic_category()).message());
  if (error == ENOSPC || error == EDQUOT) {
    return ResourceExhausted(text + "; free space and start again");
  }
  if (error == EACCES || error == EPERM || error == EROFS) {
    return PermissionDenied(text + "; let the user that runs millrace own and write it");
  }
  return FailedPrecondition(text);
}

// Makes the entry of a new directory durable.
Status SyncDirectory(const fs::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    return FromErrno(errno, fmt::format("open directory {}", path.string()));
  }
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  return result == 0 ? Status::Ok()
                     : FromErrno(error, fmt::format("sync directory {}", path.string()));
}

// Makes `path` and what is missing above it.
Status MakeDirectories(const fs::path& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) == 0) {
    return SyncDirectory(path.has_parent_path() ? path.parent_path() : ".");
  }
  if (errno == ENOENT && path.has_parent_path() && path.parent_path() != path) {
    MR_RETURN_IF_ERROR(MakeDirectories(path.parent_path(), 0755));
    if (mkdir(path.c_str(), mode) == 0) {
      return SyncDirectory(path.parent_path());
    }
  }
  if (errno == EEXIST) {
    return Status::Ok();
  }
  return FromErrno(errno, fmt::format("make data_dir {}", path.string()));
}

// A database whose list of files is gone would be made anew over what is left of it.
Status CheckNotHalfGone(const fs::path& database) {
  std::error_code error;
  if (!fs::exists(database, error) || fs::exists(database / "CURRENT", error)) {
    return Status::Ok();
  }
  const fs::directory_iterator end;
  for (fs::directory_iterator at(database, error); !error && at != end; at.increment(error)) {
    const fs::path extension = at->path().extension();
    if (extension == ".sst" || extension == ".log") {
      return Corruption(fmt::format(
          "open data_dir {}: the file CURRENT is gone while others are there; restore a "
          "backup of data_dir, or move it away and begin with a new snapshot",
          database.parent_path().string()));
    }
  }
  return Status::Ok();
}

// Leaves data_dir with mode 0700, owned by nobody else's things.
Status PrepareDirectory(const std::string& path) {
  // "a/b/" has an empty last part.
  fs::path data_dir(path);
  if (!data_dir.has_filename()) {
    data_dir = data_dir.parent_path();
  }
  MR_RETURN_IF_ERROR(MakeDirectories(data_dir, 0700));
  struct stat info {};
  if (stat(data_dir.c_str(), &info) != 0) {
    return FromErrno(errno, fmt::format("look at data_dir {}", path));
  }
  if (!S_ISDIR(info.st_mode)) {
    return FailedPrecondition(fmt::format("open data_dir {}: it is not a directory", path));
  }
  const fs::path database = data_dir / kSubdirectory;
  if ((info.st_mode & 0077) != 0) {
    std::error_code error;
    if (!fs::exists(database, error) && !fs::is_empty(data_dir, error)) {
      return FailedPrecondition(fmt::format(
          "open data_dir {}: the directory holds other things and other users may enter it; name a "
          "directory of its own, or set its mode to 0700",
          path));
    }
    if (chmod(data_dir.c_str(), 0700) != 0) {
      return FromErrno(errno, fmt::format("set the mode of data_dir {} to 0700", path));
    }
  }
  MR_RETURN_IF_ERROR(CheckNotHalfGone(database));
  return MakeDirectories(database, 0700);
}

}  // namespace

Database::Database(std::string data_dir)
    : data_dir_(std::move(data_dir)), latch_(std::make_shared<ErrorLatch>()) {}

Database::~Database() {
  if (db_ == nullptr) {
    return;
  }
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    db_->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
  }
  // What was not synced is at most delivered positions; whatever fails here, the WAL has the rest.
  // RocksDB aborts the process if a WAL is synced that a write has failed on.
  if (latch_->Get().ok()) {
    db_->SyncWAL().PermitUncheckedError();
  }
  db_->Close().PermitUncheckedError();
}

Result<std::unique_ptr<Database>> Database::Open(const OpenOptions& options) {
  MR_RETURN_IF_ERROR(PrepareDirectory(options.path));
  const std::string path = (fs::path(options.path) / kSubdirectory).string();
  std::unique_ptr<Database> database(new Database(options.path));
  rocksdb::DBOptions db_options = MakeDbOptions(options);
  db_options.listeners.push_back(MakeErrorListener(database->latch_, options.path));

  const std::shared_ptr<rocksdb::Cache> cache = MakeStateCache(options);
  const struct {
    const char* name = nullptr;
    rocksdb::ColumnFamilyHandle*& handle;
    rocksdb::ColumnFamilyOptions family;
  } known[] = {{"meta", database->meta_, MakeSmallFamilyOptions()},
               {"state", database->state_, MakeStateFamilyOptions(options, cache)},
               {"pending", database->pending_, MakePendingFamilyOptions(options, cache)},
               {"output", database->output_, MakeOutputFamilyOptions(options)},
               {"delivery", database->delivery_, MakeSmallFamilyOptions()},
               {"dead_letter", database->dead_letter_, MakeDeadLetterFamilyOptions()}};
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  families.emplace_back(rocksdb::kDefaultColumnFamilyName, MakeSmallFamilyOptions());
  for (const auto& [name, handle, family] : known) {
    families.emplace_back(name, family);
  }
  // With no room for the files that an open makes, RocksDB may abort the process.
  uint64_t free_bytes = 0;
  if (db_options.env->GetFreeSpace(options.path, &free_bytes).ok() && free_bytes < kFreeToOpen) {
    return database->ToStatus(rocksdb::Status::NoSpace("too little is free"), "open data_dir");
  }
  // A newer format may have more families, and RocksDB wants all of them to be named.
  std::vector<std::string> stored;
  if (std::error_code error; fs::exists(fs::path(path) / "CURRENT", error)) {
    MR_RETURN_IF_ERROR(database->ToStatus(
        rocksdb::DB::ListColumnFamilies(db_options, path, &stored), "open data_dir"));
  }
  for (const std::string& name : stored) {
    const auto is_name = [&name = name](const auto& family) { return family.name == name; };
    if (std::find_if(families.begin(), families.end(), is_name) == families.end()) {
      families.emplace_back(name, MakeSmallFamilyOptions());
      database->unknown_family_ = name;
    }
  }
  rocksdb::DB* db = nullptr;
  MR_RETURN_IF_ERROR(database->ToStatus(
      rocksdb::DB::Open(db_options, path, families, &database->handles_, &db), "open data_dir"));
  database->db_.reset(db);
  for (size_t i = 0; i < std::size(known); ++i) {
    known[i].handle = database->handles_[i + 1];
  }
  return database;
}

Status Database::Write(rocksdb::WriteBatch& batch, bool sync, std::string_view what) {
  MR_RETURN_IF_ERROR(latch_->Get());
  rocksdb::WriteOptions options;
  options.sync = sync;
  Status status = ToStatus(db_->Write(options, &batch), what);
  if (!status.ok()) {
    latch_->Set(status);
  }
  return status;
}

Status Database::FlushAfter(size_t bytes) {
  if (bytes < kLargeWrite) {
    return Status::Ok();
  }
  for (rocksdb::ColumnFamilyHandle* family : {output_, state_, pending_, dead_letter_}) {
    uint64_t held = 0;
    if (db_->GetIntProperty(family, rocksdb::DB::Properties::kCurSizeAllMemTables, &held) &&
        held >= kLargeWrite) {
      MR_RETURN_IF_ERROR(
          ToStatus(db_->Flush(rocksdb::FlushOptions(), family), "bring a large write to disk"));
    }
  }
  return Status::Ok();
}

Status Database::CompactIfLarge(rocksdb::ColumnFamilyHandle* family) {
  uint64_t held = 0;
  if (!db_->GetIntProperty(family, rocksdb::DB::Properties::kTotalSstFilesSize, &held) ||
      held < kLargeWrite) {
    return Status::Ok();
  }
  return ToStatus(db_->CompactRange(rocksdb::CompactRangeOptions(), family, nullptr, nullptr),
                  "compact what was deleted");
}

Result<std::optional<std::string>> Database::Get(rocksdb::ColumnFamilyHandle* family,
                                                 std::string_view key) {
  std::string value;
  const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), family, ToSlice(key), &value);
  if (status.IsNotFound()) {
    return std::optional<std::string>();
  }
  MR_RETURN_IF_ERROR(ToStatus(status, "read data_dir"));
  return std::optional<std::string>(std::move(value));
}

}  // namespace millrace::storage
