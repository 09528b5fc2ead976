// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "millrace/common/result.h"
#include "millrace/common/status.h"
#include "millrace/pipeline/status_snapshot.h"
#include "millrace/telemetry/log.h"
#include "millrace/telemetry/metrics.h"

namespace millrace::admin {

struct AdminOptions {
  std::string host = "127.0.0.1";  // without brackets; empty: every IPv4 address
  int port = 7070;                 // 0: the system chooses
  std::string token;               // empty: none asked for; config allows that on loopback only
  // Has a table of the pipeline read again; empty: there is no pipeline yet. Called by the server's
  // threads.
  std::function<Status(const std::string& table)> read_again;
  // Answers a request about dead letters, JSON by JSON; empty: there is no pipeline yet. Called by
  // the server's threads.
  std::function<Result<std::string>(const std::string& request)> dead_letters;
  // A status older than this means that the pipeline no longer answers: not ready.
  std::chrono::milliseconds status_age_max{30'000};
};

// AdminServer answers over HTTP, one request a connection:
//
//   GET /               which paths there are
//   GET /healthz        200 while the process itself works, whatever its peers do
//   GET /readyz         200 if changes really flow; 503 and one sentence otherwise
//   GET /metrics        Prometheus' text format
//   GET /api/v1/status  the StatusSnapshot as JSON; see status_json.h
//   POST /api/v1/dlq    what an operator asks of the dead letters, as pipeline/dead_letter_desk.h
//                       has it; 200, or 409 and why not. JSON, as below.
//   POST /api/v1/snapshot  {"table": "schema.name"}: has the table read again; 202, or 409 and why
//                       not. The body is of type application/json, which no web page can send here
//                       without asking first.
//
// With a token every path but /healthz, /readyz and /metrics asks for `Authorization: Bearer
// TOKEN`. Without one, only requests whose Host header names loopback are answered: a web page that
// points its own name at this address (DNS rebinding) sends that name.
//
// Lifecycle: Start(), Stop(); the destructor stops too.
//
// Threads: any thread may call any method, one at a time. Five threads `mr-admin`: one accepts,
// four serve a connection each, for at most 2 s and 8 KiB of request; further ones wait in the
// kernel's queue.
class AdminServer {
 public:
  // `board` and `metrics` outlive the server.
  AdminServer(AdminOptions options, const pipeline::StatusBoard& board,
              const telemetry::MetricsRegistry& metrics, telemetry::Logger log);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // Listens. kFailedPrecondition or kPermissionDenied with the remedy if the address is taken or
  // not ours.
  Status Start();

  // The port that it listens on, also where the options said 0. REQUIRES: Start() succeeded.
  int port() const;

  // Finishes open connections, which takes 2 s at most. May be called more than once.
  void Stop();

 private:
  struct Rep;
  std::unique_ptr<Rep> rep_;
};

}  // namespace millrace::admin
