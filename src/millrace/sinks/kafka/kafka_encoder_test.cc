// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/kafka/kafka_encoder.h"

#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "millrace/sinks/testing/test_rows.h"

namespace millrace::sinks {
namespace {

using testing::SmallDelivery;
using testing::SmallStream;

KafkaEncoder MakeEncoder(const StreamPtr& stream, const std::string& key) {
  KafkaEncoder encoder({.stream = "events", .topic = "t", .key = key});
  const Status status = encoder.Prepare(stream);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return encoder;
}

TEST(KafkaEncoder, KeyIsTheStreamsKeyByDefault) {
  const StreamPtr stream = SmallStream();
  KafkaEncoder encoder = MakeEncoder(stream, "");
  const DeliveryBatch delivery = SmallDelivery(stream, 0, {{7, "a", std::nullopt}});
  const auto message = encoder.Encode(*delivery.slices[0].batch, 0);
  EXPECT_EQ(message.key, "7");
  EXPECT_EQ(message.value, R"({"id":7,"type":"a","note":null,"_version":"75557863725914323419137",)"
                           R"("_commit_ts":"2023-11-14T22:13:20Z"})");
  EXPECT_FALSE(message.needs_tombstone);
}

TEST(KafkaEncoder, TombstoneFollowsADeleteByTheStreamsKeyOnly) {
  const StreamPtr stream = SmallStream();
  const DeliveryBatch delivery =
      SmallDelivery(stream, 0, {{7, "a", std::nullopt, OutputOp::kDelete}});
  const OutputBatch& batch = *delivery.slices[0].batch;
  EXPECT_TRUE(MakeEncoder(stream, "").Encode(batch, 0).needs_tombstone);
  EXPECT_TRUE(MakeEncoder(stream, "id").Encode(batch, 0).needs_tombstone);
  KafkaEncoder by_type = MakeEncoder(stream, "type");
  EXPECT_FALSE(by_type.Encode(batch, 0).needs_tombstone);
  EXPECT_EQ(by_type.Encode(batch, 0).key, "a");
}

TEST(KafkaEncoder, NullAndMissingKeys) {
  const StreamPtr stream = SmallStream();
  const DeliveryBatch delivery = SmallDelivery(stream, 0, {{7, std::nullopt, "n"}});
  EXPECT_EQ(MakeEncoder(stream, "type").Encode(*delivery.slices[0].batch, 0).key, std::nullopt);
  auto keyless = std::make_shared<Stream>(*stream);
  keyless->key.clear();
  const DeliveryBatch other = SmallDelivery(keyless, 0, {{7, "a", "n"}});
  EXPECT_EQ(MakeEncoder(keyless, "").Encode(*other.slices[0].batch, 0).key, std::nullopt);
}

TEST(KafkaEncoder, SeveralKeyColumnsAreAnArray) {
  auto stream = std::make_shared<Stream>(*SmallStream());
  stream->key = {1, 0};
  const DeliveryBatch delivery = SmallDelivery(stream, 0, {{7, "a\"", "n"}});
  EXPECT_EQ(MakeEncoder(stream, "").Encode(*delivery.slices[0].batch, 0).key, R"(["a\"",7])");
}

TEST(KafkaEncoder, LeavesOut) {
  KafkaEncoder encoder({.stream = "events", .topic = "t", .snapshot = false});
  EXPECT_FALSE(encoder.Takes(OutputOp::kMovedAway));
  EXPECT_FALSE(encoder.Takes(OutputOp::kRead));
  EXPECT_TRUE(encoder.Takes(OutputOp::kDelete));
}

TEST(KafkaEncoder, RefusesAMissingColumn) {
  KafkaEncoder encoder({.stream = "events", .topic = "t", .key = "nope"});
  EXPECT_EQ(encoder.Prepare(SmallStream()).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace millrace::sinks
