// SPDX-License-Identifier: Apache-2.0
// Writes the example's load into PostgreSQL: engagement events at a chosen rate, transaction size
// and mix of inserts, updates and deletes, and changes of the content that they refer to.
//
// One connection in pipeline mode. The statements between two synchronisation points are one
// transaction; several transactions are in flight at a time. Keys come from the table's sequence in
// blocks, so that a seed gives the same load on an empty database and other writers are not
// disturbed.

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <libpq-fe.h>
#include <poll.h>

#include "connection.h"
#include "dice.h"
#include "options.h"

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Bounds of what is in flight: enough to hide round trips, little enough to end soon after SIGTERM.
constexpr std::size_t kMaxTransactionsInFlight = 256;
constexpr std::int64_t kMaxRowsInFlight = 20'000;
// Rows of one statement; larger ones gain nothing.
constexpr std::size_t kMaxRowsPerStatement = 2'000;
constexpr std::size_t kKeyBlock = 5'000;
// Updates and deletes meet the youngest rows.
constexpr std::size_t kMaxLiveKeys = 100'000;
constexpr auto kProgressEvery = seconds(5);
constexpr auto kDrainTimeout = seconds(5);
constexpr auto kMinReconnectWait = milliseconds(100);
constexpr auto kMaxReconnectWait = seconds(2);

constexpr std::array<const char*, 4> kEventTypes = {"play", "pause", "finish", "click"};
constexpr std::array<const char*, 3> kContentTypes = {"podcast", "newsletter", "video"};
constexpr std::array<const char*, 5> kDevices = {"ios", "android", "web", "tv", "car"};
constexpr std::array<const char*, 5> kCountries = {"DE", "FR", "GB", "IN", "US"};

volatile std::sig_atomic_t stop_requested = 0;

void RequestStop(int /*signal*/) { stop_requested = 1; }

enum class Outcome { kFine, kConnectionLost, kFailed };

struct Totals {
  std::int64_t inserts = 0;
  std::int64_t updates = 0;
  std::int64_t deletes = 0;
  std::int64_t content_changes = 0;
  std::int64_t transactions = 0;

  std::int64_t Events() const { return inserts + updates + deletes; }
};

class Generator {
 public:
  explicit Generator(Options options) : options_(std::move(options)), dice_(options_.seed) {}

  // Returns the exit code.
  int Run() {
    if (Connect() != Outcome::kFine) {
      return Fail();
    }
    started_ = Clock::now();
    next_progress_ = started_ + kProgressEvery;
    ResetSchedule();
    while (!stop_requested && !IsComplete()) {
      Outcome outcome = Step();
      if (outcome == Outcome::kConnectionLost) {
        outcome = Reconnect();
      }
      if (outcome == Outcome::kFailed) {
        return Fail();
      }
      ReportProgress();
    }
    if (connection_ != nullptr && Drain(kDrainTimeout) == Outcome::kFailed) {
      return Fail();
    }
    Report("done");
    return 0;
  }

 private:
  enum class Kind { kInsert, kUpdate, kDelete, kContent };

  // What the results on the wire belong to, in order.
  struct Transaction {
    std::vector<Kind> statements;
    std::int64_t rows = 0;
    bool is_events = true;
  };

  int Fail() const {
    fmt::print(stderr, "error: {}\n", error_);
    return 1;
  }

  Outcome Failed(std::string_view what, const char* message) {
    error_ = fmt::format("{}: {}", what, OneLine(message));
    return Outcome::kFailed;
  }

  // An error of the server: whether it is worth a new connection.
  Outcome ServerFailed(std::string_view what, const PGresult* result) {
    error_ = fmt::format("{}: {}", what, OneLine(PQresultErrorMessage(result)));
    const bool is_lost = PQstatus(connection_.get()) == CONNECTION_BAD || IsPassing(result);
    return is_lost ? Outcome::kConnectionLost : Outcome::kFailed;
  }

  bool IsComplete() const {
    if (options_.count > 0 && sent_events_ >= options_.count) {
      return true;
    }
    return options_.duration > 0 &&
           Clock::now() - started_ >= std::chrono::duration<double>(options_.duration);
  }

