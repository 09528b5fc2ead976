// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/coding.h"

#include <limits>

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Varint, RoundTripsAtEveryLength) {
  for (int bits = 0; bits <= 64; ++bits) {
    const uint64_t v = bits == 64 ? UINT64_MAX : (uint64_t{1} << bits) - 1;
    std::string bytes;
    AppendVarint(bytes, v);
    Buffer buffer;
    AppendVarint(buffer, v);
    EXPECT_EQ(buffer.view(), bytes);
    ByteReader reader(bytes);
    const Result<uint64_t> read = reader.ReadVarint();
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(*read, v);
    EXPECT_TRUE(reader.empty());
  }
}

TEST(Varint, RefusesMoreThan64Bits) {
  EXPECT_EQ(ByteReader("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02").ReadVarint().status().code(),
            Code::kCorruption);
  EXPECT_EQ(ByteReader("\x80").ReadVarint().status().code(), Code::kCorruption);
}

TEST(ByteReader, NeverReadsBehindTheEnd) {
  ByteReader reader("abc");
  EXPECT_EQ(reader.ReadBigEndian<uint32_t>().status().code(), Code::kCorruption);
  EXPECT_EQ(reader.ReadBytes(4).status().code(), Code::kCorruption);
  EXPECT_EQ(reader.ReadCString().status().code(), Code::kCorruption);
  EXPECT_EQ(*reader.ReadBigEndian<uint16_t>(), 0x6162);
  EXPECT_EQ(reader.remaining(), 1U);
}

TEST(FormatInt128, PrintsEveryDigit) {
  EXPECT_EQ(FormatUInt128(0), "0");
  EXPECT_EQ(FormatUInt128(UINT64_MAX), "18446744073709551615");
  EXPECT_EQ(FormatUInt128(UInt128{UINT64_MAX} + 1), "18446744073709551616");
  EXPECT_EQ(FormatUInt128(~UInt128{0}), "340282366920938463463374607431768211455");
  EXPECT_EQ(FormatUInt128(UInt128{10'000'000'000'000'000'000U}), "10000000000000000000");
  EXPECT_EQ(FormatUInt128(UInt128{10'000'000'000'000'000'000U} * 10), "100000000000000000000");
  EXPECT_EQ(FormatInt128(-1), "-1");
  EXPECT_EQ(FormatInt128(static_cast<Int128>(UInt128{1} << 127)),
            "-170141183460469231731687303715884105728");
}

}  // namespace
}  // namespace millrace
