// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace millrace::sources::postgres {

enum class SnapshotMode {
  kInitial,     // read each table once
  kNever,       // changes from here on only
  kWhenNeeded,  // and again after the slot was lost
};

enum class OnSlotLost { kStop, kSnapshot };

// The `source` section of the configuration file. Plain data, checked by the reader of the file.
struct PostgresSourceConfig {
  // Any libpq URI or connection string. Holds a password: never printed.
  std::string url;
  // Where heartbeats are written, and the publication is made; empty: `url`. The primary, if `url`
  // is a standby.
  std::string heartbeat_url;
  // `schema.table`, quoted where PostgreSQL would need it; `*` stands for any run of characters; a
  // bare name is in schema public.
  std::vector<std::string> tables;
  // Tables that come while it runs are taken in, where a pattern matches them.
  bool discover = false;
  // Full names of tables that streams read: one of these that is dropped is waited for.
  std::set<std::string> stream_tables;
  std::string slot;
  std::string publication;
  bool manage_publication = true;
  // Event triggers are installed, and their messages followed.
  bool capture_ddl = false;
  SnapshotMode snapshot_mode = SnapshotMode::kInitial;
  // Connections that read tables at the same time, and rows of a chunk.
  int snapshot_parallelism = 1;
  uint64_t snapshot_chunk_rows = 50'000;
  // Zero: none are written.
  std::chrono::milliseconds heartbeat_interval{10'000};
  OnSlotLost on_slot_lost = OnSlotLost::kStop;
  // Where what does not fit in memory waits: large transactions, tables read whole. Made if it is
  // missing, and emptied at every start.
  std::string staging_directory;
  // The open batch takes no further transaction once it has so many rows or bytes.
  size_t batch_rows_max = 16'384;
  size_t batch_bytes_max = size_t{8} << 20;

  // Publishes inserts and truncates of tables whose updates must stay possible without an identity.
  std::string InsertsPublication() const { return publication + "_inserts"; }
};

}  // namespace millrace::sources::postgres
