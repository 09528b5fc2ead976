// SPDX-License-Identifier: Apache-2.0
//
// The hexadecimal examples of docs/formats are what the code writes and reads.

#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "millrace/common/coding.h"
#include "millrace/storage/output_record_codec.h"
#include "millrace/storage/row_codec.h"
#include "millrace/storage/stream_codec.h"
#include "millrace/storage/testing/sample_output.h"

namespace millrace::storage {
namespace {

std::string ReadPage(const std::string& page) {
  std::ifstream file(std::string(MILLRACE_FORMATS_DIR "/") + page);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The bytes of the block that begins with ```hex NAME. What stands behind a `#` is left out.
std::string Example(const std::string& page, const std::string& name) {
  std::istringstream lines(ReadPage(page));
  std::string bytes;
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line == "```hex " + name) {
      inside = true;
    } else if (inside && line == "```") {
      return bytes;
    } else if (inside) {
      std::istringstream digits(line.substr(0, line.find('#')));
      for (std::string byte; digits >> byte;) {
        bytes.push_back(static_cast<char>(std::stoi(byte, nullptr, 16)));
      }
    }
  }
  return "no such example";
}

std::string Hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    char digits[4];
    std::snprintf(digits, sizeof(digits), "%02x ", static_cast<uint8_t>(c));
    text += digits;
  }
  return text;
}

StreamPtr ExampleStream() {
  auto stream = std::make_shared<Stream>();
  stream->id = StreamId(1);
  stream->schema_version = SchemaVersion(2);
  stream->name = "orders";
  stream->columns = std::make_shared<const Schema>(
      Schema{{"id", TypeKind::kInt64, false}, {"note", TypeKind::kText}});
  stream->key = {0};
  return stream;
}

OutputRecord ExampleRecord(const StreamPtr& stream) {
  auto batch = std::make_shared<OutputBatch>(stream);
  batch->first_offset = Offset(10);
  batch->epoch = Epoch(1);
  batch->transactions = {{Lsn(0x16'b374'd848), 1'700'000'000'000'000, Xid(745)}};
  batch->rows.column(0).Append<int64_t>(42);
  batch->rows.column(1).AppendText("paid");
  batch->rows.column(0).Append<int64_t>(43);
  batch->rows.column(1).AppendNull();
  batch->ops = {OutputOp::kUpsert, OutputOp::kDelete};
  batch->transaction = {0, 0};
  batch->ordinals = {3, 4};
  return {Offset(10), Offset(12), {Epoch(1), Lsn(0x16'b374'd848)}, {batch}};
}

TEST(FormatsTest, PositionExample) {
  const RowVersion version{Epoch(1), Lsn(0x16'b374'd848), 3};
  EXPECT_EQ(FormatLsn(version.end_lsn), "16/B374D848");
  const std::string decimal = FormatUInt128(version.Encode());
  EXPECT_EQ(decimal, "1329229794343564699141171554702852099");
  EXPECT_NE(ReadPage("position.md").find(decimal), std::string::npos);
}

TEST(FormatsTest, OutputRecordExample) {
  const std::string example = Example("output_record.md", "record");
  const StreamPtr stream = ExampleStream();
  const Result<OutputRecord> decoded =
      DecodeOutputRecord(example, [&](StreamId id, SchemaVersion version) {
        return id == stream->id && version == stream->schema_version ? stream : nullptr;
      });
  const OutputRecord record = ExampleRecord(stream);
  RecordScratch scratch;
  Buffer bytes;
  ASSERT_TRUE(EncodeOutputRecord(record, RecordCompression::kLz4, scratch, bytes).ok());
  EXPECT_EQ(Hex(example), Hex(bytes.view()));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_TRUE(testing::SameRecord(*decoded, record));
}

TEST(FormatsTest, StateRowExamples) {
  const OutputRecord record = ExampleRecord(ExampleStream());
  const RowBatch& rows = record.batches[0]->rows;
  const uint32_t key_columns[] = {0, 1};
  std::string key;
  EncodeKey(rows, 0, key_columns, key);
  EXPECT_EQ(Hex(Example("state_row.md", "key")), Hex(key));
  const std::string example = Example("state_row.md", "row");
  std::string row;
  EncodeRow(rows, 0, SchemaVersion(2), row);
  EXPECT_EQ(Hex(example), Hex(row));
  RowBatch decoded(rows.schema());
  ASSERT_TRUE(DecodeRow(example, decoded).ok());
  EXPECT_EQ(decoded.column(0).Value<int64_t>(0), 42);
  EXPECT_EQ(decoded.column(1).Text(0), "paid");
}

TEST(FormatsTest, StreamExample) {
  const std::string example = Example("data_dir.md", "stream");
  EXPECT_EQ(Hex(example), Hex(EncodeStream(*ExampleStream())));
  const Result<StreamPtr> decoded = DecodeStream(example);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ((*decoded)->name, "orders");
}

}  // namespace
}  // namespace millrace::storage
