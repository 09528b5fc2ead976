// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/coding.h"

#include <algorithm>
#include <charconv>

namespace millrace {

namespace {

size_t EncodeVarint(uint64_t v, char* to) {
  size_t n = 0;
  while (v >= 0x80) {
    to[n++] = static_cast<char>(v | 0x80);
    v >>= 7;
  }
  to[n++] = static_cast<char>(v);
  return n;
}

}  // namespace

void AppendVarint(Buffer& to, uint64_t v) {
  char bytes[10];
  to.Append(bytes, EncodeVarint(v, bytes));
}

void AppendVarint(std::string& to, uint64_t v) {
  char bytes[10];
  to.append(bytes, EncodeVarint(v, bytes));
}

void AppendLengthPrefixed(Buffer& to, std::string_view bytes) {
  AppendVarint(to, bytes.size());
  to.Append(bytes);
}

Status ByteReader::Truncated() { return Corruption("bytes end before the value does"); }

Result<uint64_t> ByteReader::ReadVarint() {
  uint64_t v = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (at_ == end_) {
      return Truncated();
    }
    const auto byte = static_cast<uint8_t>(*at_++);
    if (shift == 63 && byte > 1) {
      break;
    }
    v |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) {
      return v;
    }
  }
  return Corruption("a varint is longer than 64 bits");
}

Result<std::string_view> ByteReader::ReadBytes(size_t n) {
  if (remaining() < n) {
    return Truncated();
  }
  std::string_view bytes(at_, n);
  at_ += n;
  return bytes;
}

Result<std::string_view> ByteReader::ReadLengthPrefixed() {
  MR_ASSIGN_OR_RETURN(uint64_t n, ReadVarint());
  return ReadBytes(n);
}

Result<std::string_view> ByteReader::ReadCString() {
  const char* zero = std::find(at_, end_, '\0');
  if (zero == end_) {
    return Truncated();
  }
  std::string_view text(at_, static_cast<size_t>(zero - at_));
  at_ = zero + 1;
  return text;
}

size_t FormatUInt128(UInt128 v, char* to) {
  // 10^19 is the greatest power of ten in 64 bits; a 128-bit number has at most three such digits.
  constexpr uint64_t kBase = 10'000'000'000'000'000'000U;
  constexpr int kDigits = 19;
  if (v <= UINT64_MAX) {
    return static_cast<size_t>(std::to_chars(to, to + 20, static_cast<uint64_t>(v)).ptr - to);
  }
  char* at = to + FormatUInt128(v / kBase, to);
  char low[20];
  const auto end = std::to_chars(low, low + 20, static_cast<uint64_t>(v % kBase)).ptr;
  const auto n = end - low;
  at = std::fill_n(at, kDigits - n, '0');
  at = std::copy(low, end, at);
  return static_cast<size_t>(at - to);
}

std::string FormatUInt128(UInt128 v) {
  char digits[40];
  return {digits, FormatUInt128(v, digits)};
}

std::string FormatInt128(Int128 v) {
  const bool negative = v < 0;
  const UInt128 magnitude =
      negative ? UInt128{0} - static_cast<UInt128>(v) : static_cast<UInt128>(v);
  return (negative ? "-" : "") + FormatUInt128(magnitude);
}

}  // namespace millrace
