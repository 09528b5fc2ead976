// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/crc32c.h"

#include <array>
#include <cstring>

namespace millrace::storage {

namespace {

using Tables = std::array<std::array<uint32_t, 256>, 8>;

// Slicing by eight: table k advances a byte over k further ones.
constexpr Tables MakeTables() {
  constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected
  Tables tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    }
    tables[0][i] = crc;
  }
  for (uint32_t i = 0; i < 256; ++i) {
    for (size_t k = 1; k < 8; ++k) {
      tables[k][i] = (tables[k - 1][i] >> 8) ^ tables[0][tables[k - 1][i] & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

uint32_t Portable(const char* at, size_t n, uint32_t crc) {
  while (n >= 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    word ^= crc;
    crc = 0;
    for (size_t k = 0; k < 8; ++k) {
      crc ^= kTables[7 - k][word >> (8 * k) & 0xff];
    }
    at += 8;
    n -= 8;
  }
  while (n-- > 0) {
    crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint8_t>(*at++)) & 0xff];
  }
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t Instruction(const char* at, size_t n, uint32_t crc) {
  uint64_t wide = crc;
  while (n >= 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    wide = __builtin_ia32_crc32di(wide, word);
    at += 8;
    n -= 8;
  }
  crc = static_cast<uint32_t>(wide);
  while (n-- > 0) {
    crc = __builtin_ia32_crc32qi(crc, static_cast<uint8_t>(*at++));
  }
  return crc;
}

const bool kHasInstruction = __builtin_cpu_supports("sse4.2") != 0;
#endif

}  // namespace

uint32_t Crc32c(std::string_view bytes, uint32_t crc) {
#if defined(__x86_64__)
  if (kHasInstruction) {
    return ~Instruction(bytes.data(), bytes.size(), ~crc);
  }
#endif
  return ~Portable(bytes.data(), bytes.size(), ~crc);
}

}  // namespace millrace::storage
