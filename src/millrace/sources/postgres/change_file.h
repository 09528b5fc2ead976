// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "millrace/common/result.h"
#include "millrace/model/change_batch.h"

namespace millrace::sources::postgres {

// ChangeFile holds changes of one table on disk, in the order in which they were appended. The file
// has no name: it is gone when it is closed, or the process dies.
//
// One thread. Errors: kResourceExhausted when the disk is full, kUnavailable for other I/O.
class ChangeFile {
 public:
  // A file in `directory`, which is made if it is not there.
  static Result<std::unique_ptr<ChangeFile>> Make(const std::string& directory, TablePtr table);
  ~ChangeFile();
  ChangeFile(const ChangeFile&) = delete;
  ChangeFile& operator=(const ChangeFile&) = delete;

  // Indexes of transactions are not kept.
  Status Append(const TableChanges& changes);

  // Reads from the start again.
  void Rewind() { read_at_ = 0; }
  bool AtEnd() const { return read_at_ == size_; }
  // What one Append() was given, as of transaction 0. REQUIRES: !AtEnd().
  Result<TableChanges> Next();

  uint64_t change_count() const { return change_count_; }
  uint64_t byte_size() const { return size_; }

 private:
  ChangeFile(int fd, TablePtr table) : fd_(fd), table_(std::move(table)) {}

  const int fd_;
  const TablePtr table_;
  uint64_t size_ = 0;
  uint64_t read_at_ = 0;
  uint64_t change_count_ = 0;
};

}  // namespace millrace::sources::postgres
