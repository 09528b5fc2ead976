// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include <stdlib.h>

#include "millrace/common/check.h"

namespace millrace::storage::testing {

// A path for a data_dir, gone with the object. The directory itself is not made.
class TempDir {
 public:
  TempDir() : root_((std::filesystem::temp_directory_path() / "millrace_store_XXXXXX").string()) {
    MR_CHECK(mkdtemp(root_.data()) != nullptr);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code error;  // a leftover in the temporary directory harms nothing
    std::filesystem::remove_all(root_, error);
  }

  std::string path() const { return root_ + "/data"; }

 private:
  std::string root_;
};

}  // namespace millrace::storage::testing
