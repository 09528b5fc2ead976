// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/rocksdb/meta_codec.h"

#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

namespace millrace::storage {
namespace {

TEST(MetaCodecTest, DeliveryStatesRoundTrip) {
  for (const DeliveryState& state :
       {DeliveryState{}, DeliveryState{Offset(12), "{}", true},
        DeliveryState{Offset(UINT64_MAX), std::string(70'000, '\0'), false}}) {
    const Result<DeliveryState> decoded = DecodeDelivery(EncodeDelivery(state));
    ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
    EXPECT_EQ(decoded->delivered, state.delivered);
    EXPECT_EQ(decoded->plan, state.plan);
    EXPECT_EQ(decoded->started, state.started);
  }
}

TEST(MetaCodecTest, DeliveryExampleOfThePage) {
  std::ifstream file(MILLRACE_FORMATS_DIR "/delivery_plan.md");
  std::string bytes;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("```")) {
      inside = line == "```hex delivery";
    } else if (inside) {
      std::istringstream digits(line.substr(0, line.find('#')));
      for (std::string byte; digits >> byte;) {
        bytes.push_back(static_cast<char>(std::stoi(byte, nullptr, 16)));
      }
    }
  }
  EXPECT_EQ(bytes, EncodeDelivery({Offset(12), "{}", true}));
}

TEST(MetaCodecTest, CutBytesAreCorruption) {
  const std::string delivery = EncodeDelivery({Offset(12), "plan", true});
  for (size_t n = 0; n < delivery.size(); ++n) {
    EXPECT_EQ(DecodeDelivery(delivery.substr(0, n)).status().code(), Code::kCorruption);
  }
  EXPECT_EQ(DecodeDelivery(delivery + "x").status().code(), Code::kCorruption);
  EXPECT_EQ(DecodeLogPoint("1234567").status().code(), Code::kCorruption);
  EXPECT_EQ(DecodeNumber("12345").status().code(), Code::kCorruption);
  EXPECT_EQ(DecodePosition("").status().code(), Code::kCorruption);
}

TEST(MetaCodecTest, ANewerDeliveryStateIsUnsupported) {
  std::string delivery = EncodeDelivery({Offset(12), "plan", true});
  delivery[0] = 2;
  EXPECT_EQ(DecodeDelivery(delivery).status().code(), Code::kUnsupported);
}

TEST(MetaCodecTest, OutputKeysSortByOffset) {
  EXPECT_LT(OutputKey(Offset(255)), OutputKey(Offset(256)));
  EXPECT_LT(OutputKey(Offset(256)), OutputKey(Offset(UINT64_MAX)));
  EXPECT_LT(OutputKey(Offset(255)), OutputKey(Offset(255), 1));
  EXPECT_LT(OutputKey(Offset(255), 255), OutputKey(Offset(255), 256));
  EXPECT_LT(OutputKey(Offset(255), UINT32_MAX), OutputKey(Offset(256)));
  for (const uint32_t piece : {0U, 1U, UINT32_MAX}) {
    const Result<OutputPlace> place = DecodeOutputKey(OutputKey(Offset(77), piece));
    ASSERT_TRUE(place.ok());
    EXPECT_EQ(place->first, Offset(77));
    EXPECT_EQ(place->piece, piece);
  }
  EXPECT_EQ(DecodeOutputKey(OutputKey(Offset(77), 1) + "x").status().code(), Code::kCorruption);
}

}  // namespace
}  // namespace millrace::storage
