// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "millrace/common/mutex.h"
#include "millrace/model/position.h"

namespace millrace::pipeline {

// One state of a running pipeline, for /api/v1/status, /readyz and `millrace status`: a plain value
// that takes no lock of the engine. The JSON has the same names.
struct StatusSnapshot {
  // How far a table has been read beside the stream.
  struct Reading {
    std::string name;
    std::string state;  // "waiting", "reading", "done"
    uint64_t rows = 0;
    uint64_t rows_estimated = 0;  // in all, as the server guesses; 0: it does not know
  };
  struct Source {
    std::string slot;
    bool connected = false;
    Lsn confirmed_lsn;
    Lsn received_lsn;
    uint64_t lag_bytes = 0;  // WAL between the server's newest and the confirmed position
    double lag_seconds = 0;  // age of the oldest transaction that is not durable here
    uint64_t retained_wal_bytes = 0;
    std::string wal_status;  // of the slot, the server's word: reserved, extended, unreserved, lost
    std::string snapshot;    // "running", "done"
    uint64_t snapshot_rows = 0;  // since the start of this process
    double snapshot_rows_per_second = 0;
    std::optional<double> snapshot_seconds_left;  // as far as the server can guess
    std::vector<Reading> tables;
    double rows_per_second = 0;  // changes read, over the last seconds
    std::string last_error;
    // Tables whose changes are left out: the name, and one sentence.
    struct PausedTable {
      std::string table;
      std::string reason;
    };
    std::vector<PausedTable> paused_tables;
    // That patterns match and that are not taken in, or that streams wait for.
    std::vector<PausedTable> left_out_tables;
  };
  struct Stream {
    std::string name;
    uint64_t rows = 0;  // outputs since data_dir was made
    uint64_t dead_letters = 0;
    uint64_t state_bytes = 0;
  };
  struct Sink {
    std::string name;
    std::string type;
    std::string state;           // "connecting", "flowing", "idle", "retrying", "stopped"
    uint64_t rows = 0;           // delivered since the start of this process
    double rows_per_second = 0;  // delivered, over the last seconds
    uint64_t lag_rows = 0;
    double lag_seconds = 0;
    std::string last_error;
  };

  std::string pipeline;
  std::string state;             // "starting", "snapshot", "catching_up", "streaming", "stopping"
  bool ready = false;            // DESIGN: changes really flow
  std::string not_ready_reason;  // one sentence when not ready
  uint64_t output_log_bytes = 0;
  Source source;
  std::vector<Stream> streams;
  std::vector<Sink> sinks;
  // Set by StatusBoard: an old one tells that the pipeline no longer answers.
  std::chrono::steady_clock::time_point published_at{};
};

// Where the pipeline publishes its newest snapshot, at least once in 10 s. Threads: any.
class StatusBoard {
 public:
  void Publish(StatusSnapshot snapshot) {
    snapshot.published_at = std::chrono::steady_clock::now();
    auto next = std::make_shared<const StatusSnapshot>(std::move(snapshot));
    MutexLock lock(mu_);
    current_ = std::move(next);
  }
  // Never null.
  std::shared_ptr<const StatusSnapshot> Read() const {
    MutexLock lock(mu_);
    return current_;
  }

 private:
  mutable Mutex mu_;
  // Guarded by mu_.
  std::shared_ptr<const StatusSnapshot> current_ MR_GUARDED_BY(mu_) =
      std::make_shared<const StatusSnapshot>();
};

}  // namespace millrace::pipeline
