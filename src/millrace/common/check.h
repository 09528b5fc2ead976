// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace millrace::internal {

// Prints the broken invariant to stderr and aborts.
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);

}  // namespace millrace::internal

// Aborts, in release builds too, if `condition` is false: after a broken invariant stopping is
// safer than shipping wrong rows, and durable state makes a restart cheap.
#define MR_CHECK(condition)                                              \
  do {                                                                   \
    if (!(condition)) [[unlikely]] {                                     \
      ::millrace::internal::CheckFailed(#condition, __FILE__, __LINE__); \
    }                                                                    \
  } while (false)

// The same on hot paths, in debug builds only.
#ifdef NDEBUG
#define MR_DCHECK(condition) \
  do {                       \
  } while (false)
#else
#define MR_DCHECK(condition) MR_CHECK(condition)
#endif
