// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/replication_stream.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "millrace/clients/postgres/quoting.h"
#include "millrace/common/coding.h"
#include "millrace/common/failpoint.h"

namespace millrace::sources::postgres {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Offset of the payload in an XLogData: type byte, start, end, clock.
constexpr size_t kXLogDataHeader = 25;
constexpr size_t kXLogDataClock = 17;
// Type byte, end, clock, reply wanted.
constexpr size_t kKeepAliveSize = 18;
// One Poll() reads no more than this, so that its caller gets a turn.
constexpr size_t kPollBytesMax = size_t{4} << 20;
constexpr seconds kFeedbackIntervalMax{10};
// How long a server may be silent that was asked for an answer, whatever its wal_sender_timeout.
constexpr seconds kSilenceMin{5};
constexpr seconds kSilenceMax{60};
// A position that grows is told no more often than this, but for a server that waits.
constexpr milliseconds kFeedbackIntervalMin{10};
// How long a wanted reply waits for what is under way to become durable.
constexpr milliseconds kReplyWaitMax{200};
constexpr seconds kIdlePositionInterval{1};
// The callbacks of an output plugin for transactions that are open, as the server names them in the
// context of an error (logical.c, output_plugin_error_callback()).
constexpr std::string_view kOpenCallbacks = ", in the stream_";
constexpr TimestampMicros kPostgresEpoch = 946'684'800'000'000;

TimestampMicros WallMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// wal_sender_timeout in milliseconds; zero: none.
Result<milliseconds> ReadSenderTimeout(pg::Connection& connection) {
  MR_ASSIGN_OR_RETURN(
      const pg::QueryResult row,
      connection.Exec("SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'"));
  int64_t value = 0;
  if (row.row_count() == 1) {
    const std::string_view text = row.Text(0, 0);
    std::from_chars(text.data(), text.data() + text.size(), value);
  }
  return milliseconds(value);
}

// The newest protocol that a server speaks: 14 has 2, 15 has 3, 16 and later have 4.
int ProtocolVersion(int server_version) {
  const int major = server_version / 10'000;
  return std::clamp(major - 12, 1, 4);
}

// streaming 'on' and not 'parallel', which 16 and later have too: both send the same changes in the
// same order, and 'parallel' adds to a Stream Abort where and when that was, of which nothing here
// depends. What is aborted leaves no trace in positions, ordinals or times.
std::string StartCommand(const StreamOptions& options, int server_version, Lsn start) {
  std::string names;
  for (const std::string& name : options.publications) {
    names += (names.empty() ? "" : ",") + pg::QuoteIdentifier(name);
  }
  // A replication command knows no E'' strings: quotes are doubled and that is all.
  std::string literal = "'";
  for (const char c : names) {
    literal.append(c == '\'' ? 2 : 1, c);
  }
  literal += "'";
  const int protocol = ProtocolVersion(server_version);
  return fmt::format(
      "START_REPLICATION SLOT {} LOGICAL {} (proto_version '{}', publication_names {}, messages "
      "'true'{})",
      pg::QuoteIdentifier(options.slot), FormatLsn(start), protocol, literal,
      protocol >= 2 && options.streams_open_transactions ? ", streaming 'on'" : "");
}

}  // namespace

ReplicationStream::ReplicationStream(StreamOptions options, TransactionReader& reader)
    : options_(std::move(options)), reader_(reader) {}

Status ReplicationStream::Start(std::unique_ptr<pg::Connection> connection, SourcePosition start,
                                Lsn confirmed) {
  MR_ASSIGN_OR_RETURN(const milliseconds timeout, ReadSenderTimeout(*connection));
  feedback_interval_ = kFeedbackIntervalMax;
  if (timeout > milliseconds(0)) {
    feedback_interval_ = std::min<Clock::duration>(feedback_interval_, timeout / 3);
  }
  silence_max_ = timeout > milliseconds(0)
                     ? std::clamp<Clock::duration>(timeout, kSilenceMin, kSilenceMax)
                     : kSilenceMax;
  last_heard_ = Clock::now();
  connection_ = std::move(connection);
  MR_RETURN_IF_ERROR(reader_.StartStream(start));
  heartbeats_ = reader_.heartbeats();
  received_ = taken_ = keepalive_end_ = start.end_lsn;
  has_pending_since_ = false;
  reply_wanted_ = false;
  confirmed_.store(std::max(confirmed.value(), confirmed_.load()), std::memory_order_release);
  sent_flush_ = this->confirmed();
  MR_RETURN_IF_ERROR(
      connection_
          ->StartCopyBoth(StartCommand(options_, connection_->server_version(), start.end_lsn))
          .WithContext(fmt::format("start replication from slot '{}' at {}", options_.slot,
                                   FormatLsn(start.end_lsn))));
  return SendFeedback(Clock::now(), true);
}

