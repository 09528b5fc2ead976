// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace millrace::storage {

// CRC-32C (Castagnoli) of `bytes`, going on from `crc`, the checksum of what stands before them.
// Uses the processor's instruction where there is one.
uint32_t Crc32c(std::string_view bytes, uint32_t crc = 0);

}  // namespace millrace::storage
