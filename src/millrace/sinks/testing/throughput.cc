// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/testing/throughput.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sys/resource.h>

namespace millrace::sinks::testing {

namespace {

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void AppendUuidValue(Column& column, uint64_t number) {
  std::array<char, 16> bytes{};
  std::memcpy(bytes.data() + 8, &number, sizeof(number));
  column.AppendFixed(bytes.data());
}

OutputBatchPtr EngagementBatch(const StreamPtr& stream, uint64_t first, size_t n) {
  constexpr std::array<const char*, 4> kEvents = {"play", "pause", "finish", "click"};
  constexpr std::array<const char*, 3> kTypes = {"podcast", "newsletter", "video"};
  constexpr int64_t kStart = 1'700'000'000'000'000;
  auto batch = std::make_shared<OutputBatch>(stream);
  batch->first_offset = Offset(first);
  const auto now = kStart + static_cast<int64_t>(first) * 10;
  batch->transactions = {{Lsn(0x1000 + first), now, Xid(7)}};
  for (uint64_t i = first; i < first + n; ++i) {
    const auto duration = static_cast<int32_t>(i % 600'000);
    const uint64_t content = i % 1000;
    size_t c = 0;
    RowBatch& rows = batch->rows;
    rows.column(c++).Append(static_cast<int64_t>(i));
    AppendUuidValue(rows.column(c++), content);
    AppendUuidValue(rows.column(c++), i * 7919);
    rows.column(c++).AppendText(kEvents[i % 4]);
    rows.column(c++).Append(now);
    rows.column(c++).Append(duration);
    rows.column(c++).AppendText("ios 17.2 iphone");
    rows.column(c++).AppendText(fmt::format(R"({{"session": "{:x}", "position": {}}})", i, i % 97));
    rows.column(c++).AppendText(fmt::format("content-slug-{}", content));
    rows.column(c++).AppendText(fmt::format("The title of the content number {}", content));
    rows.column(c++).AppendText(kTypes[content % 3]);
    rows.column(c++).Append(int32_t{1800});
    rows.column(c++).Append(kStart);
    rows.column(c++).Append(duration / 1000.0);
    rows.column(c++).Append(duration / 18'000.0);
    batch->ops.push_back(OutputOp::kUpsert);
    batch->transaction.push_back(0);
    batch->ordinals.push_back(i - first + 1);
  }
  return batch;
}

}  // namespace

StreamPtr EngagementStream() {
  auto stream = std::make_shared<Stream>();
  stream->id = StreamId(1);
  stream->schema_version = SchemaVersion(1);
  stream->name = "enriched_engagements";
  stream->columns = std::make_shared<Schema>(Schema{{"event_id", TypeKind::kInt64, false},
                                                    {"content_id", TypeKind::kUuid},
                                                    {"user_id", TypeKind::kUuid},
                                                    {"event_type", TypeKind::kText},
                                                    {"event_ts", TypeKind::kTimestampTz},
                                                    {"duration_ms", TypeKind::kInt32},
                                                    {"device", TypeKind::kText},
                                                    {"raw_payload", TypeKind::kJson},
                                                    {"content_slug", TypeKind::kText},
                                                    {"content_title", TypeKind::kText},
                                                    {"content_type", TypeKind::kText},
                                                    {"length_seconds", TypeKind::kInt32},
                                                    {"publish_ts", TypeKind::kTimestampTz},
                                                    {"engagement_seconds", TypeKind::kFloat64},
                                                    {"engagement_percent", TypeKind::kFloat64}});
  stream->key = {0};
  return stream;
}

int MeasureThroughput(Sink& sink, size_t rows, size_t batch_rows) {
  const StreamPtr stream = EngagementStream();
  std::vector<DeliveryBatch> deliveries;
  for (uint64_t first = 0; first < rows; first += batch_rows) {
    const size_t n = std::min(batch_rows, rows - first);
    DeliveryBatch delivery;
    delivery.first = Offset(first);
    delivery.end = Offset(first + n);
    delivery.position = {Epoch(0), Lsn(0x1000 + first)};
    delivery.slices = {{EngagementBatch(stream, first, n), 0, n}};
    deliveries.push_back(std::move(delivery));
  }
  Result<SinkPosition> position = sink.Open({});
  if (!position.ok()) {
    std::fprintf(stderr, "%s\n", position.status().ToString().c_str());
    return 1;
  }
  const double cpu_before = CpuSeconds();
  const auto before = std::chrono::steady_clock::now();
  for (const DeliveryBatch& delivery : deliveries) {
    const Status status = sink.Deliver(delivery, {});
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      return 1;
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
  fmt::print("{} rows in {} deliveries: {:.2f} s, {:.0f} rows/s, {:.2f} CPU s here\n", rows,
             deliveries.size(), took.count(), static_cast<double>(rows) / took.count(),
             CpuSeconds() - cpu_before);
  sink.Close();
  return 0;
}

}  // namespace millrace::sinks::testing
