// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/crc32c.h"

#include <string>

#include <gtest/gtest.h>

namespace millrace::storage {
namespace {

// The vectors of RFC 3720, section B.4.
TEST(Crc32cTest, GivesTheStandardValues) {
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283U);
  std::string ascending;
  for (char c = 0; c < 32; ++c) {
    ascending.push_back(c);
  }
  EXPECT_EQ(Crc32c(ascending), 0x46dd794eU);
}

TEST(Crc32cTest, GoesOnFromTheChecksumOfWhatIsBefore) {
  EXPECT_EQ(Crc32c("6789", Crc32c("12345")), Crc32c("123456789"));
  EXPECT_EQ(Crc32c("", 17), 17U);
}

}  // namespace
}  // namespace millrace::storage