  // --- Connection ------------------------------------------------------------------------------

  Outcome Connect() {
    connection_.reset(PQconnectdb(options_.url.c_str()));
    in_flight_.clear();
    statement_index_ = 0;
    rows_in_flight_ = 0;
    if (PQstatus(connection_.get()) != CONNECTION_OK) {
      error_ = fmt::format("cannot connect to PostgreSQL: {}; check --url and that it runs",
                           OneLine(PQerrorMessage(connection_.get())));
      return Outcome::kConnectionLost;
    }
    PQsetNoticeProcessor(
        connection_.get(), [](void*, const char*) {}, nullptr);
    for (const auto& step : {&Generator::Prepare, &Generator::LoadContents, &Generator::LoadKeys}) {
      if (const Outcome outcome = (this->*step)(); outcome != Outcome::kFine) {
        return outcome;
      }
    }
    if (PQenterPipelineMode(connection_.get()) != 1 ||
        PQsetnonblocking(connection_.get(), 1) != 0) {
      return Failed("cannot pipeline statements", PQerrorMessage(connection_.get()));
    }
    return Outcome::kFine;
  }

  Outcome Reconnect() {
    fmt::print("connection lost, connecting again\n");
    std::fflush(stdout);
    milliseconds wait = kMinReconnectWait;
    while (!stop_requested) {
      const Outcome outcome = Connect();
      if (outcome != Outcome::kConnectionLost) {
        ResetSchedule();
        return outcome;
      }
      std::this_thread::sleep_for(wait);
      wait = std::min<milliseconds>(wait * 2, kMaxReconnectWait);
    }
    connection_.reset();
    return Outcome::kFine;
  }

  Result Execute(const char* sql) { return Result(PQexec(connection_.get(), sql)); }

