// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/status_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace::admin {
namespace {

using pipeline::StatusSnapshot;

StatusSnapshot Example() {
  return {
      .pipeline = "engagement",
      .state = "streaming",
      .ready = true,
      .output_log_bytes = 4096,
      .source = {.slot = "millrace_engagement",
                 .connected = true,
                 .confirmed_lsn = Lsn(0x16B374D848),
                 .received_lsn = Lsn(0x16B374D900),
                 .lag_bytes = 184,
                 .lag_seconds = 0.25,
                 .retained_wal_bytes = 16777216,
                 .wal_status = "reserved",
                 .snapshot = "done",
                 .snapshot_rows = 10000,
                 .snapshot_rows_per_second = 512,
                 .snapshot_seconds_left = 2.5,
                 .tables = {{.name = "public.content",
                             .state = "reading",
                             .rows = 10000,
                             .rows_estimated = 11280}},
                 .rows_per_second = 1204,
                 .paused_tables = {{.table = "public.t", .reason = "read it again"}},
                 .left_out_tables = {{.table = "public.u", .reason = "grant SELECT"}}},
      .streams = {{.name = "content_dim", .rows = 10000, .dead_letters = 1, .state_bytes = 512}},
      .sinks = {{.name = "live",
                 .type = "redis",
                 .state = "retrying",
                 .rows = 7,
                 .rows_per_second = 2.5,
                 .lag_rows = 16240,
                 .lag_seconds = 13.5,
                 .last_error = "connection refused"}},
  };
}

TEST(StatusJson, HasTheNamesThatUsersRelyOn) {
  EXPECT_EQ(ToJson(Example()), R"({
  "pipeline": "engagement",
  "state": "streaming",
  "ready": true,
  "not_ready_reason": "",
  "output_log_bytes": 4096,
  "source": {
    "slot": "millrace_engagement",
    "connected": true,
    "confirmed_lsn": "16/B374D848",
    "received_lsn": "16/B374D900",
    "lag_bytes": 184,
    "lag_seconds": 0.25,
    "retained_wal_bytes": 16777216,
    "wal_status": "reserved",
    "snapshot": "done",
    "snapshot_rows": 10000,
    "snapshot_rows_per_second": 512.0,
    "snapshot_seconds_left": 2.5,
    "tables": [
      {
        "name": "public.content",
        "state": "reading",
        "rows": 10000,
        "rows_estimated": 11280
      }
    ],
    "rows_per_second": 1204.0,
    "last_error": "",
    "paused_tables": [
      {
        "table": "public.t",
        "reason": "read it again"
      }
    ],
    "left_out_tables": [
      {
        "table": "public.u",
        "reason": "grant SELECT"
      }
    ]
  },
  "streams": [
    {
      "name": "content_dim",
      "rows": 10000,
      "dead_letters": 1,
      "state_bytes": 512
    }
  ],
  "sinks": [
    {
      "name": "live",
      "type": "redis",
      "state": "retrying",
      "rows": 7,
      "rows_per_second": 2.5,
      "lag_rows": 16240,
      "lag_seconds": 13.5,
      "last_error": "connection refused"
    }
  ]
})");
}

TEST(StatusJson, ComesBackAsItWas) {
  const std::string json = ToJson(Example());
  const Result<StatusSnapshot> status = ParseStatusJson(json);
  ASSERT_TRUE(status.ok()) << status.status().ToString();
  EXPECT_EQ(ToJson(*status), json);
}

TEST(StatusJson, ErrorsThatAreNotUtf8AreReplaced) {
  EXPECT_THAT(ToJson({.source = {.last_error = "bad \xff byte"}}),
              testing::HasSubstr("bad \xef\xbf\xbd byte"));
}

TEST(StatusJson, OtherVersionsAreRead) {
  const Result<StatusSnapshot> status =
      ParseStatusJson(R"({"pipeline": "p", "colour": 1, "sinks": [{"name": "a", "x": []}]})");
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->pipeline, "p");
  EXPECT_EQ(status->sinks.at(0).name, "a");
}

TEST(StatusJson, GarbageIsRefused) {
  for (const char* text : {"", "[]", "{", "\"a\"", R"({"pipeline": 1})", R"({"sinks": [1]})",
                           R"({"source": {"confirmed_lsn": "x"}})", R"({"source": []})",
                           R"({"source": {"tables": 1}})", R"({"source": {"tables": [1]}})"}) {
    EXPECT_FALSE(ParseStatusJson(text).ok()) << text;
  }
}

}  // namespace
}  // namespace millrace::admin
