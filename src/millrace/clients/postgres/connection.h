// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"

namespace millrace::pg {

struct ConnectOptions {
  // A walsender for logical replication; it takes SQL too.
  bool replication = false;
  std::string application_name;
  // The server gives a statement up after this; zero: never.
  std::chrono::milliseconds statement_timeout{0};
  // The server gives up waiting for a lock after this; zero: never.
  std::chrono::milliseconds lock_timeout{0};
  // How long Exec() waits for an answer if it is not told.
  std::chrono::milliseconds answer_wait{30'000};
};

// The rows of a statement, as text. Views live as long as the QueryResult.
class QueryResult {
 public:
  class Rep;
  explicit QueryResult(std::unique_ptr<Rep> rep);
  QueryResult(QueryResult&&) noexcept;
  QueryResult& operator=(QueryResult&&) noexcept;
  ~QueryResult();

  size_t row_count() const;
  size_t column_count() const;
  bool IsNull(size_t row, size_t column) const;
  // Empty for a NULL. REQUIRES: row and column are in range.
  std::string_view Text(size_t row, size_t column) const;

 private:
  std::unique_ptr<Rep> rep_;
};

enum class CopyState {
  kMessage,     // `bytes` is the next message
  kNothingYet,  // the server has not sent more
  kEnd,         // the server ended the copy; FinishCopy() says how
};

// A message of a COPY; `bytes` is valid until the next call on the connection.
struct CopyRead {
  CopyState state = CopyState::kNothingYet;
  std::string_view bytes;
};

// Connection is one PostgreSQL session with pinned settings, whatever role and database set: UTF8
// (the bytes as they are where the database has encoding SQL_ASCII), time zone UTC, ISO dates, ISO
// 8601 intervals, exact floats, hexadecimal bytea, empty search_path, synchronous_commit local, row
// security off (rows that a policy hides are an error, never silently absent), transactions that
// may write, no idle timeouts.
// A URL that says nothing of timeouts gets: connect_timeout 8 s, TCP keep-alives after 10 s and
// tcp_user_timeout 30 s, so that a peer which vanished is seen.
//
// Lifecycle: Connect(), then statements, or one copy at a time: StartCopyOut() or StartCopyBoth(),
// TryReadCopy()/WaitReadable() until kEnd, FinishCopy(). After a failure of kUnavailable or
// kTimedOut the connection is of no further use.
//
// Threads: one at a time. Waits end soon after `stop` (given to Connect()) is requested, with
// kCancelled.
//
// Errors: by SQLSTATE, see error.h. Messages hold host, port and database, never the URL.
class Connection {
 public:
  static Result<std::unique_ptr<Connection>> Connect(const std::string& url,
                                                     const ConnectOptions& options,
                                                     std::stop_token stop = {});
  // The database of `url`, without connecting; "" if the URL leaves it to the environment.
  // kInvalidArgument if libpq cannot read the URL.
  static Result<std::string> DatabaseOf(const std::string& url);

  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  // 150004 for 15.4.
  int server_version() const;
  // The server's process of this connection.
  int backend_pid() const;
  // "host:port/database", for messages.
  const std::string& peer() const { return peer_; }
  std::string Database() const;
  // A parameter that the server reports, such as server_encoding; empty if it does not.
  std::string_view ServerParameter(const char* name) const;

  // A transaction is open, or has failed and was not rolled back.
  bool InTransaction() const;

  // Runs one simple query, which may hold several statements, and returns the rows of the last.
  // kTimedOut if the server does not answer within `wait`; its outcome is then unknown.
  Result<QueryResult> Exec(const std::string& sql,
                           std::optional<std::chrono::milliseconds> wait = std::nullopt);

  // Sends a statement without waiting; then TryFinish() until it is done.
  Status Send(const std::string& sql);
  // Whether the answer is there; waits for it up to `wait`.
  Result<bool> WaitAnswer(std::chrono::milliseconds wait);
  // The rows of the last statement sent. REQUIRES: WaitAnswer() gave true.
  Result<QueryResult> TakeAnswer();
  // Asks the server to cancel what runs.
  void Cancel();

  // `sql` is COPY ... TO STDOUT.
  Status StartCopyOut(const std::string& sql);
  // `command` is START_REPLICATION ....
  Status StartCopyBoth(const std::string& command);

  // The next message that has arrived. Never blocks. A broken connection is kEnd.
  CopyRead TryReadCopy();
  // Gives back the memory of the message that TryReadCopy() gave last, before the next call does.
  void DropMessage();
  // Waits up to `wait` until bytes arrive or the connection breaks, and reads them. False if none
  // came.
  Result<bool> WaitReadable(std::chrono::milliseconds wait);
  // Writes a message of a COPY BOTH. Does not wait for the server to take it.
  Status WriteCopy(std::string_view bytes);
  // Ends our side of a COPY BOTH.
  Status EndCopyBoth();
  // After kEnd: OK if the server ended the copy itself, else why.
  Status FinishCopy();
  // Where in the server the failure of the last statement or copy occurred, as it says; "": nothing
  // said.
  const std::string& failure_context() const;

 private:
  struct Rep;
  explicit Connection(std::unique_ptr<Rep> rep);

  Status Configure(const ConnectOptions& options);
  // `what` failed on the connection itself.
  Status ConnectionFailure(std::string_view what) const;
  Status StartCopy(const std::string& sql, bool both);

  // Constant after Connect().
  std::unique_ptr<Rep> rep_;
  std::chrono::milliseconds answer_wait_{0};
  std::string peer_;
};

}  // namespace millrace::pg