  Outcome Prepare() {
    constexpr std::array<std::pair<const char*, const char*>, 4> kStatements = {{
        {"insert",
         "INSERT INTO engagement_events"
         " (id, content_id, user_id, event_type, event_ts, duration_ms, device, raw_payload)"
         " SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[],"
         " $5::timestamptz[], $6::integer[], $7::text[], $8::jsonb[])"},
        {"update",
         "UPDATE engagement_events AS e SET event_type = v.event_type, duration_ms = v.duration_ms"
         " FROM unnest($1::bigint[], $2::text[], $3::integer[]) AS v(id, event_type, duration_ms)"
         " WHERE e.id = v.id"},
        {"delete", "DELETE FROM engagement_events WHERE id = ANY ($1::bigint[])"},
        {"content", "UPDATE content SET title = $2, length_seconds = $3 WHERE id = $1"},
    }};
    // Every connection looks at the same schema, whatever the role's settings are.
    const Result settings =
        Execute(options_.async_commit ? "SET search_path TO public; SET synchronous_commit TO off"
                                      : "SET search_path TO public");
    if (PQresultStatus(settings.get()) != PGRES_COMMAND_OK) {
      return ServerFailed("cannot change the session's settings", settings.get());
    }
    for (const auto& [name, sql] : kStatements) {
      const Result result(PQprepare(connection_.get(), name, sql, 0, nullptr));
      if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) {
        return ServerFailed("cannot prepare (load examples/engagement/schema.sql first)",
                            result.get());
      }
    }
    return Outcome::kFine;
  }

  // Fills `content` up to the wished number and remembers the keys.
  Outcome LoadContents() {
    if (const Outcome outcome = ReadContents(); outcome != Outcome::kFine) {
      return outcome;
    }
    if (contents_.size() >= static_cast<std::size_t>(options_.contents)) {
      return Outcome::kFine;
    }
    std::string sql =
        "INSERT INTO content (id, slug, title, content_type, length_seconds, publish_ts) VALUES ";
    for (int i = 0; i < options_.contents; ++i) {
      sql += fmt::format(
          "{}('{}', 'content-{:06}', 'Content {}', '{}', {},"
          " timestamptz '2026-01-01 00:00:00+00' + interval '{} minutes')",
          i == 0 ? "" : ", ", dice_.Uuid(), i, i, dice_.Pick(kContentTypes), LengthText(),
          dice_.Below(400'000));
    }
    sql += " ON CONFLICT DO NOTHING";
    const Result result = Execute(sql.c_str());
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) {
      return ServerFailed("cannot insert content", result.get());
    }
    return ReadContents();
  }

  Outcome ReadContents() {
    const Result result = Execute(
        fmt::format("SELECT id FROM content ORDER BY slug LIMIT {}", options_.contents).c_str());
    if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) {
      return ServerFailed("cannot read content", result.get());
    }
    contents_.clear();
    for (int row = 0; row < PQntuples(result.get()); ++row) {
      contents_.emplace_back(PQgetvalue(result.get(), row, 0));
    }
    return Outcome::kFine;
  }

  // Most contents have a length; some have none, some zero.
  std::string LengthText() {
    if (dice_.Percent(3)) {
      return "NULL";
    }
    if (dice_.Percent(2)) {
      return "0";
    }
    return fmt::format("{}", 30 + dice_.Below(5'400));
  }

  Outcome LoadKeys() {
    const Result result = Execute(
        fmt::format("SELECT id FROM engagement_events ORDER BY id DESC LIMIT {}", kMaxLiveKeys)
            .c_str());
    if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) {
      return ServerFailed("cannot read engagement_events", result.get());
    }
    live_keys_.clear();
    for (int row = PQntuples(result.get()) - 1; row >= 0; --row) {
      live_keys_.push_back(std::strtoll(PQgetvalue(result.get(), row, 0), nullptr, 10));
    }
    return Outcome::kFine;
  }

  // --- The loop --------------------------------------------------------------------------------

  void ResetSchedule() {
    schedule_start_ = Clock::now();
    scheduled_events_ = 0;
    scheduled_changes_ = 0;
  }

  // Sends what is due, reads what has come, and waits for either.
  Outcome Step() {
    const double elapsed = std::chrono::duration<double>(Clock::now() - schedule_start_).count();
    while (HasRoom() &&
           static_cast<double>(scheduled_changes_) < options_.content_changes * elapsed) {
      if (!SendContentChange()) {
        return Outcome::kConnectionLost;
      }
      ++scheduled_changes_;
    }
    bool is_due = true;
    while (HasRoom() && !IsComplete() && !stop_requested) {
      const std::int64_t size = NextTransactionSize();
      is_due = options_.rate <= 0 ||
               static_cast<double>(scheduled_events_ + size) <= options_.rate * elapsed;
      if (!is_due) {
        break;
      }
      if (free_keys_.size() < static_cast<std::size_t>(size)) {
        if (const Outcome outcome = ReserveKeys(size); outcome != Outcome::kFine) {
          return outcome;
        }
      }
      if (!SendEvents(size)) {
        return Outcome::kConnectionLost;
      }
      scheduled_events_ += size;
    }
    // A server that cannot keep the rate is not flooded when it is quick again.
    if (options_.rate > 0 && options_.rate * elapsed - static_cast<double>(scheduled_events_) >
                                 options_.rate + options_.transaction_size) {
      ResetSchedule();
    }
    return WaitAndRead(is_due ? milliseconds(100) : milliseconds(1));
  }

  bool HasRoom() const {
    return in_flight_.size() < kMaxTransactionsInFlight && rows_in_flight_ < kMaxRowsInFlight;
  }

  std::int64_t NextTransactionSize() const {
    const std::int64_t size = options_.transaction_size;
    return options_.count > 0 ? std::min(size, options_.count - sent_events_) : size;
  }

  // Takes keys from the table's sequence. Runs with nothing in flight.
  Outcome ReserveKeys(std::int64_t wanted) {
    if (const Outcome outcome = Drain(seconds(600)); outcome != Outcome::kFine) {
      return outcome;
    }
    if (PQexitPipelineMode(connection_.get()) != 1) {
      return Outcome::kConnectionLost;
    }
    const std::size_t block = std::max(kKeyBlock, static_cast<std::size_t>(wanted));
    const Result result =
        Execute(fmt::format("SELECT nextval(pg_get_serial_sequence('engagement_events', 'id'))"
                            " FROM generate_series(1, {})",
                            block)
                    .c_str());
    if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) {
      return ServerFailed("cannot take keys from the sequence of engagement_events", result.get());
    }
    for (int row = 0; row < PQntuples(result.get()); ++row) {
      free_keys_.push_back(std::strtoll(PQgetvalue(result.get(), row, 0), nullptr, 10));
    }
    return PQenterPipelineMode(connection_.get()) == 1 ? Outcome::kFine : Outcome::kConnectionLost;
  }

  // --- Sending ---------------------------------------------------------------------------------

  bool Send(const char* statement, const std::vector<std::string>& values) {
    std::vector<const char*> pointers;
    pointers.reserve(values.size());
    for (const std::string& value : values) {
      pointers.push_back(value.c_str());
    }
    return PQsendQueryPrepared(connection_.get(), statement, static_cast<int>(values.size()),
                               pointers.data(), nullptr, nullptr, 0) == 1;
  }

  bool EndTransaction(Transaction transaction) {
    if (PQpipelineSync(connection_.get()) != 1) {
      return false;
    }
    rows_in_flight_ += transaction.rows;
    in_flight_.push_back(std::move(transaction));
    return true;
  }

  // A transaction of `size` events, of which the mix says what each is.
  bool SendEvents(std::int64_t size) {
    const int shares = options_.mix.inserts + options_.mix.updates + options_.mix.deletes;
    std::int64_t inserts = 0;
    std::vector<std::int64_t> updated;
    std::vector<std::int64_t> deleted;
    for (std::int64_t i = 0; i < size; ++i) {
      const auto draw = static_cast<int>(dice_.Below(static_cast<std::size_t>(shares)));
      if (draw < options_.mix.inserts || live_keys_.empty()) {
        ++inserts;
      } else if (draw < options_.mix.inserts + options_.mix.updates) {
        updated.push_back(live_keys_[dice_.Below(live_keys_.size())]);
      } else {
        deleted.push_back(TakeLiveKey());
      }
    }
    Transaction transaction;
    transaction.rows = size;
    if (!SendInserts(inserts, transaction)) {
      return false;
    }
    if (!updated.empty() && !SendUpdate(std::move(updated), transaction)) {
      return false;
    }
    if (!deleted.empty() && !SendDelete(deleted, transaction)) {
      return false;
    }
    sent_events_ += size;
    return EndTransaction(std::move(transaction));
  }

  std::int64_t TakeLiveKey() {
    const std::size_t index = dice_.Below(live_keys_.size());
    const std::int64_t key = live_keys_[index];
    live_keys_[index] = live_keys_.back();
    live_keys_.pop_back();
    return key;
  }

  void AddLiveKey(std::int64_t key) {
    if (live_keys_.size() < kMaxLiveKeys) {
      live_keys_.push_back(key);
    } else {
      live_keys_[dice_.Below(live_keys_.size())] = key;
    }
  }

  bool SendInserts(std::int64_t count, Transaction& transaction) {
    while (count > 0) {
      const std::int64_t rows = std::min(count, static_cast<std::int64_t>(kMaxRowsPerStatement));
      ArrayText keys, contents, users, types, times, durations, devices, payloads;
      for (std::int64_t i = 0; i < rows; ++i) {
        const std::int64_t key = free_keys_.front();
        free_keys_.pop_front();
        AddLiveKey(key);
        keys.Add(key);
        if (contents_.empty() || dice_.Percent(1)) {
          contents.AddNull();
        } else {
          contents.Add(contents_[dice_.Below(contents_.size())]);
        }
        users.Add(dice_.UserUuid());
        types.Add(dice_.Pick(kEventTypes));
        AddTime(times);
        AddDuration(durations);
        devices.Add(dice_.Pick(kDevices));
        payloads.AddQuoted(Payload());
      }
      const std::vector<std::string> values = {
          std::move(keys).Finish(),    std::move(contents).Finish(), std::move(users).Finish(),
          std::move(types).Finish(),   std::move(times).Finish(),    std::move(durations).Finish(),
          std::move(devices).Finish(), std::move(payloads).Finish()};
      if (!Send("insert", values)) {
        return false;
      }
      transaction.statements.push_back(Kind::kInsert);
      count -= rows;
    }
    return true;
  }

  // Up to two seconds ago, in microseconds.
  void AddTime(ArrayText& times) {
    const auto now = std::chrono::duration_cast<microseconds>(
        std::chrono::system_clock::now().time_since_epoch());
    const std::int64_t micros = now.count() - static_cast<std::int64_t>(dice_.Below(2'000'000));
    const std::int64_t seconds_since_midnight = micros / 1'000'000 % 86'400;
    using Days = std::chrono::duration<std::int64_t, std::ratio<86'400>>;
    const Days day(micros / 1'000'000 / 86'400);
    if (day.count() != date_day_) {
      const std::chrono::year_month_day date{
          std::chrono::sys_days{std::chrono::days(static_cast<int>(day.count()))}};
      date_day_ = day.count();
      date_text_ =
          fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()),
                      static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
    }
    times.AddQuoted(fmt::format("{} {:02}:{:02}:{:02}.{:06}+00", date_text_,
                                seconds_since_midnight / 3600, seconds_since_midnight / 60 % 60,
                                seconds_since_midnight % 60, micros % 1'000'000));
  }

  void AddDuration(ArrayText& durations) {
    if (dice_.Percent(5)) {
      durations.AddNull();
    } else {
      durations.Add(static_cast<std::int64_t>(dice_.Below(3'600'000)));
    }
  }

  std::string Payload() {
    return fmt::format(
        R"({{"session":"{:016x}","position_ms":{},"app":"{}.{}.{}","country":"{}","muted":{}}})",
        dice_.Below(std::numeric_limits<std::size_t>::max()), dice_.Below(5'400'000),
        dice_.Below(9), dice_.Below(20), dice_.Below(50), dice_.Pick(kCountries),
        dice_.Percent(20));
  }

  bool SendUpdate(std::vector<std::int64_t> updated, Transaction& transaction) {
    std::sort(updated.begin(), updated.end());
    updated.erase(std::unique(updated.begin(), updated.end()), updated.end());
    ArrayText keys, types, durations;
    for (const std::int64_t key : updated) {
      keys.Add(key);
      types.Add(dice_.Pick(kEventTypes));
      AddDuration(durations);
    }
    transaction.statements.push_back(Kind::kUpdate);
    return Send("update", {std::move(keys).Finish(), std::move(types).Finish(),
                           std::move(durations).Finish()});
  }

  bool SendDelete(const std::vector<std::int64_t>& deleted, Transaction& transaction) {
    ArrayText keys;
    for (const std::int64_t key : deleted) {
      keys.Add(key);
    }
    transaction.statements.push_back(Kind::kDelete);
    return Send("delete", {std::move(keys).Finish()});
  }

  bool SendContentChange() {
    if (contents_.empty()) {
      return true;
    }
    const std::string& id = contents_[dice_.Below(contents_.size())];
    const std::string title = fmt::format("Content, edition {}", dice_.Below(1'000'000));
    const std::string length = LengthText();
    const std::array<const char*, 3> values = {id.c_str(), title.c_str(),
                                               length == "NULL" ? nullptr : length.c_str()};
    if (PQsendQueryPrepared(connection_.get(), "content", static_cast<int>(values.size()),
                            values.data(), nullptr, nullptr, 0) != 1) {
      return false;
    }
    Transaction transaction;
    transaction.statements.push_back(Kind::kContent);
    transaction.rows = 1;
    transaction.is_events = false;
    return EndTransaction(std::move(transaction));
  }

  // --- Reading ---------------------------------------------------------------------------------

  // Moves bytes for at most `timeout` and takes the results that are complete.
  Outcome WaitAndRead(milliseconds timeout) {
    PGconn* connection = connection_.get();
    const int unsent = PQflush(connection);
    if (unsent < 0) {
      return Outcome::kConnectionLost;
    }
    pollfd descriptor = {};
    descriptor.fd = PQsocket(connection);
    descriptor.events = static_cast<short>(POLLIN | (unsent > 0 ? POLLOUT : 0));
    const int ready = poll(&descriptor, 1, static_cast<int>(timeout.count()));
    if (ready < 0 && errno != EINTR) {
      return Outcome::kConnectionLost;
    }
    if (ready > 0 && PQconsumeInput(connection) != 1) {
      return Outcome::kConnectionLost;
    }
    return TakeResults();
  }

  Outcome TakeResults() {
    PGconn* connection = connection_.get();
    while (!in_flight_.empty() && PQisBusy(connection) == 0) {
      const Result result(PQgetResult(connection));
      if (result == nullptr) {
        continue;  // the end of one statement's results
      }
      switch (PQresultStatus(result.get())) {
        case PGRES_PIPELINE_SYNC:
          EndOfTransaction();
          break;
        case PGRES_COMMAND_OK:
          CountStatement(result.get());
          break;
        default:
          return ServerFailed("PostgreSQL refused a statement", result.get());
      }
    }
    return Outcome::kFine;
  }

  void CountStatement(PGresult* result) {
    const std::int64_t rows = std::strtoll(PQcmdTuples(result), nullptr, 10);
    const Transaction& transaction = in_flight_.front();
    switch (transaction.statements[statement_index_++]) {
      case Kind::kInsert:
        totals_.inserts += rows;
        break;
      case Kind::kUpdate:
        totals_.updates += rows;
        break;
      case Kind::kDelete:
        totals_.deletes += rows;
        break;
      case Kind::kContent:
        totals_.content_changes += rows;
        break;
    }
  }

  void EndOfTransaction() {
    if (in_flight_.front().is_events) {
      ++totals_.transactions;
    }
    rows_in_flight_ -= in_flight_.front().rows;
    in_flight_.pop_front();
    statement_index_ = 0;
  }

  Outcome Drain(seconds timeout) {
    const auto deadline = Clock::now() + timeout;
    while (!in_flight_.empty() && Clock::now() < deadline) {
      const Outcome outcome = WaitAndRead(milliseconds(100));
      if (outcome != Outcome::kFine) {
        return outcome;
      }
    }
    return in_flight_.empty() ? Outcome::kFine : Outcome::kConnectionLost;
  }

  // --- Progress --------------------------------------------------------------------------------

  void ReportProgress() {
    const auto now = Clock::now();
    if (now < next_progress_) {
      return;
    }
    next_progress_ = now + kProgressEvery;
    Report("running");
  }

  void Report(std::string_view state) {
    const auto now = Clock::now();
    const double total = std::chrono::duration<double>(now - started_).count();
    const double last =
        std::chrono::duration<double>(now - last_report_.value_or(started_)).count();
    const auto recent = static_cast<double>(totals_.Events() - last_report_events_);
    fmt::print(
        "{}: {} events in {:.1f} s ({:.0f}/s now), {} inserts, {} updates, {} deletes,"
        " {} content changes, {} transactions\n",
        state, totals_.Events(), total, last > 0 ? recent / last : 0.0, totals_.inserts,
        totals_.updates, totals_.deletes, totals_.content_changes, totals_.transactions);
    std::fflush(stdout);
    last_report_ = now;
    last_report_events_ = totals_.Events();
  }

  const Options options_;
  Dice dice_;
  Connection connection_;
  std::string error_;

  std::vector<std::string> contents_;
  std::vector<std::int64_t> live_keys_;
  std::deque<std::int64_t> free_keys_;

  std::deque<Transaction> in_flight_;
  std::size_t statement_index_ = 0;  // in the oldest transaction in flight
  std::int64_t rows_in_flight_ = 0;
  std::int64_t sent_events_ = 0;

  Clock::time_point started_;
  Clock::time_point schedule_start_;
  std::int64_t scheduled_events_ = 0;
  std::int64_t scheduled_changes_ = 0;

  Totals totals_;
  Clock::time_point next_progress_;
  std::optional<Clock::time_point> last_report_;
  std::int64_t last_report_events_ = 0;

  std::int64_t date_day_ = -1;
  std::string date_text_;
};

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): CLI11 throws when an option is declared wrongly.
int main(int argc, char** argv) {
  int exit_code = 0;
  std::optional<Options> options = ParseOptions(argc, argv, exit_code);
  if (!options) {
    return exit_code;
  }
  struct sigaction action = {};
  action.sa_handler = RequestStop;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  return Generator(*std::move(options)).Run();
}
