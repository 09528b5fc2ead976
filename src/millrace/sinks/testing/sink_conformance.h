// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "millrace/model/json_text.h"
#include "millrace/sinks/sink.h"
#include "millrace/sinks/testing/sink_test_support.h"

// What every sink must show, against its real server. A test program of a sink supplies a
// SinkFixture and includes this header once:
//
//   INSTANTIATE_TEST_SUITE_P(ClickHouse, SinkConformance,
//   ::testing::Values(&MakeClickHouseFixture));
namespace millrace::sinks::testing {

// One sink and its empty target, for one test.
class SinkFixture {
 public:
  virtual ~SinkFixture() = default;

  // A sink that writes `stream`, over the same target and the same DeliveryLog at every call: what
  // a restarted process makes.
  virtual std::unique_ptr<Sink> MakeSink(const StreamPtr& stream) = 0;
  virtual MemoryDeliveryLog& delivery_log() = 0;

  // The rows of `stream` that are there, in the order of their first column: for each the texts of
  // its columns as TextOf() prints them, `NULL` for NULL.
  virtual std::vector<std::vector<std::string>> ReadRows(const StreamPtr& stream) = 0;
  // How many rows the target holds where nothing hides a double one.
  virtual size_t CountCopies(const StreamPtr& stream) = 0;

  // Breaks every connection, as a restart of the server does; it takes new ones at once.
  virtual void CutConnections() = 0;
  // Lets no byte through, either way, until the end of the test.
  virtual void StallConnections() = 0;
  // Blocks until the sink has sent something that is stalled.
  virtual void WaitForStalledBytes() = 0;
  // The next request arrives whole, its answer is lost; then all is well again. False if the sink
  // does not talk in requests.
  virtual bool LoseNextReply() = 0;
};

using SinkFixtureFactory = std::unique_ptr<SinkFixture> (*)();

class SinkConformance : public ::testing::TestWithParam<SinkFixtureFactory> {
 protected:
  void SetUp() override {
    fixture_ = GetParam()();
    ASSERT_NE(fixture_, nullptr);
  }

  static StreamPtr Events() {
    return MakeStream("events", {{"id", TypeKind::kInt64, false}, {"note", TypeKind::kText, true}},
                      {});
  }
  static StreamPtr Items() {
    return MakeStream("items", {{"id", TypeKind::kInt64, false}, {"note", TypeKind::kText, true}},
                      {0});
  }

  // Rows with ids from `first` on; the note of every third is NULL.
  OutputBatchPtr WriteRows(const StreamPtr& stream, int64_t first, size_t count,
                           OutputOp op = OutputOp::kUpsert) {
    return writer_.Write(stream, std::vector<OutputOp>(count, op), [&](RowBatch& rows) {
      for (size_t i = 0; i < count; ++i) {
        const int64_t id = first + static_cast<int64_t>(i);
        rows.column(0).Append<int64_t>(id);
        if (id % 3 == 0 || op == OutputOp::kDelete) {
          rows.column(1).AppendNull();
        } else {
          rows.column(1).AppendText("note " + std::to_string(id));
        }
      }
    });
  }

  // Opens a sink; the position must be `delivered`.
  std::unique_ptr<Sink> OpenAt(const StreamPtr& stream, uint64_t delivered) {
    std::unique_ptr<Sink> sink = fixture_->MakeSink(stream);
    const Result<SinkPosition> position = sink->Open({});
    EXPECT_TRUE(position.ok()) << position.status().ToString();
    if (position.ok()) {
      EXPECT_EQ(position->delivered.value_or(Offset(0)), Offset(delivered));
    }
    return sink;
  }

