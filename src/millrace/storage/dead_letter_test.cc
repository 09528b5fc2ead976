// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/dead_letter.h"

#include <gtest/gtest.h>

namespace millrace::storage {
namespace {

DeadLetter SampleLetter() {
  DeadLetter letter;
  letter.id = DeadLetterId(7);
  letter.state = DeadLetter::State::kSentAgain;
  letter.sink = "warehouse";
  letter.stream = StreamId(3);
  letter.version = {Epoch(2), Lsn(0x1234567890), 5};
  letter.offset = Offset(10);
  letter.sent_again = Offset(99);
  letter.at = 1'700'000'000'000'000;
  letter.row_bytes = 300;
  letter.keys = {std::string("3\0\2key", 6), ""};
  letter.reason = "column 'at': the value is outside what ClickHouse holds";
  return letter;
}

TEST(DeadLetterTest, RoundTrips) {
  const DeadLetter letter = SampleLetter();
  const Result<DeadLetter> decoded = DecodeDeadLetter(letter.id, EncodeDeadLetter(letter));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->id, letter.id);
  EXPECT_EQ(decoded->state, letter.state);
  EXPECT_EQ(decoded->sink, letter.sink);
  EXPECT_EQ(decoded->stream, letter.stream);
  EXPECT_EQ(decoded->version, letter.version);
  EXPECT_EQ(decoded->offset, letter.offset);
  EXPECT_EQ(decoded->sent_again, letter.sent_again);
  EXPECT_EQ(decoded->at, letter.at);
  EXPECT_EQ(decoded->row_bytes, letter.row_bytes);
  EXPECT_EQ(decoded->keys, letter.keys);
  EXPECT_EQ(decoded->reason, letter.reason);
}

TEST(DeadLetterTest, CutAndUnknownBytesAreRefused) {
  const std::string bytes = EncodeDeadLetter(SampleLetter());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(DecodeDeadLetter(DeadLetterId(7), bytes.substr(0, size)).status().code(),
              Code::kCorruption)
        << size;
  }
  EXPECT_EQ(DecodeDeadLetter(DeadLetterId(7), bytes + "x").status().code(), Code::kCorruption);
  std::string other = bytes;
  other[0] = 2;
  EXPECT_EQ(DecodeDeadLetter(DeadLetterId(7), other).status().code(), Code::kUnsupported);
  other = bytes;
  other[1] = 9;
  EXPECT_EQ(DecodeDeadLetter(DeadLetterId(7), other).status().code(), Code::kCorruption);
}

}  // namespace
}  // namespace millrace::storage
