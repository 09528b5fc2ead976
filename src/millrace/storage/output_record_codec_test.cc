// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/output_record_codec.h"

#include <cstring>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "millrace/storage/crc32c.h"
#include "millrace/storage/testing/sample_output.h"

namespace millrace::storage {
namespace {

using testing::MakeEngagementStream;
using testing::MakeEveryTypeStream;
using testing::MakeRecord;
using testing::SameRecord;

const StreamPtr kEngagement = MakeEngagementStream();
const StreamPtr kEveryType = MakeEveryTypeStream();

StreamPtr Resolve(StreamId id, SchemaVersion version) {
  for (const StreamPtr& stream : {kEngagement, kEveryType}) {
    if (stream->id == id && stream->schema_version == version) {
      return stream;
    }
  }
  return nullptr;
}

std::string Encode(const OutputRecord& record, RecordCompression compression) {
  RecordScratch scratch;
  Buffer bytes;
  EXPECT_TRUE(EncodeOutputRecord(record, compression, scratch, bytes).ok());
  return std::string(bytes.view());
}

// Writes the checksum that fits, so that a test reaches what stands behind it.
void FixChecksum(std::string& bytes) {
  const std::string_view view = bytes;
  const uint32_t crc = Crc32c(view.substr(44), Crc32c(view.substr(0, 40)));
  std::memcpy(bytes.data() + 40, &crc, 4);
}

// Two batches of different streams.
OutputRecord MixedRecord(size_t rows) {
  OutputRecord record = MakeRecord(kEveryType, Offset(1000), rows, 1);
  const OutputRecord more = MakeRecord(kEngagement, record.end, rows, 2);
  record.batches.push_back(more.batches[0]);
  record.end = more.end;
  return record;
}

TEST(OutputRecordCodecTest, ARecordMayBeForOneSink) {
  OutputRecord record = MixedRecord(2);
  record.sink = "warehouse";
  for (const RecordCompression compression : {RecordCompression::kNone, RecordCompression::kLz4}) {
    const Result<OutputRecord> decoded = DecodeOutputRecord(Encode(record, compression), Resolve);
    ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
    EXPECT_EQ(decoded->sink, "warehouse");
    EXPECT_TRUE(SameRecord(*decoded, record));
  }
}

TEST(OutputRecordCodecTest, RecordsRoundTrip) {
  const size_t row_counts[] = {1, 7, 8, 63, 64, 65, 1000};
  for (const RecordCompression compression : {RecordCompression::kNone, RecordCompression::kLz4}) {
    for (const size_t rows : row_counts) {
      const OutputRecord record = MixedRecord(rows);
      const std::string bytes = Encode(record, compression);
      const Result<OutputRecord> decoded = DecodeOutputRecord(bytes, Resolve);
      ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
      EXPECT_TRUE(SameRecord(*decoded, record));
      const Result<OutputRecordHead> head = DecodeOutputRecordHead(bytes);
      ASSERT_TRUE(head.ok());
      EXPECT_EQ(head->first, record.first);
      EXPECT_EQ(head->end, record.end);
      EXPECT_EQ(head->position, record.position);
    }
  }
}

TEST(OutputRecordCodecTest, LengthsOfEveryWidthRoundTrip) {
  const size_t sizes[] = {255, 256, 65'535, 65'536};
  for (const size_t size : sizes) {
    auto batch = testing::CopyBatch(*MakeRecord(kEngagement, Offset(0), 1, 1).batches[0]);
    for (size_t i = 0; i < 17; ++i) {
      if (kEngagement->columns->at(i).type.kind == TypeKind::kText) {
        batch->rows.column(i) = Column(TypeKind::kText);
        batch->rows.column(i).AppendText(std::string(size, 'x'));
      }
    }
    const OutputRecord record{Offset(0), Offset(1), {}, {batch}};
    for (const auto compression : {RecordCompression::kNone, RecordCompression::kLz4}) {
      const Result<OutputRecord> decoded = DecodeOutputRecord(Encode(record, compression), Resolve);
      ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
      EXPECT_TRUE(SameRecord(*decoded, record));
    }
  }
}

TEST(OutputRecordCodecTest, ExtremePositionsRoundTrip) {
  auto batch = testing::CopyBatch(*MakeRecord(kEngagement, Offset(0), 3, 1).batches[0]);
  batch->first_offset = Offset(UINT64_MAX - 3);
  batch->epoch = Epoch(127);
  batch->transactions = {{Lsn(UINT64_MAX), INT64_MIN, Xid(UINT32_MAX)},
                         {Lsn(0), INT64_MAX, Xid(0)},
                         {Lsn(1), 0, Xid(3)}};
  batch->transaction = {2, 0, 1};
  batch->ordinals = {kSnapshotOrdinalBase, UINT64_MAX, 0};
  batch->ops = {OutputOp::kRead, OutputOp::kMovedAway, OutputOp::kDelete};
  const OutputRecord record{
      Offset(UINT64_MAX - 3), Offset(UINT64_MAX), {Epoch(127), Lsn(UINT64_MAX)}, {batch}};
  const Result<OutputRecord> decoded =
      DecodeOutputRecord(Encode(record, RecordCompression::kNone), Resolve);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_TRUE(SameRecord(*decoded, record));
}

TEST(OutputRecordCodecTest, CompressesWhatCompressesAndLeavesTheRest) {
  const OutputRecord large = MakeRecord(kEngagement, Offset(0), 1000, 1);
  const OutputRecord small = MakeRecord(kEngagement, Offset(0), 1, 1);
  EXPECT_LT(Encode(large, RecordCompression::kLz4).size(),
            Encode(large, RecordCompression::kNone).size() * 7 / 8);
  EXPECT_EQ(Encode(small, RecordCompression::kLz4), Encode(small, RecordCompression::kNone));

  std::mt19937_64 random(1);
  std::string noise;
  for (int i = 0; i < 100'000; ++i) {
    noise.push_back(static_cast<char>(random()));
  }
  auto batch = testing::CopyBatch(*small.batches[0]);
  batch->rows.column(7) = Column(TypeKind::kJson);
  batch->rows.column(7).AppendText(noise);
  const OutputRecord record{Offset(0), Offset(1), {}, {batch}};
  EXPECT_EQ(Encode(record, RecordCompression::kLz4), Encode(record, RecordCompression::kNone));
}

TEST(OutputRecordCodecTest, EveryCutIsCorruption) {
  for (const RecordCompression compression : {RecordCompression::kNone, RecordCompression::kLz4}) {
    const std::string bytes = Encode(MixedRecord(20), compression);
    for (size_t n = 0; n < bytes.size(); ++n) {
      std::string cut = bytes.substr(0, n);
      EXPECT_EQ(DecodeOutputRecord(cut, Resolve).status().code(), Code::kCorruption) << n;
      if (n >= 44) {
        const uint64_t payload = n - 44;
        if (compression == RecordCompression::kNone) {
          std::memcpy(cut.data() + 32, &payload, 8);
        }
        FixChecksum(cut);
        EXPECT_EQ(DecodeOutputRecord(cut, Resolve).status().code(), Code::kCorruption) << n;
      }
    }
  }
}

TEST(OutputRecordCodecTest, EveryFlippedBitIsFound) {
  const std::string bytes = Encode(MixedRecord(3), RecordCompression::kNone);
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    std::string flipped = bytes;
    flipped[i / 8] = static_cast<char>(flipped[i / 8] ^ (1 << (i % 8)));
    const Code code = DecodeOutputRecord(flipped, Resolve).status().code();
    EXPECT_TRUE(code == Code::kCorruption || code == Code::kUnsupported) << i;
  }
}

TEST(OutputRecordCodecTest, HostileBytesBehindAFittingChecksumNeverCrash) {
  std::mt19937_64 random(1);
  for (const RecordCompression compression : {RecordCompression::kNone, RecordCompression::kLz4}) {
    const std::string bytes = Encode(MixedRecord(12), compression);
    for (int i = 0; i < 30'000; ++i) {
      std::string mutated = bytes;
      for (uint64_t n = 1 + random() % 4; n > 0; --n) {
        // Most mutations hit the numbers, not the values.
        const size_t at = random() % 2 == 0 ? 4 + random() % 140 : random() % mutated.size();
        mutated[at % mutated.size()] = static_cast<char>(random());
      }
      FixChecksum(mutated);
      const Result<OutputRecord> decoded = DecodeOutputRecord(mutated, Resolve);
      if (decoded.ok()) {  // the mutation hit values only: what was decoded is whole
        uint64_t at = decoded->first.value();
        for (const OutputBatchPtr& batch : decoded->batches) {
          EXPECT_EQ(batch->first_offset.value(), at);
          EXPECT_EQ(batch->rows.row_count(), batch->row_count());
          EXPECT_EQ(batch->ordinals.size(), batch->row_count());
          for (size_t row = 0; row < batch->row_count(); ++row) {
            EXPECT_LT(batch->transaction[row], batch->transactions.size());
          }
          at += batch->row_count();
        }
        EXPECT_EQ(at, decoded->end.value());
        EXPECT_TRUE(SameRecord(*decoded, *decoded));
      }
    }
  }
}

TEST(OutputRecordCodecTest, StatedSizesAreNotBelieved) {
  std::string bytes = Encode(MakeRecord(kEngagement, Offset(0), 100, 1), RecordCompression::kLz4);
  ASSERT_EQ(bytes[4], 1);
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 30, UINT64_MAX}) {
    std::memcpy(bytes.data() + 32, &size, 8);
    FixChecksum(bytes);
    EXPECT_EQ(DecodeOutputRecord(bytes, Resolve).status().code(), Code::kCorruption) << size;
  }
}

TEST(OutputRecordCodecTest, UnknownFormatsAndStreamsAreRefused) {
  const OutputRecord record = MakeRecord(kEngagement, Offset(0), 2, 1);
  std::string newer = Encode(record, RecordCompression::kNone);
  newer[3] = 2;
  EXPECT_EQ(DecodeOutputRecord(newer, Resolve).status().code(), Code::kUnsupported);
  const auto nothing = [](StreamId, SchemaVersion) { return StreamPtr(); };
  EXPECT_EQ(DecodeOutputRecord(Encode(record, RecordCompression::kNone), nothing).status().code(),
            Code::kCorruption);
}

}  // namespace
}  // namespace millrace::storage
