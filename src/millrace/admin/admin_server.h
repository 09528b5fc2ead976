// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "millrace/admin/admin_config.h"
#include "millrace/common/status.h"
#include "millrace/pipeline/status_snapshot.h"
#include "millrace/telemetry/log.h"
#include "millrace/telemetry/metrics.h"

namespace millrace::admin {

// AdminServer answers over HTTP, one request a connection:
//
//   GET /               which paths there are
//   GET /healthz        200 while the process itself works, whatever its peers do
//   GET /readyz         200 if changes really flow; 503 and one sentence otherwise
//   GET /metrics        Prometheus' text format
//   GET /api/v1/status  the StatusSnapshot as JSON; see status_json.h
//
// With a token every path but /healthz, /readyz and /metrics asks for `Authorization: Bearer
// TOKEN`. A Host header that is neither an address, localhost, the host of `listen` nor allowed is
// refused.
//
// Lifecycle: Start(), Stop(); the destructor stops too.
//
// Threads: any thread may call any method, one at a time. Four threads `mr-admin` serve one
// connection each, for at most 5 s and 8 KiB of request; further ones wait in the kernel's queue.
class AdminServer {
 public:
  // `board` and `metrics` outlive the server.
  AdminServer(AdminOptions options, const pipeline::StatusBoard& board,
              const telemetry::MetricsRegistry& metrics, telemetry::Logger log);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // Listens. kInvalidArgument for options that ValidateAdminOptions() refuses; kFailedPrecondition
  // or kPermissionDenied with the remedy if the address is taken or not ours.
  Status Start();

  // The port that it listens on, also where `listen` said 0. REQUIRES: Start() succeeded.
  uint16_t port() const;

  // Ends open connections and returns in less than a second. May be called more than once.
  void Stop();

 private:
  struct Rep;
  std::unique_ptr<Rep> rep_;
};

}  // namespace millrace::admin