void ReplicationStream::Confirm(Lsn durable) {
  uint64_t current = confirmed_.load(std::memory_order_relaxed);
  while (current < durable.value() &&
         !confirmed_.compare_exchange_weak(current, durable.value(), std::memory_order_release)) {
  }
}

bool ReplicationStream::IsQuiet() const {
  // A transaction that is open between its stream blocks holds no position back: it commits beyond
  // everything that the server has sent, and would come again from its first change.
  return !reader_.is_within() && !reader_.has_large() && !reader_.can_take() &&
         taken_ <= confirmed();
}

std::optional<Lsn> ReplicationStream::idle_position() const {
  const Lsn end = std::max(reader_.end_lsn(), keepalive_end_);
  if (!IsQuiet() || end <= taken_) {
    return std::nullopt;
  }
  if (!reply_wanted_ && Clock::now() - last_idle_position_ < kIdlePositionInterval) {
    return std::nullopt;
  }
  return end;
}

void ReplicationStream::Taken(Lsn end) {
  if (!reader_.can_take()) {
    has_pending_since_ = false;
  }
  last_idle_position_ = Clock::now();
  taken_ = std::max(taken_, end);
}

Status ReplicationStream::Poll(milliseconds wait) {
  MR_RETURN_IF_ERROR(SendFeedbackIfDue());
  const Clock::time_point deadline = Clock::now() + wait;
  drained_bytes_ = 0;
  if (reader_.has_large() && !reader_.can_take()) {
    MR_RETURN_IF_ERROR(reader_.DecodePart());
    NotePending();
  }
  if (reader_.is_full()) {
    last_heard_ = Clock::now();
  }
  while (!reader_.is_full() && drained_bytes_ < kPollBytesMax) {
    MR_ASSIGN_OR_RETURN(const bool had_messages, DrainMessages());
    if (reader_.is_full() || drained_bytes_ >= kPollBytesMax) {
      break;
    }
    const Clock::time_point now = Clock::now();
    milliseconds slice(0);
    if (!had_messages && drained_bytes_ == 0) {
      const Clock::time_point until = std::min(deadline, FeedbackDue());
      slice = std::max(milliseconds(0), std::chrono::ceil<milliseconds>(until - now));
    }
    MR_ASSIGN_OR_RETURN(const bool has_bytes, connection_->WaitReadable(slice));
    if (!has_bytes && Clock::now() - last_heard_ > silence_max_) {
      return Unavailable(fmt::format("the server has sent nothing for {} s, though it was asked",
                                     std::chrono::ceil<seconds>(silence_max_).count()));
    }
    if (!has_bytes && (drained_bytes_ != 0 || Clock::now() >= deadline)) {
      break;
    }
    if (!has_bytes) {
      MR_RETURN_IF_ERROR(SendFeedbackIfDue());
    }
  }
  return SendFeedbackIfDue();
}

Status ReplicationStream::KeepAlive() {
  last_heard_ = Clock::now();
  return SendFeedbackIfDue();
}

Result<bool> ReplicationStream::DrainMessages() {
  bool had_messages = false;
  while (!reader_.is_full() && drained_bytes_ < kPollBytesMax) {
    const pg::CopyRead read = connection_->TryReadCopy();
    if (read.state == pg::CopyState::kNothingYet) {
      break;
    }
    if (read.state == pg::CopyState::kEnd) {
      const Status ended =
          connection_->FinishCopy().WithContext(fmt::format("read from slot '{}'", options_.slot));
      failed_within_open_ =
          !ended.ok() && connection_->failure_context().find(kOpenCallbacks) != std::string::npos;
      if (ended.code() == Code::kFailedPrecondition) {
        return Unavailable(ended.message());  // the next start finds out what became of the slot
      }
      MR_RETURN_IF_ERROR(ended);
      return Unavailable(
          fmt::format("the server ended the replication of slot '{}' (it stops)", options_.slot));
    }
    had_messages = true;
    drained_bytes_ += read.bytes.size();
    MR_RETURN_IF_ERROR(HandleMessage(read.bytes));
    connection_->DropMessage();  // a large one is staged in its file
  }
  if (had_messages) {
    NotePending();
  }
  if (had_messages) {
    last_heard_ = Clock::now();
  }
  return had_messages;
}

