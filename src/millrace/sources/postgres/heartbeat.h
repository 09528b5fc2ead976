// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/mutex.h"
#include "millrace/model/lsn.h"
#include "millrace/telemetry/log.h"

namespace millrace::sources::postgres {

// Heartbeat writes a transactional logical message at every interval, which comes back through the
// slot: it shows that changes really flow, and moves the slot of an idle database on. It also asks
// the server how far its WAL goes and how much of it the slot holds.
//
// Failures are logged and shown, and it tries again at the next interval: they stop nothing.
//
// Threads: one of its own, mr-heartbeat, from the constructor to the destructor; it blocks on its
// own connection (bounded, ended by a stop) and on the interval. The methods: any thread.
class Heartbeat {
 public:
  struct Options {
    std::string url;
    std::string slot;
    // Zero: no messages; the server is asked all the same.
    std::chrono::milliseconds interval{0};
  };
  struct Reading {
    Lsn server_lsn;
    uint64_t retained_wal_bytes = 0;
    std::string last_error;  // of the newest try; empty: none
  };

  Heartbeat(Options options, telemetry::Logger log);
  ~Heartbeat();

  // Messages are written from here on; before, the stream does not read.
  void StartMessages();
  // One is written at once, also where the interval is zero: what a snapshot waits for in the WAL
  // is then flushed and passed by the stream.
  void BeatNow();
  Reading reading() const;

 private:
  void Run(std::stop_token stop);
  Status Beat(const std::stop_token& stop);

  // Constant after construction.
  const Options options_;
  const telemetry::Logger log_;

  // Used by mr-heartbeat only.
  std::unique_ptr<pg::Connection> connection_;

  std::atomic<bool> writes_messages_{false};
  mutable Mutex mu_;
  CondVar wake_;
  // Guarded by mu_.
  Reading reading_ MR_GUARDED_BY(mu_);
  bool wakes_early_ MR_GUARDED_BY(mu_) = false;
  bool is_wanted_ MR_GUARDED_BY(mu_) = false;

  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace millrace::sources::postgres
