// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/rocksdb_status.h"

#include <utility>

#include <fmt/format.h>

namespace millrace::storage {

namespace {

class ErrorListener final : public rocksdb::EventListener {
 public:
  ErrorListener(std::shared_ptr<ErrorLatch> latch, std::string data_dir)
      : latch_(std::move(latch)), data_dir_(std::move(data_dir)) {}

  void OnBackgroundError(rocksdb::BackgroundErrorReason /*reason*/,
                         rocksdb::Status* status) override {
    latch_->Set(FromRocksDb(*status, "write to data_dir in the background", data_dir_));
  }

 private:
  const std::shared_ptr<ErrorLatch> latch_;
  const std::string data_dir_;
};

// "While lock file: .../LOCK: Resource temporarily unavailable" from another process, "lock hold by
// current process" from this one.
bool IsLockHeld(const rocksdb::Status& status) {
  const std::string text = status.ToString();
  return status.IsIOError() && (text.find("lock file") != std::string::npos ||
                                text.find("lock hold by") != std::string::npos);
}

}  // namespace

Status FromRocksDb(const rocksdb::Status& status, std::string_view what,
                   const std::string& data_dir) {
  if (status.ok()) {
    return Status::Ok();
  }
  const std::string cause = status.ToString();
  if (IsLockHeld(status)) {
    return FailedPrecondition(
        fmt::format("{}: data_dir {} is in use by another process; stop it, "
                    "or give this pipeline a data_dir of its own",
                    what, data_dir));
  }
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::kNoSpace ||
      status.subcode() == rocksdb::Status::kSpaceLimit) {
    return ResourceExhausted(fmt::format(
        "{}: the file system of data_dir {} is full; free space on it and start again; nothing "
        "that was stored is lost",
        what, data_dir));
  }
  if (status.IsCorruption()) {
    return Corruption(fmt::format(
        "{}: data_dir {} is damaged: {}; check the disk, then restore a backup of data_dir, or "
        "move it away and begin with a new snapshot",
        what, data_dir, cause));
  }
  if (status.IsIOError() && cause.find("Permission denied") != std::string::npos) {
    return PermissionDenied(fmt::format(
        "{}: {}; let the user that runs millrace own all of data_dir {}", what, cause, data_dir));
  }
  if (status.IsIOError()) {
    return FailedPrecondition(fmt::format("{}: {}; check the disk of data_dir {} and start again",
                                          what, cause, data_dir));
  }
  if (status.IsNotSupported()) {
    return Unsupported(fmt::format("{}: data_dir {}: {}", what, data_dir, cause));
  }
  return Internal(fmt::format("{}: data_dir {}: {}", what, data_dir, cause));
}

void ErrorLatch::Set(const Status& status) {
  const MutexLock lock(mu_);
  if (first_.ok()) {
    first_ = status;
  }
}

Status ErrorLatch::Get() const {
  const MutexLock lock(mu_);
  return first_;
}

std::shared_ptr<rocksdb::EventListener> MakeErrorListener(std::shared_ptr<ErrorLatch> latch,
                                                          std::string data_dir) {
  return std::make_shared<ErrorListener>(std::move(latch), std::move(data_dir));
}

}  // namespace millrace::storage
