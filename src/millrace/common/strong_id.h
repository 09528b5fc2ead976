// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstddef>
#include <functional>

namespace millrace {

// An integer with a meaning: two ids of different tags do not convert into each other.
//
//   using StreamId = StrongId<uint32_t, struct StreamIdTag>;
template <typename Rep, typename Tag>
class StrongId {
 public:
  using rep = Rep;

  constexpr StrongId() = default;
  explicit constexpr StrongId(Rep value) : value_(value) {}

  constexpr Rep value() const { return value_; }
  // Ids are ordered as their values.
  constexpr auto operator<=>(const StrongId&) const = default;

 private:
  Rep value_ = 0;
};

}  // namespace millrace

template <typename Rep, typename Tag>
struct std::hash<millrace::StrongId<Rep, Tag>> {
  size_t operator()(millrace::StrongId<Rep, Tag> id) const { return std::hash<Rep>()(id.value()); }
};
