// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/native_encoder.h"

#include <gtest/gtest.h>

#include "millrace/sinks/testing/sink_test_support.h"

namespace millrace::sinks::clickhouse {
namespace {

using testing::MakeStream;
using testing::OutputWriter;
using namespace std::string_literals;

OutputSlice Whole(const OutputBatchPtr& batch) { return {batch, 0, batch->row_count()}; }

std::string Encoded(const NativeEncoder& encoder, const std::vector<OutputSlice>& slices) {
  NativeBlock block;
  const Status status = encoder.Encode(slices, block);
  EXPECT_TRUE(status.ok()) << status.ToString();
  std::string bytes;
  for (const std::string_view piece : block.Pieces()) {
    bytes.append(piece);
  }
  EXPECT_EQ(bytes.size(), block.size());
  return bytes;
}

// The bytes between the name and type of a block's first column and `_version`.
std::string ColumnBytes(const Field& field, const std::function<void(Column&)>& fill,
                        const std::set<std::string>& as_string = {}) {
  const StreamPtr stream = MakeStream("s", {field}, {});
  OutputWriter writer;
  RowBatch probe(stream->columns);
  fill(probe.column(0));
  const size_t rows = probe.row_count();
  const OutputBatchPtr batch = writer.Write(stream, std::vector<OutputOp>(rows, OutputOp::kUpsert),
                                            [&](RowBatch& to) { to.AppendRange(probe, 0, rows); });
  const std::string bytes = Encoded(NativeEncoder(stream, as_string), {Whole(batch)});
  ByteReader reader(bytes);
  EXPECT_EQ(*reader.ReadVarint(), 3U);
  EXPECT_EQ(*reader.ReadVarint(), rows);
  EXPECT_EQ(*reader.ReadLengthPrefixed(), field.name);
  EXPECT_TRUE(reader.ReadLengthPrefixed().ok());
  const size_t version = bytes.find("\x08_version");
  const size_t begin = bytes.size() - reader.remaining();
  return version == std::string::npos ? "(no version)" : bytes.substr(begin, version - begin);
}

TEST(NativeEncoder, WholeBlockByteForByte) {
  const StreamPtr stream =
      MakeStream("s", {{"id", TypeKind::kInt32, false}, {"t", TypeKind::kText, true}}, {0});
  auto batch = std::make_shared<OutputBatch>(stream);
  batch->epoch = Epoch(1);
  batch->transactions = {{Lsn(0x10), 1, Xid(1)}, {Lsn(0x20), 2, Xid(2)}};
  batch->ops = {OutputOp::kUpsert, OutputOp::kDelete};
  batch->transaction = {0, 1};
  batch->ordinals = {3, 4};
  batch->rows.column(0).Append<int32_t>(1);
  batch->rows.column(0).Append<int32_t>(-1);
  batch->rows.column(1).AppendText("ab");
  batch->rows.column(1).AppendNull();
  const std::string expected = "\x05\x02"s + "\x02id\x05Int32\x01\0\0\0\xff\xff\xff\xff"s +
                               "\x01t\x10Nullable(String)\x00\x01\x02"
                               "ab\x00"s +
                               "\x08_version\x07UInt128"s +
                               "\x03\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\x01"s +
                               "\x04\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\x01"s +
                               "\x0a_commit_ts\x14"
                               "DateTime64(6, 'UTC')\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"s +
                               "\x08_deleted\x05UInt8\x00\x01"s;
  EXPECT_EQ(Encoded(NativeEncoder(stream, {}), {Whole(batch)}), expected);
}

TEST(NativeEncoder, LayoutsThatDiffer) {
  EXPECT_EQ(ColumnBytes({"c", TypeKind::kUuid, false},
                        [](Column& c) {
                          c.AppendFixed(
                              "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10");
                        }),
            "\x08\x07\x06\x05\x04\x03\x02\x01\x10\x0f\x0e\x0d\x0c\x0b\x0a\x09"s);
  EXPECT_EQ(
      ColumnBytes({"c", DataType::Decimal(4, 2), false}, [](Column& c) { c.Append<int16_t>(-2); }),
      "\xfe\xff\xff\xff"s);
  EXPECT_EQ(ColumnBytes({"c", TypeKind::kTime, true},
                        [](Column& c) {
                          c.Append<int64_t>(0);
                          c.AppendNull();
                        }),
            "\x00\x01\x08"
            "00:00:00\x00"s);
  // Names and numbers of an enum, with the first entry for NULL.
  EXPECT_EQ(ColumnBytes({"c", TypeKind::kEnum, true},
                        [](Column& c) {
                          c.AppendText("b");
                          c.AppendNull();
                          c.AppendText("a");
                          c.AppendText("b");
                        }),
            "\x01\0\0\0\0\0\0\0"s + "\0\x06\0\0\0\0\0\0"s + "\x03\0\0\0\0\0\0\0"s +
                "\0\x01"
                "b\x01"
                "a"s +
                "\x04\0\0\0\0\0\0\0"s + "\x01\0\x02\x01"s);
  EXPECT_EQ(ColumnBytes({"c", DataType::List(TypeKind::kInt16), true},
                        [](Column& c) {
                          c.child().Append<int16_t>(5);
                          c.child().AppendNull();
                          c.AppendListEnd();
                          c.AppendNull();
                          c.child().Append<int16_t>(6);
                          c.AppendListEnd();
                        }),
            "\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0"s + "\0\x01\0"s +
                "\x05\0\0\0\x06\0"s);
  EXPECT_EQ(ColumnBytes({"c", TypeKind::kInt32, true},
                        [](Column& c) {
                          c.Append<int32_t>(-12);
                          c.AppendNull();
                        },
                        {"c"}),
            "\x00\x01\x03-12\x00"s);
}

// What lies behind a NULL depends on where the rows come from.
TEST(NativeEncoder, BytesBehindNullsDoNotShow) {
  for (const DataType& type :
       {DataType(TypeKind::kInt64), DataType(TypeKind::kUuid), DataType::Decimal(3, 1),
        DataType(TypeKind::kTimestamp), DataType(TypeKind::kText), DataType(TypeKind::kEnum),
        DataType::List(TypeKind::kText)}) {
    const StreamPtr stream = MakeStream("s", {{"c", type, true}}, {});
    const auto encode = [&](bool dirty) {
      auto batch = std::make_shared<OutputBatch>(stream);
      batch->transactions = {{Lsn(1), 1, Xid(1)}};
      batch->ops = {OutputOp::kUpsert};
      batch->transaction = {0};
      batch->ordinals = {1};
      Column& c = batch->rows.column(0);
      if (!dirty) {
        c.AppendNull();
      } else {
        const int64_t far_out[2] = {INT64_MAX, INT64_MAX};
        if (type.is_list()) {
          c.child().AppendText("rest");
          c.AppendListEnd();
        } else if (type.is_varlen()) {
          c.AppendText("rest");
        } else {
          c.AppendFixed(far_out);
        }
        c.SetNull(0);
      }
      return Encoded(NativeEncoder(stream, {}), {Whole(batch)});
    };
    EXPECT_EQ(encode(true), encode(false)) << type.ToString();
  }
}

// However the same rows are cut into batches, the block is the same.
TEST(NativeEncoder, SlicesDoNotShow) {
  const StreamPtr stream = MakeStream("s",
                                      {{"id", TypeKind::kInt64, false},
                                       {"t", TypeKind::kText, true},
                                       {"e", TypeKind::kEnum, false},
                                       {"l", DataType::List(TypeKind::kText), false}},
                                      {0});
  const auto fill = [](RowBatch& rows, int begin, int end) {
    for (int i = begin; i < end; ++i) {
      rows.column(0).Append<int64_t>(i);
      i % 5 == 0 ? rows.column(1).AppendNull()
                 : rows.column(1).AppendText(std::string(static_cast<size_t>(i * 7), 'x'));
      rows.column(2).AppendText(i % 2 == 0 ? "even" : "odd");
      for (int k = 0; k < i % 4; ++k) {
        k == 1 ? rows.column(3).child().AppendNull() : rows.column(3).child().AppendText("y");
      }
      rows.column(3).AppendListEnd();
    }
  };
  OutputWriter one;
  const OutputBatchPtr whole = one.Write(stream, std::vector<OutputOp>(100, OutputOp::kUpsert),
                                         [&](RowBatch& rows) { fill(rows, 0, 100); });
  OutputWriter two;
  std::vector<OutputSlice> parts;
  for (int begin = 0; begin < 100; begin += 20) {
    parts.push_back(Whole(two.Write(stream, std::vector<OutputOp>(20, OutputOp::kUpsert),
                                    [&](RowBatch& rows) { fill(rows, begin, begin + 20); })));
  }
  const NativeEncoder encoder(stream, {});
  const std::string expected = Encoded(encoder, {Whole(whole)});
  EXPECT_EQ(Encoded(encoder, parts), expected);
  EXPECT_EQ(Encoded(encoder, {{whole, 0, 33}, {whole, 33, 34}, {whole, 34, 100}}), expected);
  EXPECT_NE(Encoded(encoder, {{whole, 0, 99}}), expected);
}

TEST(NativeEncoder, NamesTheValueThatClickHouseCannotHold) {
  struct Case {
    DataType type;
    int64_t value = 0;
    bool ok = false;
  };
  const Case cases[] = {
      {TypeKind::kDate, -25'567, true},
      {TypeKind::kDate, -25'568, false},
      {TypeKind::kDate, 120'529, true},
      {TypeKind::kDate, 120'530, false},
      {TypeKind::kDate, kDateInfinity, false},
      {TypeKind::kDate, kDateMinusInfinity, false},
      {TypeKind::kTimestamp, -2'208'988'800'000'000, true},
      {TypeKind::kTimestamp, -2'208'988'800'000'001, false},
      {TypeKind::kTimestampTz, 10'413'791'999'999'999, true},
      {TypeKind::kTimestampTz, 10'413'792'000'000'000, false},
      {TypeKind::kTimestampTz, kTimestampInfinity, false},
      {TypeKind::kTimestamp, kTimestampMinusInfinity, false},
      {DataType::Decimal(4, 2), 9999, true},
      {DataType::Decimal(4, 2), kDecimalNaN<int16_t>, false},
      {DataType::Decimal(9, 2), kDecimalNaN<int32_t>, false},
      {DataType::Decimal(18, 2), kDecimalNaN<int64_t>, false},
  };
  for (const Case& c : cases) {
    const StreamPtr stream =
        MakeStream("shop", {{"at", c.type, true}, {"list", DataType::List(c.type), true}}, {});
    for (const size_t column : {0U, 1U}) {
      OutputWriter writer(1000);
      const OutputBatchPtr batch =
          writer.Write(stream, std::vector<OutputOp>(3, OutputOp::kUpsert), [&](RowBatch& rows) {
            rows.AppendNullRow();
            rows.AppendNullRow();
            rows.AppendNullRow();
            rows.Truncate(2);
            rows.column(0).AppendNull();
            if (column == 0) {
              rows.column(0).Truncate(2);
              rows.column(0).AppendFixed(&c.value);
            } else {
              rows.column(1).child().AppendFixed(&c.value);
            }
            rows.column(1).AppendListEnd();
          });
      NativeBlock block;
      const Status status = NativeEncoder(stream, {}).Encode(std::vector{Whole(batch)}, block);
      EXPECT_EQ(status.ok(), c.ok) << c.type.ToString() << " " << c.value << status.ToString();
      if (!c.ok) {
        EXPECT_EQ(status.code(), Code::kInvalidArgument);
        EXPECT_NE(status.message().find("stream 'shop', column '"), std::string::npos);
        EXPECT_NE(status.message().find("offset 1002 "), std::string::npos) << status.message();
        NativeBlock as_text;
        EXPECT_TRUE(
            NativeEncoder(stream, {"at", "list"}).Encode(std::vector{Whole(batch)}, as_text).ok());
      }
    }
  }
}

// One row of `column`, encoded; the stream's key is another column.
Result<std::string> EncodedWith(OutOfRange out_of_range, const DataType& type,
                                const std::function<void(Column&)>& fill, bool is_key = false) {
  const StreamPtr stream =
      MakeStream("s", {{"c", type, false}, {"k", TypeKind::kInt32, false}}, {is_key ? 0U : 1U});
  OutputWriter writer;
  const OutputBatchPtr batch = writer.Write(stream, {OutputOp::kUpsert}, [&](RowBatch& rows) {
    fill(rows.column(0));
    rows.column(1).Append<int32_t>(1);
  });
  NativeBlock block;
  const Status status = NativeEncoder(stream, {}, out_of_range).Encode({{Whole(batch)}}, block);
  if (!status.ok()) {
    return status;
  }
  // Behind the numbers of columns and rows, up to the next column.
  const std::string_view bytes = block.rest.view();
  return std::string(bytes.substr(2, bytes.find("\x01k\x05Int32") - 2));
}

TEST(NativeEncoder, OutOfRangeReplacesWhatClickHouseCannotHold) {
  const auto append = [](auto value) { return [=](Column& c) { c.Append(value); }; };
  const auto clamped = [&](const DataType& type, auto value) {
    return *EncodedWith(OutOfRange::kClamp, type, append(value));
  };
  EXPECT_EQ(clamped(TypeKind::kDate, kDateMinusInfinity), clamped(TypeKind::kDate, -25'567));
  EXPECT_EQ(clamped(TypeKind::kDate, kDateInfinity), clamped(TypeKind::kDate, 120'529));
  EXPECT_EQ(clamped(TypeKind::kTimestamp, kTimestampMinusInfinity),
            clamped(TypeKind::kTimestamp, int64_t{-2'208'988'800'000'000}));
  EXPECT_EQ(clamped(TypeKind::kTimestampTz, kTimestampInfinity),
            clamped(TypeKind::kTimestampTz, int64_t{10'413'791'999'999'999}));

  EXPECT_EQ(*EncodedWith(OutOfRange::kNull, TypeKind::kDate, append(kDateInfinity)),
            "\x01"
            "c\x10Nullable(Date32)\x01\0\0\0\0"s);
  EXPECT_EQ(*EncodedWith(OutOfRange::kNull, TypeKind::kDate, append(int32_t{1})),
            "\x01"
            "c\x10Nullable(Date32)\x00\x01\0\0\0"s);
  EXPECT_EQ(*EncodedWith(OutOfRange::kNull, DataType::Decimal(4, 2), append(int16_t{INT16_MAX})),
            "\x01"
            "c\x17Nullable(Decimal(4, 2))\x01\0\0\0\0"s);
  const auto list = [](Column& c) {
    c.child().Append<int32_t>(7);
    c.child().Append(kDateInfinity);
    c.AppendListEnd();
  };
  EXPECT_EQ(*EncodedWith(OutOfRange::kNull, DataType::List(TypeKind::kDate), list),
            "\x01"
            "c\x17"
            "Array(Nullable(Date32))\x02\0\0\0\0\0\0\0\x00\x01\x07\0\0\0\0\0\0\0"s);
}

TEST(NativeEncoder, OutOfRangeLeavesKeysAndNaN) {
  const auto infinite = [](Column& c) { c.Append(kDateInfinity); };
  for (const OutOfRange policy : {OutOfRange::kClamp, OutOfRange::kNull}) {
    EXPECT_EQ(EncodedWith(policy, TypeKind::kDate, infinite, true).status().code(),
              Code::kInvalidArgument);
  }
  const Status status = EncodedWith(OutOfRange::kClamp, DataType::Decimal(4, 2), [](Column& c) {
                          c.Append(kDecimalNaN<int16_t>);
                        }).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("is NaN"), std::string::npos) << status.message();
}

TEST(NativeEncoder, TombstonesMayLackValuesOthersMayNot) {
  const StreamPtr stream =
      MakeStream("s", {{"id", TypeKind::kInt64, false}, {"t", TypeKind::kText, false}}, {0});
  for (const OutputOp op :
       {OutputOp::kDelete, OutputOp::kMovedAway, OutputOp::kUpsert, OutputOp::kRead}) {
    OutputWriter writer;
    const OutputBatchPtr batch = writer.Write(stream, {op}, [](RowBatch& rows) {
      rows.column(0).Append<int64_t>(1);
      rows.column(1).AppendNull();
    });
    NativeBlock block;
    const Status status = NativeEncoder(stream, {}).Encode(std::vector{Whole(batch)}, block);
    const bool is_tombstone = op == OutputOp::kDelete || op == OutputOp::kMovedAway;
    EXPECT_EQ(status.ok(), is_tombstone) << status.ToString();
    if (is_tombstone) {
      EXPECT_EQ(block.rest.view().back(), '\x01');
    }
  }
}

TEST(NativeEncoder, OlderRowsWidenIntoTheNewestColumns) {
  const StreamPtr before = MakeStream("s",
                                      {{"id", TypeKind::kInt32, false},
                                       {"d", DataType::Decimal(4, 2), true},
                                       {"f", TypeKind::kFloat32, true}},
                                      {}, 1, 1);
  const StreamPtr after = MakeStream("s",
                                     {{"added", TypeKind::kText, true},
                                      {"id", TypeKind::kInt64, false},
                                      {"d", DataType::Decimal(38, 2), true},
                                      {"f", TypeKind::kFloat64, true}},
                                     {}, 1, 2);
  OutputWriter writer;
  const OutputBatchPtr old_rows = writer.Write(before, {OutputOp::kUpsert}, [](RowBatch& rows) {
    rows.column(0).Append<int32_t>(-1);
    rows.column(1).Append<int16_t>(-125);
    rows.column(2).Append<float>(0.5F);
  });
  const OutputBatchPtr same_rows =
      OutputWriter().Write(after, {OutputOp::kUpsert}, [](RowBatch& rows) {
        rows.column(0).AppendNull();
        rows.column(1).Append<int64_t>(-1);
        rows.column(2).Append<Int128>(-125);
        rows.column(3).Append<double>(0.5);
      });
  const NativeEncoder encoder(after, {});
  EXPECT_EQ(Encoded(encoder, {Whole(old_rows)}), Encoded(encoder, {Whole(same_rows)}));

  const StreamPtr narrower = MakeStream("s", {{"id", TypeKind::kInt16, false}}, {}, 1, 3);
  NativeBlock block;
  EXPECT_EQ(NativeEncoder(narrower, {}).Encode(std::vector{Whole(old_rows)}, block).code(),
            Code::kFailedPrecondition);
}

TEST(NativeEncoder, LargeTextsStayWhereTheyAre) {
  const std::string large(size_t{3} << 20, 'x');
  const std::string larger(size_t{4} << 20, 'y');
  const std::vector<std::string> texts = {"a", large, "", "b", larger};
  const StreamPtr stream = MakeStream("s",
                                      {{"t", TypeKind::kText, true},
                                       {"l", DataType::List(TypeKind::kText), true},
                                       {"id", TypeKind::kInt32, false}},
                                      {}, 1, 1);
  OutputWriter writer;
  const OutputBatchPtr batch = writer.Write(
      stream, std::vector<OutputOp>(texts.size(), OutputOp::kUpsert), [&](RowBatch& rows) {
        for (const std::string& text : texts) {
          if (text.empty()) {
            rows.column(0).AppendNull();
            rows.column(1).AppendNull();
          } else {
            rows.column(0).AppendText(text);
            rows.column(1).child().AppendText("c");
            rows.column(1).child().AppendText(text);
            rows.column(1).AppendListEnd();
          }
          rows.column(2).Append<int32_t>(1);
        }
      });
  Buffer expected;
  for (const char null : {'\0', '\0', '\1', '\0', '\0'}) {
    expected.AppendValue(null);
  }
  for (const std::string& text : texts) {
    AppendLengthPrefixed(expected, text);
  }
  AppendLengthPrefixed(expected, "l");
  AppendLengthPrefixed(expected, "Array(Nullable(String))");
  for (const uint64_t end : {2, 4, 4, 6, 8}) {
    expected.AppendValue(end);
  }
  expected.Append(std::string(8, '\0'));
  for (const std::string& text : texts) {
    if (!text.empty()) {
      AppendLengthPrefixed(expected, "c");
      AppendLengthPrefixed(expected, text);
    }
  }
  const NativeEncoder encoder(stream, {});
  const std::string bytes = Encoded(encoder, {Whole(batch)});
  EXPECT_NE(bytes.find(expected.view()), std::string::npos);
  // Pieces of a batch are slices of it.
  const std::string slice = Encoded(encoder, {{batch, 1, 2}, {batch, 2, 5}});
  const std::string from_second = Encoded(encoder, {{batch, 1, 5}});
  EXPECT_TRUE(slice == from_second);

  NativeBlock block;
  ASSERT_TRUE(encoder.Encode(std::vector{Whole(batch)}, block).ok());
  ASSERT_EQ(block.texts.size(), 4U);
  EXPECT_EQ(block.texts[0].bytes.data(), batch->rows.column(0).Text(1).data());
  EXPECT_LT(block.rest.size(), 4096U);

  // Values that are made for the block go with it, and are copied.
  const StreamPtr enums = MakeStream("s", {{"t", TypeKind::kEnum, true}}, {}, 1, 1);
  const StreamPtr newer = MakeStream("s", {{"t", TypeKind::kText, true}}, {}, 1, 2);
  const OutputBatchPtr old_rows = OutputWriter().Write(
      enums, {OutputOp::kUpsert}, [&](RowBatch& rows) { rows.column(0).AppendText(large); });
  NativeBlock widened;
  ASSERT_TRUE(NativeEncoder(newer, {}).Encode(std::vector{Whole(old_rows)}, widened).ok());
  EXPECT_TRUE(widened.texts.empty());
  EXPECT_NE(widened.rest.view().find(large), std::string::npos);
}

TEST(NativeEncoder, ManyNamesOfAnEnumWidenTheNumbers) {
  for (const int names : {255, 256, 257, 70'000}) {
    const std::string bytes = ColumnBytes({"c", TypeKind::kEnum, false}, [&](Column& c) {
      for (int i = 0; i < names; ++i) {
        c.AppendText(std::to_string(i));
      }
    });
    const int width = names <= 256 ? 0 : names <= 65'536 ? 1 : 2;
    EXPECT_EQ(bytes[8], width) << names;
  }
}

}  // namespace
}  // namespace millrace::sinks::clickhouse