void ReplicationStream::NotePending() {
  if (!has_pending_since_ && reader_.can_take()) {
    has_pending_since_ = true;
    pending_since_ = Clock::now();
  }
}

void ReplicationStream::NoteHeartbeat(TimestampMicros sent_at) {
  heartbeats_ = reader_.heartbeats();
  // Both clocks are the server's.
  if (sent_at - reader_.last_commit_ts() <=
      std::chrono::microseconds(options_.heartbeat_age_max).count()) {
    heartbeat_seen_ = Clock::now();
  }
}

Status ReplicationStream::HandleMessage(std::string_view message) {
  if (message.front() == 'w' && message.size() > kXLogDataHeader) [[likely]] {
    received_ = std::max(received_, Lsn(LoadBigEndian<uint64_t>(message.data() + 1)));
    MR_RETURN_IF_ERROR(reader_.Decode(message.substr(kXLogDataHeader)));
    if (reader_.heartbeats() != heartbeats_) [[unlikely]] {
      NoteHeartbeat(kPostgresEpoch + static_cast<TimestampMicros>(
                                         LoadBigEndian<uint64_t>(message.data() + kXLogDataClock)));
    }
    return Status::Ok();
  }
  if (message.front() == 'k' && message.size() == kKeepAliveSize) {
    return HandleKeepAlive(message.substr(1));
  }
  return Corruption("a replication message of unknown form");
}

Status ReplicationStream::HandleKeepAlive(std::string_view body) {
  const Lsn end(LoadBigEndian<uint64_t>(body.data()));
  keepalive_seen_ = Clock::now();
  received_ = std::max(received_, end);
  // Within a transaction or a stream block a keep-alive can stand ahead of what it has still to
  // send.
  if (!reader_.is_within()) {
    keepalive_end_ = std::max(keepalive_end_, end);
  }
  if (body[16] != 0 && !reply_wanted_) {
    reply_wanted_ = true;
    reply_wanted_since_ = *keepalive_seen_;
  }
  return Status::Ok();
}

ReplicationStream::Clock::time_point ReplicationStream::FeedbackDue() const {
  Clock::time_point due = last_feedback_ + feedback_interval_;
  if (confirmed() > sent_flush_) {
    due = std::min(due, last_feedback_ + kFeedbackIntervalMin);
  }
  if (reply_wanted_) {
    // With everything durable at once. Otherwise a moment later: a server that shuts down asks
    // again as soon as it has an answer that does not cover what it sent.
    const bool covers_all = IsQuiet() && std::max(reader_.end_lsn(), keepalive_end_) <= confirmed();
    due = std::min(due, covers_all ? reply_wanted_since_ : reply_wanted_since_ + kReplyWaitMax);
  }
  return due;
}

Status ReplicationStream::SendFeedbackIfDue() {
  const Clock::time_point now = Clock::now();
  if (now < FeedbackDue()) {
    return Status::Ok();
  }
  // By time alone: the server's answer shows that it lives, and how far its WAL goes.
  return SendFeedback(now, now >= last_feedback_ + feedback_interval_);
}

Status ReplicationStream::SendFeedback(Clock::time_point now, bool asks_for_reply) {
  const Lsn flush = std::max(sent_flush_, confirmed());
  if (flush > sent_flush_) {
    MR_FAILPOINT("source.before_confirm");
  }
  std::string message = "r";
  for (int i = 0; i < 3; ++i) {  // written, flushed, applied
    AppendBigEndian(message, flush.value());
  }
  AppendBigEndian(message, static_cast<uint64_t>(WallMicros() - kPostgresEpoch));
  message.push_back(asks_for_reply ? 1 : 0);
  MR_RETURN_IF_ERROR(connection_->WriteCopy(message));
  sent_flush_ = flush;
  last_feedback_ = now;
  reply_wanted_ = false;
  return Status::Ok();
}

void ReplicationStream::Stop() {
  if (connection_ == nullptr) {
    return;
  }
  // Without the end of the copy, bytes that we have not read would make our close a reset, and the
  // server would not see the feedback.
  if (SendFeedback(Clock::now(), false).ok() && connection_->EndCopyBoth().ok()) {
    const Clock::time_point deadline = Clock::now() + seconds(1);
    while (Clock::now() < deadline) {
      const pg::CopyRead read = connection_->TryReadCopy();
      if (read.state == pg::CopyState::kEnd) {
        break;
      }
      if (read.state == pg::CopyState::kNothingYet &&
          !connection_->WaitReadable(milliseconds(50)).ok()) {
        break;
      }
    }
  }
  connection_.reset();
}

}  // namespace millrace::sources::postgres
