// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "millrace/common/buffer.h"
#include "millrace/common/result.h"

namespace millrace {

static_assert(std::endian::native == std::endian::little,
              "Millrace runs on little-endian machines");

using Int128 = __int128;
using UInt128 = unsigned __int128;

// The bytes of integers turned round: big-endian on the wire or in keys to native, and back.
inline uint16_t SwapBytes(uint16_t v) { return __builtin_bswap16(v); }
inline uint32_t SwapBytes(uint32_t v) { return __builtin_bswap32(v); }
inline uint64_t SwapBytes(uint64_t v) { return __builtin_bswap64(v); }

template <std::unsigned_integral T>
T LoadBigEndian(const void* from) {
  T v;
  std::memcpy(&v, from, sizeof(T));
  if constexpr (sizeof(T) > 1) {
    v = SwapBytes(v);
  }
  return v;
}

template <std::unsigned_integral T>
void AppendBigEndian(std::string& to, T v) {
  if constexpr (sizeof(T) > 1) {
    v = SwapBytes(v);
  }
  to.append(reinterpret_cast<const char*>(&v), sizeof(T));
}

// LEB128, as in Protocol Buffers: seven bits a byte, lowest first.
void AppendVarint(Buffer& to, uint64_t v);
void AppendVarint(std::string& to, uint64_t v);

// A varint length, then the bytes.
void AppendLengthPrefixed(Buffer& to, std::string_view bytes);

// Reads from bytes that may be cut or hostile: every read checks the length and fails with
// kCorruption. The reader does not own the bytes; views that it gives live as long as they do.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  size_t remaining() const { return static_cast<size_t>(end_ - at_); }
  bool empty() const { return at_ == end_; }

  template <std::unsigned_integral T>
  Result<T> ReadBigEndian() {
    if (remaining() < sizeof(T)) [[unlikely]] {
      return Truncated();
    }
    T v = LoadBigEndian<T>(at_);
    at_ += sizeof(T);
    return v;
  }

  template <typename T>
  Result<T> ReadLittleEndian() {
    if (remaining() < sizeof(T)) [[unlikely]] {
      return Truncated();
    }
    T v;
    std::memcpy(&v, at_, sizeof(T));
    at_ += sizeof(T);
    return v;
  }

  Result<uint64_t> ReadVarint();
  Result<std::string_view> ReadBytes(size_t n);
  Result<std::string_view> ReadLengthPrefixed();
  // Up to the next zero byte, which is consumed and left out.
  Result<std::string_view> ReadCString();

 private:
  static Status Truncated();

  const char* at_;
  const char* end_;
};

// Decimal digits of a 128-bit integer, which fmt and the standard library cannot print.
std::string FormatUInt128(UInt128 v);
std::string FormatInt128(Int128 v);
// Writes the digits and returns their number; `to` holds 40 characters or more.
size_t FormatUInt128(UInt128 v, char* to);

}  // namespace millrace
