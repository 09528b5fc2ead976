// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/stream_codec.h"

#include <gtest/gtest.h>

#include "millrace/storage/testing/sample_output.h"

namespace millrace::storage {
namespace {

TEST(StreamCodecTest, EveryTypeRoundTrips) {
  auto stream = std::make_shared<Stream>(*testing::MakeEveryTypeStream());
  stream->schema_version = SchemaVersion(300);
  stream->key = {2, 0};
  stream->append_only = true;
  const Result<StreamPtr> decoded = DecodeStream(EncodeStream(*stream));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ((*decoded)->id, stream->id);
  EXPECT_EQ((*decoded)->schema_version, stream->schema_version);
  EXPECT_EQ((*decoded)->name, stream->name);
  EXPECT_EQ(*(*decoded)->columns, *stream->columns);
  EXPECT_EQ((*decoded)->key, stream->key);
  EXPECT_TRUE((*decoded)->append_only);
}

TEST(StreamCodecTest, CutBytesAreCorruption) {
  const std::string bytes = EncodeStream(*testing::MakeEveryTypeStream());
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_EQ(DecodeStream(bytes.substr(0, n)).status().code(), Code::kCorruption) << n;
  }
  EXPECT_EQ(DecodeStream(bytes + "x").status().code(), Code::kCorruption);
}

TEST(StreamCodecTest, ANewerFormatIsUnsupported) {
  std::string bytes = EncodeStream(*testing::MakeEveryTypeStream());
  bytes[0] = 2;
  EXPECT_EQ(DecodeStream(bytes).status().code(), Code::kUnsupported);
}

TEST(StreamCodecTest, ListsCannotNestWithoutEnd) {
  std::string bytes = {1, 0, 1, 1, 1, 's', 1, 1, 'c'};
  bytes.append(100'000, static_cast<char>(TypeKind::kList));
  EXPECT_EQ(DecodeStream(bytes).status().code(), Code::kCorruption);
}

}  // namespace
}  // namespace millrace::storage
