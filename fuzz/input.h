// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace millrace::fuzz {

// Takes the bytes of one fuzzer input apart. Past the end everything is zero or empty.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

  uint8_t Byte() {
    const std::string_view byte = Bytes(1);
    return byte.empty() ? uint8_t{0} : static_cast<uint8_t>(byte.front());
  }
  // Up to `n` bytes.
  std::string_view Bytes(size_t n) {
    const std::string_view bytes = rest_.substr(0, n);
    rest_.remove_prefix(bytes.size());
    return bytes;
  }
  // A part with its length before it, two bytes, big-endian. A copy of its own, so that a sanitizer
  // sees a read behind its end.
  std::string Part() {
    const size_t high = Byte();
    const size_t low = Byte();
    return std::string(Bytes(high << 8 | low));
  }

 private:
  std::string_view rest_;
};

}  // namespace millrace::fuzz
