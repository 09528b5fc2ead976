// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace millrace {

// The kind of an expected failure. pipeline/error_policy.h maps it to what happens next.
enum class Code : uint8_t {
  kOk,
  kInvalidArgument,     // the input or the configuration is wrong
  kNotFound,            // a named thing does not exist
  kAlreadyExists,       // a named thing exists and must not
  kPermissionDenied,    // the peer refuses us for lack of a privilege
  kFailedPrecondition,  // the peer or the state is not as it must be; an operator must act
  kFenced,              // another process has taken our place; this one must stop
  kUnavailable,         // the peer cannot be reached or broke off; worth another try
  kTimedOut,            // no answer in time; the outcome may be unknown
  kResourceExhausted,   // a stated bound was met: memory, disk, quota
  kCorruption,          // bytes that cannot be what was written
  kUnsupported,         // known, but not by this version
  kCancelled,           // asked to stop
  kInternal,            // an invariant of a library broke
};

std::string_view CodeName(Code code);

// Status is success, or a Code with one plain sentence for an operator.
//
// The sentence starts in lower case, has no period, and names what was attempted on what, then the
// cause. It holds neither row values nor secrets. WithContext() adds outward context in front:
// `sink 'orders': insert into db.orders: HTTP 404: table does not exist`.
//
// Success costs one null pointer. A dropped Status does not compile.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message);
  Status(const Status& other);
  Status& operator=(const Status& other);
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;
  ~Status() = default;

  static Status Ok() { return {}; }

  bool ok() const { return rep_ == nullptr; }
  Code code() const { return rep_ ? rep_->code : Code::kOk; }
  const std::string& message() const;

  // Returns the same failure with "`context`: " in front of its sentence. Success stays success.
  Status WithContext(std::string_view context) const;

  // "ok", or "<code>: <message>".
  std::string ToString() const;

  // States that this failure is ignored on purpose, and why.
  void IgnoreError(std::string_view /*reason*/) const {}

 private:
  struct Rep {
    Code code;
    std::string message;
  };
  std::unique_ptr<Rep> rep_;
};

// Shorthands: `return Unavailable("connect to ...")`.
Status InvalidArgument(std::string message);
Status NotFound(std::string message);
Status AlreadyExists(std::string message);
Status PermissionDenied(std::string message);
Status FailedPrecondition(std::string message);
Status Fenced(std::string message);
Status Unavailable(std::string message);
Status TimedOut(std::string message);
Status ResourceExhausted(std::string message);
Status Corruption(std::string message);
Status Unsupported(std::string message);
Status Cancelled(std::string message);
Status Internal(std::string message);

}  // namespace millrace

#define MR_CONCAT_INNER(a, b) a##b
#define MR_CONCAT(a, b) MR_CONCAT_INNER(a, b)

// Returns from the enclosing function if `expr`, a Status, is a failure.
#define MR_RETURN_IF_ERROR(expr)            \
  do {                                      \
    ::millrace::Status mr_status_ = (expr); \
    if (!mr_status_.ok()) [[unlikely]]      \
      return mr_status_;                    \
  } while (false)
