// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "millrace/model/stream.h"
#include "millrace/sinks/testing/sink_test_support.h"

namespace millrace::benchmarks {

// The columns of the example's enriched_engagements; with the metadata columns a table of 17.
inline StreamPtr EngagementStream(bool append_only) {
  return sinks::testing::MakeStream(
      "enriched_engagements",
      {{"event_id", TypeKind::kInt64, false},
       {"content_id", TypeKind::kUuid, true},
       {"user_id", TypeKind::kUuid, true},
       {"event_type", TypeKind::kText, true},
       {"event_ts", TypeKind::kTimestampTz, false},
       {"duration_ms", TypeKind::kInt32, true},
       {"device", TypeKind::kText, true},
       {"raw_payload", TypeKind::kJson, true},
       {"content_slug", TypeKind::kText, true},
       {"content_title", TypeKind::kText, true},
       {"content_type", TypeKind::kText, true},
       {"length_seconds", TypeKind::kInt32, true},
       {"engagement_seconds", TypeKind::kFloat64, true},
       {"engagement_percent", TypeKind::kFloat64, true}},
      append_only ? std::vector<uint32_t>{} : std::vector<uint32_t>{0});
}

// `count` rows at the writer's next offsets; every tenth event has no duration.
inline OutputBatchPtr EngagementRows(sinks::testing::OutputWriter& writer, const StreamPtr& stream,
                                     size_t count) {
  const auto first = static_cast<int64_t>(writer.next_offset());
  return writer.Write(stream, std::vector<OutputOp>(count, OutputOp::kUpsert), [&](RowBatch& rows) {
    for (size_t i = 0; i < count; ++i) {
      const int64_t id = first + static_cast<int64_t>(i);
      const int64_t mixed = id * 2'654'435'761;
      const int64_t uuid[2] = {mixed % 1000, 7};
      const int64_t user[2] = {mixed % 100'000, 9};
      const bool has_duration = id % 10 != 0;
      rows.column(0).Append<int64_t>(id);
      rows.column(1).AppendFixed(uuid);
      rows.column(2).AppendFixed(user);
      rows.column(3).AppendText(id % 3 == 0 ? "play" : id % 3 == 1 ? "pause" : "finish");
      rows.column(4).Append<int64_t>(1'714'979'289'000'000 + id * 1000);
      has_duration ? rows.column(5).Append(static_cast<int32_t>(mixed % 60'000))
                   : rows.column(5).AppendNull();
      rows.column(6).AppendText(id % 2 == 0 ? "ios" : "web-chrome");
      rows.column(7).AppendText(
          R"({"session": "0a1b2c3d4e5f", "position": 12345, "muted": false})");
      rows.column(8).AppendText("content-slug-" + std::to_string(uuid[0]));
      rows.column(9).AppendText("The title of content number " + std::to_string(uuid[0]));
      rows.column(10).AppendText("podcast");
      rows.column(11).Append<int32_t>(1800);
      for (const size_t column : {12U, 13U}) {
        has_duration ? rows.column(column).Append(static_cast<double>(mixed % 60'000) / 1000.0)
                     : rows.column(column).AppendNull();
      }
    }
  });
}

}  // namespace millrace::benchmarks
