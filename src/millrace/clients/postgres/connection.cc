// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/postgres/connection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include <fmt/format.h>
#include <libpq-fe.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "millrace/clients/postgres/error.h"
#include "millrace/clients/postgres/quoting.h"

namespace millrace::pg {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// A wait looks at the stop token this often.
constexpr milliseconds kStopCheckInterval{100};
constexpr milliseconds kConnectTimeout{8'000};
constexpr milliseconds kFinishCopyWait{5'000};
// Extra reads that make libpq's input buffer double, from 16 KiB to at most 512 KiB.
constexpr int kBufferGrowthsMax = 5;

struct ResultDeleter {
  void operator()(PGresult* result) const { PQclear(result); }
};
using ResultPtr = std::unique_ptr<PGresult, ResultDeleter>;

// libpq's messages are paragraphs: the first line is the cause.
std::string_view FirstLine(std::string_view text) {
  const size_t end = text.find('\n');
  return end == std::string_view::npos ? text : text.substr(0, end);
}

bool IsSqlState(std::string_view text) {
  return text.size() == 5 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
         });
}

struct ConnectError {
  std::string sqlstate;
  std::string cause;
};

// Takes "connection to server at ... failed: FATAL:  28P01: password ..." apart. The state stands
// in it because the verbosity asks for it; libpq gives it no other way before the session is up.
ConnectError ParseConnectError(std::string_view message) {
  std::string_view line = FirstLine(message);
  if (const size_t failed = line.find(" failed: "); failed != std::string_view::npos) {
    line = line.substr(failed + 9);
  }
  for (size_t at = line.find(":  "); at != std::string_view::npos; at = line.find(":  ", at + 1)) {
    const std::string_view state = line.substr(at + 3, 5);
    if (IsSqlState(state) && line.substr(at + 8, 2) == ": ") {
      return {std::string(state), std::string(line.substr(at + 10))};
    }
  }
  return {"", std::string(line)};
}

// libpq refuses an option of the URL, which another try would not mend.
bool IsWrongOption(std::string_view cause) {
  return cause.starts_with("invalid port number") ||
         (cause.starts_with("invalid ") && cause.find(" value") != std::string_view::npos);
}

// What a URL says, with libpq's rules.
struct UrlParts {
  std::string host;
  std::string port;
  std::string database;
  milliseconds connect_timeout = kConnectTimeout;
};

Result<UrlParts> ParseUrl(const std::string& url) {
  char* error = nullptr;
  PQconninfoOption* options = PQconninfoParse(url.c_str(), &error);
  if (options == nullptr) {
    // libpq's own text quotes the URL, and with it the password.
    PQfreemem(error);
    return InvalidArgument(
        "the PostgreSQL URL cannot be read: write postgresql://user:password@host:port/database, "
        "with special characters percent-encoded");
  }
  UrlParts parts;
  int seconds = 0;
  for (const PQconninfoOption* option = options; option->keyword != nullptr; ++option) {
    if (option->val == nullptr) {
      continue;
    }
    const std::string_view keyword = option->keyword;
    const std::string_view value = option->val;
    if (keyword == "host" || (keyword == "hostaddr" && parts.host.empty())) {
      parts.host = value;
    } else if (keyword == "port") {
      parts.port = value;
    } else if (keyword == "dbname") {
      parts.database = value;
    } else if (keyword == "connect_timeout" &&
               std::from_chars(value.data(), value.data() + value.size(), seconds).ec ==
                   std::errc()) {
      // As libpq: zero and less wait for ever, one second is two.
      parts.connect_timeout =
          seconds <= 0 ? milliseconds::max() : milliseconds(1000) * std::max(seconds, 2);
    }
  }
  PQconninfoFree(options);
  if (parts.connect_timeout != milliseconds::max()) {
    parts.connect_timeout *= 1 + std::count(parts.host.begin(), parts.host.end(), ',');
  }
  return parts;
}

std::string PeerName(const UrlParts& parts) {
  return fmt::format("{}:{}/{}", parts.host.empty() ? "local" : parts.host,
                     parts.port.empty() ? "5432" : parts.port, parts.database);
}

// Waits until `fd` has one of `events`. False at the deadline.
Result<bool> PollSocket(int fd, short events, Clock::time_point deadline,
                        const std::stop_token& stop) {
  for (;;) {
    if (stop.stop_requested()) {
      return Cancelled("a stop was requested");
    }
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    const auto slice = std::clamp(left, milliseconds(0), kStopCheckInterval);
    pollfd entry{fd, events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(slice.count()));
    if (ready > 0) {
      return true;
    }
    if (ready < 0 && errno != EINTR) {
      return Unavailable(fmt::format("poll of the connection's socket failed: errno {}", errno));
    }
    if (left <= milliseconds(0)) {
      return false;
    }
  }
}

Clock::time_point DeadlineIn(milliseconds wait) {
  // A day stands for ever: nothing here may wait longer, and the sum cannot overflow.
  return Clock::now() + std::min<milliseconds>(wait, std::chrono::hours(24));
}

}  // namespace

