// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "millrace/common/coding.h"
#include "millrace/model/lsn.h"

namespace millrace::sources::postgres {

// Reads a pgoutput message from left to right. Every read checks the length; false means that the
// message is cut.
class MessageCursor {
 public:
  explicit MessageCursor(std::string_view bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  template <std::unsigned_integral T>
  bool Read(T& value) {
    if (remaining() < sizeof(T)) [[unlikely]] {
      return false;
    }
    value = LoadBigEndian<T>(at_);
    at_ += sizeof(T);
    return true;
  }
  bool Read(char& value) {
    uint8_t byte = 0;
    const bool is_there = Read(byte);
    value = static_cast<char>(byte);
    return is_there;
  }
  bool ReadLsn(Lsn& lsn) {
    uint64_t value = 0;
    const bool is_there = Read(value);
    lsn = Lsn(value);
    return is_there;
  }
  bool ReadBytes(size_t n, std::string_view& bytes) {
    if (remaining() < n) [[unlikely]] {
      return false;
    }
    bytes = {at_, n};
    at_ += n;
    return true;
  }
  bool ReadCString(std::string_view& text) {
    const void* zero = at_ == end_ ? nullptr : std::memchr(at_, 0, remaining());
    if (zero == nullptr) {
      return false;
    }
    text = {at_, static_cast<size_t>(static_cast<const char*>(zero) - at_)};
    at_ += text.size() + 1;
    return true;
  }
  bool AtEnd() const { return at_ == end_; }
  size_t remaining() const { return static_cast<size_t>(end_ - at_); }

 private:
  const char* at_;
  const char* end_;
};

}  // namespace millrace::sources::postgres
