// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/status_text.h"

#include <gtest/gtest.h>

namespace millrace::admin {
namespace {

using pipeline::StatusSnapshot;

StatusSnapshot Flowing() {
  return {
      .pipeline = "engagement",
      .state = "streaming",
      .ready = true,
      .output_log_bytes = 13'000'000,
      .source = {.slot = "millrace_engagement",
                 .connected = true,
                 .confirmed_lsn = Lsn(0x16B374D848),
                 .lag_bytes = 1234,
                 .lag_seconds = 0.1,
                 .retained_wal_bytes = 24 << 20,
                 .snapshot = "done",
                 .rows_per_second = 1204.4},
      .streams = {{.name = "content_dim", .rows = 10'000, .state_bytes = 1'258'291},
                  {.name = "enriched_engagements", .rows = 1'204'000}},
      .sinks = {{.name = "warehouse",
                 .type = "clickhouse",
                 .state = "flowing",
                 .rows = 1'214'000,
                 .rows_per_second = 1204,
                 .lag_seconds = 0.24},
                {.name = "live", .type = "redis", .state = "flowing", .rows_per_second = 1200.7}},
  };
}

TEST(StatusText, FirstLineThenColumns) {
  EXPECT_EQ(RenderStatusText(Flowing()),
            R"(Flowing: 1,204 changes/s read, 2,405 rows/s delivered, 0.2 s behind.

pipeline  engagement   streaming, ready   output log 12.4 MiB
source    slot millrace_engagement   confirmed 16/B374D848   snapshot done
          1.2 KiB, 0.1 s behind   WAL held 24.0 MiB

STREAM                     ROWS  DEAD LETTERS    STATE
content_dim              10,000             0  1.2 MiB
enriched_engagements  1,204,000             0      0 B

SINK       TYPE        STATE         ROWS  ROWS/S  WAITING  BEHIND
warehouse  clickhouse  flowing  1,214,000   1,204        0   0.2 s
live       redis       flowing          0   1,201        0   0.0 s
)");
}

TEST(StatusText, ASinkThatIsDownComesFirst) {
  StatusSnapshot status = Flowing();
  status.sinks[1].state = "retrying";
  status.sinks[1].last_error = "connection refused";
  status.sinks[1].lag_rows = 16240;
  EXPECT_EQ(RenderStatusSentence(status),
            "Redis sink 'live' is down: connection refused. 16,240 rows wait.");
  EXPECT_NE(RenderStatusText(status).find("\nLast errors\nsink live: connection refused\n"),
            std::string::npos);
  status.sinks[0].state = "stopped";
  EXPECT_EQ(
      RenderStatusSentence(status),
      "ClickHouse sink 'warehouse' has stopped. No row waits. 1 more sink is down, see below.");
  status.sinks[0].state = "parked";
  EXPECT_EQ(RenderStatusSentence(status),
            "ClickHouse sink 'warehouse' is parked: it gave up its backlog; run `millrace replay "
            "--sink warehouse`. 1 more sink is down, see below.");
}

TEST(StatusText, EveryStateHasItsSentence) {
  const auto sentence = [](auto change) {
    StatusSnapshot status = Flowing();
    change(status);
    return RenderStatusSentence(status);
  };
  EXPECT_EQ(sentence([](StatusSnapshot& s) {
              s.source.connected = false;
              s.source.last_error = "connect to db: timeout";
            }),
            "The source is down: connect to db: timeout. Nothing is read until it is back.");
  EXPECT_EQ(sentence([](StatusSnapshot& s) {
              s.state = "snapshot";
              s.source.snapshot_rows = 12'000;
              s.source.snapshot_rows_per_second = 1'204;
            }),
            "Reading the tables: 12,000 rows so far, 1,204 rows/s.");
  EXPECT_EQ(sentence([](StatusSnapshot& s) {
              s.source.snapshot = "running";
              s.source.snapshot_rows = 12'000;
              s.source.snapshot_rows_per_second = 1'204;
              s.source.snapshot_seconds_left = 61;
            }),
            "Reading the tables: 12,000 rows so far, 1,204 rows/s, about 1 min 1 s left.");
  EXPECT_EQ(sentence([](StatusSnapshot& s) {
              s.state = "catching_up";
              s.source.lag_bytes = 13'000'000;
              s.source.lag_seconds = 250;
            }),
            "Catching up: 12.4 MiB of WAL and 4 min 10 s behind, 1,204 changes/s.");
  EXPECT_EQ(sentence([](StatusSnapshot& s) {
              s.state = "starting";
              s.ready = false;
              s.not_ready_reason = "The source is being connected.";
            }),
            "Starting: The source is being connected.");
  EXPECT_EQ(sentence([](StatusSnapshot& s) {
              s.ready = false;
              s.not_ready_reason = "No heartbeat came back for 31 s.";
            }),
            "Not ready: No heartbeat came back for 31 s.");
  EXPECT_EQ(sentence([](StatusSnapshot& s) { s.state = "stopping"; }),
            "Stopping: what is accepted is being delivered.");
  EXPECT_EQ(sentence([](StatusSnapshot& s) {
              s.source.rows_per_second = 0;
              s.sinks[0].rows_per_second = 0;
              s.sinks[1].rows_per_second = 0;
              s.streams[0].dead_letters = 1;
            }),
            "Idle: everything is delivered, waiting for changes. 1 row in the dead letter queue.");
  EXPECT_EQ(RenderStatusSentence({}), "Starting.");
}

TEST(StatusText, PeersCannotMoveTheCursor) {
  StatusSnapshot status = Flowing();
  status.sinks[0].state = "retrying";
  status.sinks[0].last_error = "bad\x1b[2J\nline" + std::string(200, 'x');
  const std::string text = RenderStatusText(status);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_NE(text.find("sink warehouse: bad\\x1b[2J line"), std::string::npos);
  EXPECT_NE(text.find("xxx.... No row waits.\n"), std::string::npos);
}

TEST(StatusText, Numbers) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
  EXPECT_EQ(FormatCount(UINT64_MAX), "18,446,744,073,709,551,615");
  EXPECT_EQ(FormatByteSize(1023), "1023 B");
  EXPECT_EQ(FormatByteSize(1024), "1.0 KiB");
  EXPECT_EQ(FormatByteSize((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(FormatByteSize(UINT64_MAX), "16777216.0 TiB");
  EXPECT_EQ(FormatSeconds(-1), "0.0 s");
  EXPECT_EQ(FormatSeconds(59.94), "59.9 s");
  EXPECT_EQ(FormatSeconds(59.96), "1 min 0 s");
  EXPECT_EQ(FormatSeconds(3600 * 3 + 12 * 60), "3 h 12 min");
  EXPECT_EQ(FormatSeconds(86400 * 2 + 3600 * 3), "2 d 3 h");
}

}  // namespace
}  // namespace millrace::admin
