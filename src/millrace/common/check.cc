// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/check.h"

#include <cstdio>
#include <cstdlib>

namespace millrace::internal {

void CheckFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "millrace: broken invariant: %s at %s:%d\n", condition, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace millrace::internal
