// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include "millrace/common/check.h"
#include "millrace/common/status.h"

namespace millrace {

// Result<T> is a T or the Status that says why there is none. Member names are those of
// std::expected. Access to the value of a failure aborts.
template <typename T>
class [[nodiscard]] Result {
  static_assert(!std::is_same_v<T, Status>, "use Status itself");

 public:
  // NOLINTNEXTLINE(google-explicit-constructor)
  Result(T value) : value_(std::move(value)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) { MR_CHECK(!status_.ok()); }

  bool has_value() const { return value_.has_value(); }
  bool ok() const { return value_.has_value(); }

  const Status& error() const { return status_; }
  const Status& status() const { return status_; }

  T& value() & {
    MR_CHECK(value_.has_value());
    return *value_;
  }
  const T& value() const& {
    MR_CHECK(value_.has_value());
    return *value_;
  }
  T&& value() && {
    MR_CHECK(value_.has_value());
    return std::move(*value_);
  }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace millrace

// Declares or assigns `lhs` from `expr`, a Result, or returns its Status from the enclosing
// function.
#define MR_ASSIGN_OR_RETURN(lhs, expr) \
  MR_ASSIGN_OR_RETURN_INNER(MR_CONCAT(mr_result_, __LINE__), lhs, expr)
#define MR_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                              \
  if (!tmp.has_value()) [[unlikely]]              \
    return tmp.status();                          \
  lhs = std::move(tmp).value()
