// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <rocksdb/listener.h>
#include <rocksdb/status.h>

#include "millrace/common/mutex.h"
#include "millrace/common/status.h"

namespace millrace::storage {

// A failure of RocksDB as a Status: `<what>: <cause>; <remedy>`. `data_dir` is for the remedy.
Status FromRocksDb(const rocksdb::Status& status, std::string_view what,
                   const std::string& data_dir);

// Keeps the first failure after which what is in memory and what is on disk may differ: a failed
// write, or a background error. The store then takes no further write until it is opened again.
//
// Threads: any.
class ErrorLatch {
 public:
  void Set(const Status& status);
  Status Get() const;

 private:
  mutable Mutex mu_;
  Status first_ MR_GUARDED_BY(mu_);
};

// Latches background errors: a flush or compaction that found the disk full or broken.
std::shared_ptr<rocksdb::EventListener> MakeErrorListener(std::shared_ptr<ErrorLatch> latch,
                                                          std::string data_dir);

}  // namespace millrace::storage