  // What the pipeline does after an error: opens again and offers the same rows, unless they are
  // there by now.
  void DeliverAgain(Sink& sink, const DeliveryBatch& batch) {
    sink.Close();
    const Result<SinkPosition> position = sink.Open({});
    ASSERT_TRUE(position.ok()) << position.status().ToString();
    if (position->delivered == batch.end) {
      return;
    }
    EXPECT_EQ(position->delivered.value_or(Offset(0)), batch.first);
    EXPECT_EQ(position->pending_end.value_or(batch.end), batch.end);
    const Status status = sink.Deliver(batch, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  std::unique_ptr<SinkFixture> fixture_;
  OutputWriter writer_;
};

TEST_P(SinkConformance, FirstOpenHasNoPosition) {
  const Result<SinkPosition> position = fixture_->MakeSink(Events())->Open({});
  ASSERT_TRUE(position.ok()) << position.status().ToString();
  EXPECT_EQ(position->delivered, std::nullopt);
  EXPECT_EQ(position->pending_end, std::nullopt);
}

TEST_P(SinkConformance, DeliveredRowsAreThereOnce) {
  const StreamPtr stream = Events();
  auto sink = OpenAt(stream, 0);
  ASSERT_TRUE(
      sink->Deliver(MakeDelivery({WriteRows(stream, 1, 3), WriteRows(stream, 4, 2)}), {}).ok());
  EXPECT_EQ(
      fixture_->ReadRows(stream),
      (std::vector<std::vector<std::string>>{
          {"1", "note 1"}, {"2", "note 2"}, {"3", "NULL"}, {"4", "note 4"}, {"5", "note 5"}}));
  EXPECT_EQ(fixture_->CountCopies(stream), 5U);
}

TEST_P(SinkConformance, ResumesAtPosition) {
  const StreamPtr stream = Events();
  ASSERT_TRUE(OpenAt(stream, 0)->Deliver(MakeDelivery({WriteRows(stream, 1, 3)}), {}).ok());
  auto sink = OpenAt(stream, 3);
  ASSERT_TRUE(sink->Deliver(MakeDelivery({WriteRows(stream, 4, 2)}), {}).ok());
  const Result<std::optional<Offset>> position = sink->ReadPosition();
  ASSERT_TRUE(position.ok()) << position.status().ToString();
  EXPECT_EQ(*position, Offset(5));
  EXPECT_EQ(fixture_->CountCopies(stream), 5U);
  OpenAt(stream, 5);
}

TEST_P(SinkConformance, EmptyDeliveryMovesPosition) {
  const StreamPtr stream = Events();
  auto sink = OpenAt(stream, 0);
  ASSERT_TRUE(sink->Deliver(MakeEmptyDelivery(0, 7), {}).ok());
  sink = OpenAt(stream, 7);
  EXPECT_EQ(fixture_->CountCopies(stream), 0U);
}

TEST_P(SinkConformance, ReplayedDeliveryLeavesOneCopy) {
  const StreamPtr stream = Events();
  const DeliveryBatch batch = MakeDelivery({WriteRows(stream, 1, 100)});
  auto sink = OpenAt(stream, 0);
  // The process dies after the target took the rows and before data_dir knows.
  fixture_->delivery_log().fail_positions = true;
  sink->Deliver(batch, {}).IgnoreError("sinks that keep the position in the target succeed");
  fixture_->delivery_log().fail_positions = false;
  for (int i = 0; i < 3; ++i) {
    sink = fixture_->MakeSink(stream);
    DeliverAgain(*sink, batch);
  }
  EXPECT_EQ(fixture_->CountCopies(stream), 100U);
  EXPECT_EQ(fixture_->ReadRows(stream).size(), 100U);
}

TEST_P(SinkConformance, LostReplyLeavesOneCopy) {
  const StreamPtr stream = Events();
  const DeliveryBatch batch = MakeDelivery({WriteRows(stream, 1, 100)});
  auto sink = OpenAt(stream, 0);
  if (!fixture_->LoseNextReply()) {
    return;
  }
  const Status status = sink->Deliver(batch, {});
  EXPECT_FALSE(status.ok());
  DeliverAgain(*sink, batch);
  EXPECT_EQ(fixture_->CountCopies(stream), 100U);
}

TEST_P(SinkConformance, ReconnectsAfterPeerRestart) {
  const StreamPtr stream = Events();
  auto sink = OpenAt(stream, 0);
  ASSERT_TRUE(sink->Deliver(MakeDelivery({WriteRows(stream, 1, 3)}), {}).ok());
  fixture_->CutConnections();
  const DeliveryBatch batch = MakeDelivery({WriteRows(stream, 4, 2)});
  if (!sink->Deliver(batch, {}).ok()) {
    DeliverAgain(*sink, batch);
  }
  EXPECT_EQ(fixture_->CountCopies(stream), 5U);
}

TEST_P(SinkConformance, StopUnblocksWithinOneSecond) {
  const StreamPtr stream = Events();
  auto sink = OpenAt(stream, 0);
  fixture_->StallConnections();
  std::stop_source stop;
  const DeliveryBatch batch = MakeDelivery({WriteRows(stream, 1, 3)});
  std::chrono::steady_clock::time_point stopped;
  std::jthread stopper([&] {
    fixture_->WaitForStalledBytes();
    stopped = std::chrono::steady_clock::now();
    stop.request_stop();
  });
  const Status status = sink->Deliver(batch, stop.get_token());
  stopper.join();
  EXPECT_EQ(status.code(), Code::kCancelled) << status.ToString();
  EXPECT_LT(std::chrono::steady_clock::now() - stopped, std::chrono::seconds(1));
}

TEST_P(SinkConformance, DeleteRemovesRow) {
  const StreamPtr stream = Items();
  auto sink = OpenAt(stream, 0);
  ASSERT_TRUE(sink->Deliver(MakeDelivery({WriteRows(stream, 1, 4)}), {}).ok());
  ASSERT_TRUE(sink->Deliver(MakeDelivery({WriteRows(stream, 2, 2, OutputOp::kDelete)}), {}).ok());
  EXPECT_EQ(fixture_->ReadRows(stream),
            (std::vector<std::vector<std::string>>{{"1", "note 1"}, {"4", "note 4"}}));
  // The key comes back.
  ASSERT_TRUE(sink->Deliver(MakeDelivery({WriteRows(stream, 2, 1)}), {}).ok());
  EXPECT_EQ(fixture_->ReadRows(stream).size(), 3U);
}

TEST_P(SinkConformance, LastUpdateOfAKeyWins) {
  const StreamPtr stream = Items();
  auto sink = OpenAt(stream, 0);
  const auto note = [&](const std::string& text) {
    return writer_.Write(stream, {OutputOp::kUpsert}, [&](RowBatch& rows) {
      rows.column(0).Append<int64_t>(1);
      rows.column(1).AppendText(text);
    });
  };
  ASSERT_TRUE(sink->Deliver(MakeDelivery({note("a"), note("b")}), {}).ok());
  EXPECT_EQ(fixture_->ReadRows(stream), (std::vector<std::vector<std::string>>{{"1", "b"}}));
  ASSERT_TRUE(sink->Deliver(MakeDelivery({note("c")}), {}).ok());
  EXPECT_EQ(fixture_->ReadRows(stream), (std::vector<std::vector<std::string>>{{"1", "c"}}));
}

// A stream with a nullable column of every type.
inline StreamPtr EveryTypeStream() {
  Schema columns = {{"id", TypeKind::kInt64, false}};
  for (const TypeKind kind :
       {TypeKind::kBool,        TypeKind::kInt8,     TypeKind::kInt16,   TypeKind::kInt32,
        TypeKind::kInt64,       TypeKind::kInt128,   TypeKind::kUInt8,   TypeKind::kUInt16,
        TypeKind::kUInt32,      TypeKind::kUInt64,   TypeKind::kUInt128, TypeKind::kFloat32,
        TypeKind::kFloat64,     TypeKind::kDate,     TypeKind::kTime,    TypeKind::kTimestamp,
        TypeKind::kTimestampTz, TypeKind::kInterval, TypeKind::kUuid,    TypeKind::kText,
        TypeKind::kEnum,        TypeKind::kJson,     TypeKind::kBytes}) {
    columns.push_back({"c_" + DataType(kind).ToString(), kind, true});
  }
  columns.push_back({"c_decimal2", DataType::Decimal(4, 2), true});
  columns.push_back({"c_decimal4", DataType::Decimal(9, 0), true});
  columns.push_back({"c_decimal8", DataType::Decimal(18, 6), true});
  columns.push_back({"c_decimal16", DataType::Decimal(38, 10), true});
  columns.push_back({"c_ints", DataType::List(TypeKind::kInt32), false});
  return MakeStream("every_type", std::move(columns), {0});
}

inline void AppendSampleText(Column& column, int which) {
  switch (column.type().kind) {
    case TypeKind::kEnum:
      return column.AppendText(which == 0 ? "play" : which == 1 ? "" : "pause");
    case TypeKind::kJson:
      return column.AppendText(which == 0   ? R"({"a": [1, null, "x"]})"
                               : which == 1 ? "null"
                                            : "1e400");
    case TypeKind::kBytes:
      return column.AppendText(which == 0 ? std::string_view("\0\x01\xff\xfe", 4)
                                          : std::string_view("plain"));
    default:
      return column.AppendText(which == 0   ? "gr\xc3\xbc\xc3\x9f 'q' \"d\" \\ \t\n"
                               : which == 1 ? ""
                                            : std::string(70'000, 'x'));
  }
}

inline void AppendSampleDecimal(Column& column, int which) {
  Int128 most = 1;
  for (int i = 0; i < column.type().precision; ++i) {
    most *= 10;
  }
  const Int128 value = which == 0 ? 7 : which == 1 ? 1 - most : most - 1;
  column.AppendFixed(&value);
}

// Appends a value of `which` (0: small, 1: least, 2: greatest) that every target holds.
inline void AppendSample(Column& column, int which) {
  const TypeKind kind = column.type().kind;
  const auto pick = [&](auto small, auto least, auto greatest) {
    column.Append(which == 0 ? small : which == 1 ? least : greatest);
  };
  const auto limits = [&](auto zero) {
    using T = decltype(zero);
    pick(static_cast<T>(7), std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
  };
  switch (kind) {
    case TypeKind::kBool:
      return pick(uint8_t{1}, uint8_t{0}, uint8_t{1});
    case TypeKind::kInt8:
      return limits(int8_t{});
    case TypeKind::kInt16:
      return limits(int16_t{});
    case TypeKind::kInt32:
      return limits(int32_t{});
    case TypeKind::kInt64:
      return limits(int64_t{});
    case TypeKind::kInt128:
      return pick(Int128{7}, static_cast<Int128>(UInt128{1} << 127),
                  static_cast<Int128>(~UInt128{0} >> 1));
    case TypeKind::kUInt8:
      return limits(uint8_t{});
    case TypeKind::kUInt16:
      return limits(uint16_t{});
    case TypeKind::kUInt32:
      return limits(uint32_t{});
    case TypeKind::kUInt64:
      return limits(uint64_t{});
    case TypeKind::kUInt128:
      return pick(UInt128{7}, UInt128{0}, ~UInt128{0});
    case TypeKind::kFloat32:
      return pick(0.1F, -std::numeric_limits<float>::infinity(),
                  std::numeric_limits<float>::quiet_NaN());
    case TypeKind::kFloat64:
      return pick(0.1, -std::numeric_limits<double>::infinity(),
                  std::numeric_limits<double>::quiet_NaN());
    case TypeKind::kDate:
      return pick(int32_t{19'849}, int32_t{-25'567}, int32_t{120'529});
    case TypeKind::kTime:
      return pick(int64_t{3'723'000'004}, int64_t{0}, int64_t{86'400'000'000});
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
      return pick(int64_t{1'714'979'289'000'001}, int64_t{-2'208'988'800'000'000},
                  int64_t{10'413'791'999'999'999});
    case TypeKind::kInterval:
      return pick(Interval{14, 3, 14'706'700'000}, Interval{-1, -1, -1}, Interval{});
    case TypeKind::kUuid:
      return column.AppendFixed(
          which == 0 ? "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"
                     : "\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
    case TypeKind::kText:
    case TypeKind::kEnum:
    case TypeKind::kJson:
    case TypeKind::kBytes:
      return AppendSampleText(column, which);
    case TypeKind::kDecimal:
      return AppendSampleDecimal(column, which);
    case TypeKind::kList:
      if (which != 1) {
        column.child().Append<int32_t>(-1);
        column.child().AppendNull();
        column.child().Append<int32_t>(which);
      }
      return column.AppendListEnd();
  }
}

// The plain text of json_text.h, but for bytes, which are themselves, and NULL.
inline std::string TextOf(const Column& column, size_t row) {
  if (column.IsNull(row)) {
    return "NULL";
  }
  if (column.type().is_varlen()) {
    return std::string(column.Text(row));
  }
  Buffer text;
  TextWriterOf(column.type())(column, row, text);
  return std::string(text.view());
}

TEST_P(SinkConformance, EveryTypeRoundTrips) {
  const StreamPtr stream = EveryTypeStream();
  const OutputBatchPtr batch =
      writer_.Write(stream, std::vector<OutputOp>(4, OutputOp::kUpsert), [](RowBatch& rows) {
        for (int which = 0; which < 4; ++which) {
          rows.column(0).Append<int64_t>(which + 1);
          for (size_t i = 1; i < rows.column_count(); ++i) {
            const bool is_null = which == 3 && (*rows.schema())[i].nullable;
            is_null ? rows.column(i).AppendNull() : AppendSample(rows.column(i), which);
          }
        }
      });
  auto sink = OpenAt(stream, 0);
  const Status status = sink->Deliver(MakeDelivery({batch}), {});
  ASSERT_TRUE(status.ok()) << status.ToString();
  const auto rows = fixture_->ReadRows(stream);
  ASSERT_EQ(rows.size(), 4U);
  for (size_t row = 0; row < 4; ++row) {
    ASSERT_EQ(rows[row].size(), stream->columns->size());
    for (size_t i = 0; i < rows[row].size(); ++i) {
      EXPECT_EQ(rows[row][i], TextOf(batch->rows.column(i), row))
          << (*stream->columns)[i].name << ", row " << row;
    }
  }
}

}  // namespace millrace::sinks::testing
