// SPDX-License-Identifier: Apache-2.0
//
// How fast the source reads a backlog of engagement_events inserts and discards them, beside
// pg_recvlogical on the same WAL:
//
//   MILLRACE_TEST_POSTGRES_URL=... bench_postgres_capture [rows=1000000] [rows a transaction=10000]
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include "millrace/sources/postgres/postgres_source.h"
#include "millrace/sources/postgres/slot_commands.h"
#include "millrace/sources/testing/memory_source_state.h"

namespace millrace::sources::postgres {
namespace {

using Clock = std::chrono::steady_clock;

void Check(const Status& status) {
  if (!status.ok()) {
    fmt::print(stderr, "{}\n", status.ToString());
    std::quick_exit(1);
  }
}

std::string Sql(pg::Connection& connection, const std::string& sql) {
  Result<pg::QueryResult> rows = connection.Exec(sql, std::chrono::minutes(10));
  Check(rows.status());
  return rows.value().row_count() == 0 ? "" : std::string(rows.value().Text(0, 0));
}

double CpuSeconds(int who) {
  rusage usage{};
  getrusage(who, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

double Seconds(Clock::time_point since) {
  return std::chrono::duration<double>(Clock::now() - since).count();
}

// CPU seconds of the walsender of a slot, where the server runs on this machine; sampled, because
// it is gone with its client.
class SenderCpu {
 public:
  SenderCpu(const std::string& url, std::string slot) {
    thread_ = std::jthread([this, url, slot = std::move(slot)](std::stop_token stop) {
      Result<std::unique_ptr<pg::Connection>> connection = pg::Connection::Connect(url, {});
      Check(connection.status());
      std::string pid;
      while (!stop.stop_requested()) {
        if (pid.empty()) {
          pid = Sql(*connection.value(),
                    "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '" + slot + "'");
        } else {
          Sample(pid);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }
  double Stop() {
    thread_ = {};
    return seconds_;
  }

 private:
  void Sample(const std::string& pid) {
    std::ifstream stat("/proc/" + pid + "/stat");
    std::string field;
    std::string rest;
    if (std::getline(stat, field, ')') && std::getline(stat, rest)) {
      std::istringstream fields(rest);
      for (int i = 0; i < 11; ++i) {
        fields >> field;
      }
      double user = 0;
      double system = 0;
      fields >> user >> system;
      seconds_ = (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
    }
  }

  std::atomic<double> seconds_ = 0;
  std::jthread thread_;
};

void Prepare(pg::Connection& admin) {
  Sql(admin,
      "DROP SCHEMA IF EXISTS bench_capture CASCADE; CREATE SCHEMA bench_capture; "
      "CREATE TABLE bench_capture.engagement_events(id bigserial PRIMARY KEY, content_id uuid, "
      "user_id uuid, event_type text, event_ts timestamptz NOT NULL, duration_ms integer, "
      "device text, raw_payload jsonb)");
}

void Load(pg::Connection& admin, size_t rows, size_t transaction_rows) {
  for (size_t done = 0; done < rows; done += transaction_rows) {
    Sql(admin,
        fmt::format("INSERT INTO bench_capture.engagement_events (content_id, user_id, event_type, "
                    "event_ts, duration_ms, device, raw_payload) SELECT gen_random_uuid(), "
                    "gen_random_uuid(), 'play', now(), g, 'ios-17.4', jsonb_build_object('app', "
                    "'4.12.1', 'session', md5(g::text), 'position', g, 'network', 'wifi') "
                    "FROM generate_series(1, {}) g",
                    transaction_rows));
  }
}

size_t ReadAll(Source& source, size_t rows) {
  size_t read = 0;
  while (read < rows) {
    Check(source.Poll(std::chrono::milliseconds(100)));
    if (source.Pending().can_take) {
      const Result<std::unique_ptr<ChangeBatch>> batch = source.Take();
      Check(batch.status());
      read += (*batch)->row_count;
      source.Confirm((*batch)->end.end_lsn);
    }
  }
  return read;
}

int Run(const std::string& url, size_t rows, size_t transaction_rows) {
  Result<std::unique_ptr<pg::Connection>> connected = pg::Connection::Connect(url, {});
  Check(connected.status());
  pg::Connection& admin = *connected.value();
  Prepare(admin);
  PostgresSourceConfig config{.url = url,
                              .tables = {"bench_capture.*"},
                              .slot = "bench_capture",
                              .publication = "bench_capture",
                              .snapshot_mode = SnapshotMode::kNever,
                              .staging_directory = "/tmp/millrace_bench_staging"};
  testing::MemorySourceState store;
  auto source = MakePostgresSource(config, telemetry::Logger());
  Check(source->Connect({}));
  Check(source->Start(store.state, store, {}));
  while (!source->Pending().can_take) {
    Check(source->Poll(std::chrono::milliseconds(100)));
  }
  const Result<std::unique_ptr<ChangeBatch>> first = source->Take();
  Check(first.status());
  store.state.position = (*first)->end;
  source->Close();
  Sql(admin, "SELECT pg_create_logical_replication_slot('bench_recvlogical', 'pgoutput')");
  Load(admin, rows, transaction_rows);
  const std::string end = Sql(admin, "SELECT pg_current_wal_lsn()");
  Sql(admin, "SELECT pg_logical_emit_message(true, 'bench', 'end'); CHECKPOINT");

  const std::string command = fmt::format(
      "pg_recvlogical -d '{}' -S bench_recvlogical --start -o proto_version=1 -o "
      "publication_names=bench_capture --endpos={} --no-loop -f /dev/null",
      url, end);
  double cpu = CpuSeconds(RUSAGE_CHILDREN);
  auto sender = std::make_unique<SenderCpu>(url, "bench_recvlogical");
  Clock::time_point start = Clock::now();
  const int exit_code = std::system(command.c_str());
  const double theirs = static_cast<double>(rows) / Seconds(start);
  fmt::print("pg_recvlogical    {:>9.0f} rows/s  {:.2f} CPU s  walsender {:.2f} CPU s  (exit {})\n",
             theirs, CpuSeconds(RUSAGE_CHILDREN) - cpu, sender->Stop(), exit_code);

  Check(source->Connect({}));
  Check(source->Start(store.state, store, {}));
  cpu = CpuSeconds(RUSAGE_SELF);
  sender = std::make_unique<SenderCpu>(url, config.slot);
  start = Clock::now();
  const size_t read = ReadAll(*source, rows);
  const double ours = static_cast<double>(read) / Seconds(start);
  fmt::print(
      "millrace source   {:>9.0f} rows/s  {:.2f} CPU s  walsender {:.2f} CPU s\nratio {:.2f}\n",
      ours, CpuSeconds(RUSAGE_SELF) - cpu, sender->Stop(), ours / theirs);
  source->Close();

  Check(DropPostgresSlot(config).status());
  Sql(admin,
      "SELECT pg_drop_replication_slot('bench_recvlogical'); DROP PUBLICATION bench_capture; "
      "DROP SCHEMA bench_capture CASCADE");
  return 0;
}

}  // namespace
}  // namespace millrace::sources::postgres

int main(int argc, char** argv) {
  const char* url = std::getenv("MILLRACE_TEST_POSTGRES_URL");
  if (url == nullptr) {
    fmt::print(stderr, "set MILLRACE_TEST_POSTGRES_URL to a server with wal_level logical\n");
    return 2;
  }
  const size_t rows = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  const size_t transaction_rows = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 10'000;
  return millrace::sources::postgres::Run(url, rows, transaction_rows);
}