// ---------------------------------------------------------------------------------- QueryResult

class QueryResult::Rep {
 public:
  explicit Rep(ResultPtr result) : result_(std::move(result)) {}
  const PGresult* get() const { return result_.get(); }

 private:
  ResultPtr result_;
};

QueryResult::QueryResult(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
QueryResult::QueryResult(QueryResult&&) noexcept = default;
QueryResult& QueryResult::operator=(QueryResult&&) noexcept = default;
QueryResult::~QueryResult() = default;

size_t QueryResult::row_count() const { return static_cast<size_t>(PQntuples(rep_->get())); }
size_t QueryResult::column_count() const { return static_cast<size_t>(PQnfields(rep_->get())); }

bool QueryResult::IsNull(size_t row, size_t column) const {
  MR_CHECK(row < row_count() && column < column_count());
  return PQgetisnull(rep_->get(), static_cast<int>(row), static_cast<int>(column)) != 0;
}

std::string_view QueryResult::Text(size_t row, size_t column) const {
  MR_CHECK(row < row_count() && column < column_count());
  const int r = static_cast<int>(row);
  const int c = static_cast<int>(column);
  return {PQgetvalue(rep_->get(), r, c), static_cast<size_t>(PQgetlength(rep_->get(), r, c))};
}

// ----------------------------------------------------------------------------------- Connection

struct Connection::Rep {
  PGconn* conn = nullptr;
  std::stop_token stop;
  // The message that TryReadCopy() gave last, or that WaitReadable() found.
  char* message = nullptr;
  int message_size = 0;
  bool message_waits = false;
  int buffer_growths = 0;
  // The first failure of a statement, and its last rows.
  Status failure;
  std::string failure_context;
  ResultPtr rows;

  ~Rep() {
    PQfreemem(message);
    PQfinish(conn);
  }
};

Connection::Connection(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
Connection::~Connection() = default;

Result<std::string> Connection::DatabaseOf(const std::string& url) {
  MR_ASSIGN_OR_RETURN(UrlParts parts, ParseUrl(url));
  return std::move(parts.database);
}

Result<std::unique_ptr<Connection>> Connection::Connect(const std::string& url,
                                                        const ConnectOptions& options,
                                                        std::stop_token stop) {
  MR_ASSIGN_OR_RETURN(const UrlParts parts, ParseUrl(url));
  // What stands before dbname is a default that the URL overrides; what follows overrides it.
  const std::array<const char*, 10> keywords = {"connect_timeout",
                                                "keepalives_idle",
                                                "keepalives_interval",
                                                "keepalives_count",
                                                "tcp_user_timeout",
                                                "fallback_application_name",
                                                "dbname",
                                                options.replication ? "replication" : nullptr,
                                                nullptr,
                                                nullptr};
  const std::array<const char*, 10> values = {
      "8",         "10",       "5",     "3",    "30000", options.application_name.c_str(),
      url.c_str(), "database", nullptr, nullptr};
  auto rep = std::make_unique<Rep>();
  rep->stop = std::move(stop);
  rep->conn = PQconnectStartParams(keywords.data(), values.data(), 1);
  std::unique_ptr<Connection> connection(new Connection(std::move(rep)));
  connection->peer_ = PeerName(parts);
  PGconn* conn = connection->rep_->conn;
  if (conn == nullptr) {
    return ResourceExhausted("connect to PostgreSQL: out of memory");
  }
  PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
  const Clock::time_point deadline = DeadlineIn(parts.connect_timeout);
  PostgresPollingStatusType next =
      PQstatus(conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
  while (next != PGRES_POLLING_OK && next != PGRES_POLLING_FAILED) {
    const short events = next == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    MR_ASSIGN_OR_RETURN(const bool ready,
                        PollSocket(PQsocket(conn), events, deadline, connection->rep_->stop));
    if (!ready) {
      return Unavailable(fmt::format("connect to PostgreSQL at {}: no answer within {} s",
                                     connection->peer_, parts.connect_timeout.count() / 1000));
    }
    next = PQconnectPoll(conn);
  }
  if (next == PGRES_POLLING_FAILED) {
    const ConnectError error = ParseConnectError(PQerrorMessage(conn));
    if (IsWrongOption(error.cause)) {
      return InvalidArgument(fmt::format("connect to PostgreSQL at {}: {}: correct the URL",
                                         connection->peer_, error.cause));
    }
    return Status(CodeOfSqlState(error.sqlstate),
                  fmt::format("connect to PostgreSQL at {}: {}", connection->peer_, error.cause));
  }
  PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
  // Notices would go to stderr.
  PQsetNoticeReceiver(
      conn, [](void*, const PGresult*) {}, nullptr);
  connection->peer_ = fmt::format("{}:{}/{}", PQhost(conn), PQport(conn), PQdb(conn));
  connection->answer_wait_ = options.answer_wait;
  MR_RETURN_IF_ERROR(connection->Configure(options));
  return connection;
}

Status Connection::Configure(const ConnectOptions& options) {
  // A database of encoding SQL_ASCII holds bytes of any encoding. Asked for UTF8 the server would
  // end the session at the first that are not; as they are, the one row is bad.
  const bool is_unchecked = ServerParameter("server_encoding") == "SQL_ASCII";
  // SET after the start and not start-up options: connection poolers refuse those. Whatever ALTER
  // ROLE and ALTER DATABASE set, values then come in one form and statements mean one thing.
  std::string sql =
      is_unchecked ? "SET client_encoding = 'SQL_ASCII'; " : "SET client_encoding = 'UTF8'; ";
  sql +=
      "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'iso_8601'; "
      "SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; "
      "SET search_path = ''; SET quote_all_identifiers = off; "
      "SET standard_conforming_strings = on; SET transform_null_equals = off; "
      "SET synchronous_commit = 'local'; SET row_security = off; "
      "SET default_transaction_isolation = 'read committed'; "
      "SET default_transaction_read_only = off; SET idle_in_transaction_session_timeout = 0; ";
  if (server_version() >= 140000) {
    sql += "SET idle_session_timeout = 0; ";
  }
  if (server_version() >= 170000) {
    sql += "SET transaction_timeout = 0; ";
  }
  sql += fmt::format("SET statement_timeout = {}; SET lock_timeout = {}",
                     options.statement_timeout.count(), options.lock_timeout.count());
  const Result<QueryResult> set = Exec(sql);
  return set.ok() ? Status::Ok() : set.error().WithContext("pin the session's settings");
}

int Connection::server_version() const { return PQserverVersion(rep_->conn); }

int Connection::backend_pid() const { return PQbackendPID(rep_->conn); }

std::string Connection::Database() const {
  const char* name = PQdb(rep_->conn);
  return name == nullptr ? "" : name;
}

std::string_view Connection::ServerParameter(const char* name) const {
  const char* value = PQparameterStatus(rep_->conn, name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

Status Connection::ConnectionFailure(std::string_view what) const {
  const std::string_view cause = FirstLine(PQerrorMessage(rep_->conn));
  return Unavailable(fmt::format("{} on PostgreSQL at {}: {}", what, peer_,
                                 cause.empty() ? "the connection broke" : cause));
}

bool Connection::InTransaction() const {
  const PGTransactionStatusType status = PQtransactionStatus(rep_->conn);
  return status == PQTRANS_INTRANS || status == PQTRANS_INERROR;
}

Result<QueryResult> Connection::Exec(const std::string& sql, std::optional<milliseconds> wait) {
  const milliseconds longest = wait.value_or(answer_wait_);
  MR_RETURN_IF_ERROR(Send(sql));
  MR_ASSIGN_OR_RETURN(const bool is_done, WaitAnswer(longest));
  if (!is_done) {
    return TimedOut(
        fmt::format("PostgreSQL at {} gave no answer within {} ms", peer_, longest.count()));
  }
  return TakeAnswer();
}

Status Connection::Send(const std::string& sql) {
  rep_->failure = Status::Ok();
  rep_->rows.reset();
  if (PQsendQuery(rep_->conn, sql.c_str()) == 0) {
    return ConnectionFailure("send a statement");
  }
  return Status::Ok();
}

Result<bool> Connection::WaitAnswer(milliseconds wait) {
  PGconn* conn = rep_->conn;
  const Clock::time_point deadline = DeadlineIn(wait);
  for (;;) {
    const int flushed = PQflush(conn);
    if (flushed < 0 || PQconsumeInput(conn) == 0) {
      return ConnectionFailure("wait for an answer");
    }
    while (PQisBusy(conn) == 0) {
      ResultPtr result(PQgetResult(conn));
      if (result == nullptr) {
        return true;
      }
      const ExecStatusType status = PQresultStatus(result.get());
      if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE) {
        const char* state = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
        const char* text = PQresultErrorField(result.get(), PG_DIAG_MESSAGE_PRIMARY);
        const char* context = PQresultErrorField(result.get(), PG_DIAG_CONTEXT);
        if (rep_->failure.ok()) {
          rep_->failure_context = context == nullptr ? "" : context;
          rep_->failure = state == nullptr ? ConnectionFailure("run a statement")
                                           : Status(CodeOfSqlState(state),
                                                    text == nullptr ? "unknown error" : text);
        }
      } else {
        rep_->rows = std::move(result);
      }
      if (status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH || status == PGRES_COPY_IN) {
        return true;
      }
    }
    MR_ASSIGN_OR_RETURN(
        const bool ready,
        PollSocket(PQsocket(conn), flushed > 0 ? POLLIN | POLLOUT : POLLIN, deadline, rep_->stop));
    if (!ready) {
      return false;
    }
  }
}

Result<QueryResult> Connection::TakeAnswer() {
  if (!rep_->failure.ok()) {
    return std::exchange(rep_->failure, Status::Ok());
  }
  if (rep_->rows == nullptr) {
    return ConnectionFailure("run a statement");
  }
  return QueryResult(std::make_unique<QueryResult::Rep>(std::move(rep_->rows)));
}

void Connection::Cancel() {
  PGcancel* cancel = PQgetCancel(rep_->conn);
  if (cancel != nullptr) {
    std::array<char, 256> error{};
    // Best effort: the connection is closed next, whatever came of it.
    PQcancel(cancel, error.data(), static_cast<int>(error.size()));
    PQfreeCancel(cancel);
  }
}

Status Connection::StartCopy(const std::string& sql, bool both) {
  MR_RETURN_IF_ERROR(Send(sql));
  MR_ASSIGN_OR_RETURN(const bool is_done, WaitAnswer(std::chrono::seconds(60)));
  if (!is_done) {
    return TimedOut(fmt::format("PostgreSQL at {} gave no answer within 60 s", peer_));
  }
  if (!rep_->failure.ok()) {
    return std::exchange(rep_->failure, Status::Ok());
  }
  const ExecStatusType wanted = both ? PGRES_COPY_BOTH : PGRES_COPY_OUT;
  if (rep_->rows == nullptr || PQresultStatus(rep_->rows.get()) != wanted) {
    return Internal(fmt::format("PostgreSQL at {} did not start the copy", peer_));
  }
  rep_->rows.reset();
  if (both && PQsetnonblocking(rep_->conn, 1) != 0) {
    return ConnectionFailure("start replication");
  }
  return Status::Ok();
}

Status Connection::StartCopyOut(const std::string& sql) { return StartCopy(sql, false); }

Status Connection::StartCopyBoth(const std::string& command) { return StartCopy(command, true); }

CopyRead Connection::TryReadCopy() {
  if (!rep_->message_waits) {
    DropMessage();
    rep_->message_size = PQgetCopyData(rep_->conn, &rep_->message, 1);
  }
  rep_->message_waits = false;
  if (rep_->message_size > 0) {
    return {CopyState::kMessage, {rep_->message, static_cast<size_t>(rep_->message_size)}};
  }
  return {rep_->message_size == 0 ? CopyState::kNothingYet : CopyState::kEnd, {}};
}

void Connection::DropMessage() {
  PQfreemem(rep_->message);
  rep_->message = nullptr;
}

Result<bool> Connection::WaitReadable(milliseconds wait) {
  PGconn* conn = rep_->conn;
  const int fd = PQsocket(conn);
  if (PQsslInUse(conn) != 0) {
    // What OpenSSL has decrypted, the socket does not show.
    for (int i = 0; i < 2; ++i) {
      if (PQconsumeInput(conn) == 0) {
        return ConnectionFailure("read");
      }
    }
    rep_->message_waits = TryReadCopy().state != CopyState::kNothingYet;
    if (rep_->message_waits) {
      return true;
    }
  }
  const int flushed = PQflush(conn);
  if (flushed < 0) {
    return ConnectionFailure("write");
  }
  MR_ASSIGN_OR_RETURN(const bool ready, PollSocket(fd, flushed > 0 ? POLLIN | POLLOUT : POLLIN,
                                                   DeadlineIn(wait), rep_->stop));
  if (!ready) {
    return false;
  }
  if (PQconsumeInput(conn) == 0) {
    return ConnectionFailure("read");
  }
  // libpq reads as much as its buffer has room for, and makes it larger only when it is full.
  int available = 0;
  while (rep_->buffer_growths < kBufferGrowthsMax && ioctl(fd, FIONREAD, &available) == 0 &&
         available > 16'384) {
    ++rep_->buffer_growths;
    if (PQconsumeInput(conn) == 0) {
      return ConnectionFailure("read");
    }
  }
  return true;
}

Status Connection::WriteCopy(std::string_view bytes) {
  const int put = PQputCopyData(rep_->conn, bytes.data(), static_cast<int>(bytes.size()));
  // Zero: the send buffer is full, which a message of some bytes cannot make it on a live
  // connection.
  if (put <= 0 || PQflush(rep_->conn) < 0) {
    return ConnectionFailure("write");
  }
  return Status::Ok();
}

Status Connection::EndCopyBoth() {
  if (PQputCopyEnd(rep_->conn, nullptr) <= 0 || PQflush(rep_->conn) < 0) {
    return ConnectionFailure("end replication");
  }
  return Status::Ok();
}

Status Connection::FinishCopy() {
  rep_->failure = Status::Ok();
  const Clock::time_point deadline = Clock::now() + kFinishCopyWait;
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    MR_ASSIGN_OR_RETURN(const bool is_done, WaitAnswer(std::max(left, milliseconds(0))));
    if (!is_done) {
      return TimedOut(fmt::format("PostgreSQL at {} did not end the copy within 5 s", peer_));
    }
    // The server closed its half of a COPY BOTH: close ours, then comes its verdict.
    if (rep_->rows == nullptr || PQresultStatus(rep_->rows.get()) != PGRES_COPY_IN) {
      break;
    }
    rep_->rows.reset();
    PQputCopyEnd(rep_->conn, nullptr);
  }
  if (PQstatus(rep_->conn) == CONNECTION_BAD && rep_->failure.ok()) {
    return ConnectionFailure("read");
  }
  return std::exchange(rep_->failure, Status::Ok());
}

const std::string& Connection::failure_context() const { return rep_->failure_context; }

}  // namespace millrace::pg
