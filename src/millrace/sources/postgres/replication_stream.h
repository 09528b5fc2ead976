// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"
#include "millrace/model/position.h"
#include "millrace/sources/postgres/transaction_reader.h"

namespace millrace::sources::postgres {

struct StreamOptions {
  std::string slot;
  std::vector<std::string> publications;
  // A heartbeat that was older than this when the server sent it shows that we lag, not that
  // changes flow.
  std::chrono::milliseconds heartbeat_age_max{30'000};
  // Transactions are sent in blocks while they are open; otherwise once they have committed.
  bool streams_open_transactions = true;
};

// ReplicationStream is the walsender protocol over one connection: it feeds the reader, answers
// keep-alives, and tells the server what it may forget.
//
// What is confirmed is only ever what Confirm() was given: never a keep-alive's position, and never
// less than before. Where nothing of ours is under way, a keep-alive's position becomes a position
// without rows (see idle_position()), which comes back through Confirm() once it is durable.
//
// Lifecycle: Start(), then Poll() any number of times, then Stop().
//
// Threads: one; Confirm() from any.
//
// Errors: kUnavailable when the connection breaks, the server stops or refuses to go on, or nothing
// comes from it for wal_sender_timeout (5 to 60 s) though it was asked; the reader's otherwise.
class ReplicationStream {
 public:
  using Clock = std::chrono::steady_clock;

  // `reader` outlives the stream.
  ReplicationStream(StreamOptions options, TransactionReader& reader);

  // Takes a replication connection and begins at `start`. `confirmed` is durable already.
  Status Start(std::unique_ptr<pg::Connection> connection, SourcePosition start, Lsn confirmed);

  // Reads what has arrived, waiting up to `wait` for something, until the batch is full, nothing
  // more is there, or a few MiB were read. With a full batch it reads nothing and does not wait; of
  // a large transaction it makes the next part, a few MiB at a time. Feedback goes out by time in
  // every case.
  Status Poll(std::chrono::milliseconds wait);
  // Reads nothing; feedback goes out by time.
  Status KeepAlive();

  void Confirm(Lsn durable);
  Lsn confirmed() const { return Lsn(confirmed_.load(std::memory_order_acquire)); }

  // A position beyond everything that was taken, with nothing under way before it; at most one a
  // second, and at once when the server waits for it.
  std::optional<Lsn> idle_position() const;
  // Everything before it has been decoded.
  Lsn decoded_end() const { return std::max(reader_.end_lsn(), keepalive_end_); }
  // The pending batch, or a position, was handed over; it ends at `end`.
  void Taken(Lsn end);
  // The end of the newest that was.
  Lsn taken() const { return taken_; }

  // When the oldest pending row was read. REQUIRES: the reader has a batch.
  Clock::time_point pending_since() const { return pending_since_; }
  Lsn received() const { return received_; }
  std::optional<Clock::time_point> keepalive_seen() const { return keepalive_seen_; }
  // When a heartbeat came back in time.
  std::optional<Clock::time_point> heartbeat_seen() const { return heartbeat_seen_; }

  // The server failed while it sent changes of a transaction that is open: it would fail again.
  bool failed_within_open() const { return failed_within_open_; }

  // Tells the server the last confirmed position, ends the copy (within a second) and disconnects.
  void Stop();

 private:
  // Everything handed over is confirmed, and nothing of ours is half read.
  bool IsQuiet() const;
  // Messages that libpq holds. True if there was one.
  Result<bool> DrainMessages();
  void NotePending();
  Status HandleMessage(std::string_view message);
  void NoteHeartbeat(TimestampMicros sent_at);
  Status HandleKeepAlive(std::string_view body);
  Status SendFeedbackIfDue();
  Status SendFeedback(Clock::time_point now, bool asks_for_reply);
  Clock::time_point FeedbackDue() const;

  // Constant after construction.
  const StreamOptions options_;
  TransactionReader& reader_;

  std::unique_ptr<pg::Connection> connection_;
  Clock::duration feedback_interval_{};
  Clock::duration silence_max_{};
  Clock::time_point last_heard_;  // or when we did not listen
  Lsn received_;
  Lsn taken_;       // the end of the newest batch or position handed over
  Lsn sent_flush_;  // what the server was told last
  Lsn keepalive_end_;
  bool reply_wanted_ = false;
  bool failed_within_open_ = false;
  Clock::time_point reply_wanted_since_;
  Clock::time_point last_feedback_;
  Clock::time_point last_idle_position_;
  Clock::time_point pending_since_;
  bool has_pending_since_ = false;
  size_t drained_bytes_ = 0;
  uint64_t heartbeats_ = 0;
  std::optional<Clock::time_point> keepalive_seen_;
  std::optional<Clock::time_point> heartbeat_seen_;

  std::atomic<uint64_t> confirmed_{0};
};

}  // namespace millrace::sources::postgres
