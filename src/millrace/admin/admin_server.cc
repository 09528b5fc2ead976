// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/admin_server.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <httplib.h>
#include <nlohmann/json.hpp>
#include <pthread.h>

#include "millrace/admin/bounded_http_server.h"
#include "millrace/admin/status_json.h"
#include "millrace/common/check.h"
#include "millrace/config/listen_address.h"

namespace millrace::admin {
namespace {

using httplib::Request;
using httplib::Response;
using HandlerResponse = httplib::Server::HandlerResponse;

constexpr size_t kThreads = 4;
constexpr std::chrono::milliseconds kConnectionTimeMax{2000};
// Enough for a GET with a token. What is read stays far below what could overflow the stack of the
// recursive matcher that HTTP ranges are parsed with.
constexpr size_t kRequestBytesMax = 8192;
constexpr const char* kSnapshotPath = "/api/v1/snapshot";
constexpr const char* kDeadLettersPath = "/api/v1/dlq";
constexpr const char* kJson = "application/json";
constexpr const char* kText = "text/plain; charset=utf-8";

// Takes as long whatever `given` is, but for its length.
bool EqualInConstantTime(std::string_view given, std::string_view secret) {
  size_t difference = given.size() ^ secret.size();
  for (size_t i = 0; i < given.size() && !secret.empty(); ++i) {
    difference |= static_cast<unsigned char>(given[i]) ^
                  static_cast<unsigned char>(secret[i % secret.size()]);
  }
  return difference == 0;
}

std::string ToLower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  return lower;
}

// A Host header without its port and brackets.
std::string HostName(const std::string& header) {
  if (header.starts_with('[')) {
    return header.substr(1, header.find(']') - 1);
  }
  return ToLower(header.substr(0, header.rfind(':')));
}

Status BindError(const std::string& address, int error) {
  const std::string what =
      fmt::format("listen on {}: {}", address,
                  error == 0 ? "no such address" : std::generic_category().message(error));
  switch (error) {
    case EADDRINUSE:
      return FailedPrecondition(
          what + "; stop the process that holds the port, or set admin.listen to another one");
    case EACCES:
      return PermissionDenied(what + "; set admin.listen to a port above 1023");
    default:
      return FailedPrecondition(what + "; set admin.listen to an address of this machine");
  }
}

}  // namespace

struct AdminServer::Rep {
  Rep(AdminOptions o, const pipeline::StatusBoard& b, const telemetry::MetricsRegistry& m,
      telemetry::Logger l)
      : options(std::move(o)), board(b), metrics(m), log(std::move(l)) {
    if (options.host.empty()) {
      options.host = "0.0.0.0";
    }
  }

  // A server with all routes that listens; a stopped one cannot start again.
  Result<std::unique_ptr<BoundedHttpServer>> Listen();
  void AddRoutes(BoundedHttpServer& to);
  HandlerResponse Guard(const Request& request, Response& response) const;
  Status ReadAgain(const Request& request) const;
  Result<std::string> AnswerDeadLetters(const Request& request) const;
  // Why changes do not flow; empty if they do.
  std::string NotReadyReason() const;

  // Constant after construction.
  AdminOptions options;
  const pipeline::StatusBoard& board;
  const telemetry::MetricsRegistry& metrics;
  const telemetry::Logger log;

  int port = 0;
  std::unique_ptr<BoundedHttpServer> server;  // between Start() and Stop()
  std::jthread thread;
};

Result<std::unique_ptr<BoundedHttpServer>> AdminServer::Rep::Listen() {
  auto listening =
      std::make_unique<BoundedHttpServer>(kThreads, kConnectionTimeMax, kRequestBytesMax);
  AddRoutes(*listening);
  errno = 0;
  if (options.port == 0) {
    port = listening->bind_to_any_port(options.host);
  } else {
    port = listening->bind_to_port(options.host, options.port) ? options.port : -1;
  }
  if (port < 0) {
    return BindError(config::FormatListenAddress(options.host, options.port), errno);
  }
  return listening;
}

void AdminServer::Rep::AddRoutes(BoundedHttpServer& to) {
  to.set_default_headers({{"Cache-Control", "no-store"}, {"X-Content-Type-Options", "nosniff"}});
  to.set_pre_routing_handler(
      [this](const Request& request, Response& response) { return Guard(request, response); });
  to.set_exception_handler([](const Request&, Response& response, const std::exception_ptr&) {
    response.status = 500;
    response.set_content("The request could not be answered.\n", kText);
  });
  to.set_error_handler([](const Request&, Response& response) {
    if (response.body.empty()) {
      response.set_content(
          fmt::format("HTTP {}. GET / names the paths that there are.\n", response.status), kText);
    }
  });
  to.Get("/", [this](const Request&, Response& response) {
    response.set_content(
        fmt::format("Millrace, pipeline {}\n\n"
                    "/healthz        200 while the process works\n"
                    "/readyz         200 if changes really flow, or 503 and why not\n"
                    "/metrics        numbers for Prometheus\n"
                    "/api/v1/status  source, streams and sinks as JSON\n"
                    "/api/v1/snapshot  POST {{\"table\": ...}}: read a table again\n"
                    "/api/v1/dlq     POST {{\"do\": \"list\"}}: dead letters\n",
                    board.Read()->pipeline),
        kText);
  });
  to.Get("/healthz", [](const Request&, Response& response) {
    response.set_content("The process works.\n", kText);
  });
  to.Get("/readyz", [this](const Request&, Response& response) {
    const std::string reason = NotReadyReason();
    response.status = reason.empty() ? 200 : 503;
    response.set_content((reason.empty() ? "Changes flow." : reason) + "\n", kText);
  });
  to.Get("/metrics", [this](const Request&, Response& response) {
    response.set_content(metrics.RenderText(), "text/plain; version=0.0.4; charset=utf-8");
  });
  to.Get("/api/v1/status", [this](const Request&, Response& response) {
    response.set_content(ToJson(*board.Read()) + "\n", kJson);
  });
  to.Post(kDeadLettersPath, [this](const Request& request, Response& response) {
    const Result<std::string> answer = AnswerDeadLetters(request);
    response.status = answer.ok()                                        ? 200
                      : answer.status().code() == Code::kInvalidArgument ? 400
                                                                         : 409;
    response.set_content((answer.ok() ? *answer : answer.status().message()) + "\n",
                         answer.ok() ? kJson : kText);
  });
  to.Post(kSnapshotPath, [this](const Request& request, Response& response) {
    const Status status = ReadAgain(request);
    response.status = status.ok() ? 202 : status.code() == Code::kInvalidArgument ? 400 : 409;
    response.set_content(
        (status.ok() ? "The table is being read again; /api/v1/status says how far."
                     : status.message()) +
            "\n",
        kText);
  });
}

Result<std::string> AdminServer::Rep::AnswerDeadLetters(const Request& request) const {
  if (request.get_header_value("Content-Type") != kJson) {
    return InvalidArgument("Send {\"do\": \"list\"} with Content-Type: application/json.");
  }
  if (!options.dead_letters) {
    return FailedPrecondition("the pipeline has not started yet: try again when it streams");
  }
  return options.dead_letters(request.body);
}

Status AdminServer::Rep::ReadAgain(const Request& request) const {
  if (request.get_header_value("Content-Type") != kJson) {
    return InvalidArgument(
        "Send {\"table\": \"schema.name\"} with Content-Type: application/json.");
  }
  const nlohmann::json body = nlohmann::json::parse(request.body, nullptr, false);
  if (!body.is_object() || !body.contains("table") || !body["table"].is_string()) {
    return InvalidArgument("Send {\"table\": \"schema.name\"}.");
  }
  if (!options.read_again) {
    return FailedPrecondition("the pipeline has not started yet: try again when it streams");
  }
  return options.read_again(body["table"].get<std::string>());
}

// Runs before every route.
HandlerResponse AdminServer::Rep::Guard(const Request& request, Response& response) const {
  const auto refuse = [&](int status, const std::string& sentence) {
    response.status = status;
    response.set_content(sentence + "\n", kText);
    return HandlerResponse::Handled;
  };
  if (options.token.empty() && request.has_header("Host") &&
      (request.get_header_value_count("Host") != 1 ||
       !config::IsLoopback(HostName(request.get_header_value("Host"))))) {
    return refuse(403, "Without admin.token only localhost, 127.0.0.1 and [::1] are answered.");
  }
  const bool is_command = request.method == "POST" &&
                          (request.path == kSnapshotPath || request.path == kDeadLettersPath);
  if (request.method != "GET" && request.method != "HEAD" && !is_command) {
    response.set_header("Allow", "GET, HEAD");
    return refuse(405, "Only GET and HEAD are answered here.");
  }
  const bool is_open =
      request.path == "/healthz" || request.path == "/readyz" || request.path == "/metrics";
  if (options.token.empty() || is_open) {
    return HandlerResponse::Unhandled;
  }
  constexpr std::string_view kScheme = "bearer ";
  const std::string given = request.get_header_value("Authorization");
  const bool has_scheme = ToLower(given.substr(0, kScheme.size())) == kScheme;
  if (!has_scheme ||
      !EqualInConstantTime(std::string_view(given).substr(kScheme.size()), options.token)) {
    response.set_header("WWW-Authenticate", "Bearer realm=\"millrace\"");
    return refuse(401, "Send admin.token as `Authorization: Bearer TOKEN`.");
  }
  return HandlerResponse::Unhandled;
}

std::string AdminServer::Rep::NotReadyReason() const {
  const auto status = board.Read();
  if (status->published_at == std::chrono::steady_clock::time_point{}) {
    return "The pipeline has not started yet.";
  }
  if (!status->ready) {
    return status->not_ready_reason.empty() ? "The pipeline is not ready."
                                            : status->not_ready_reason;
  }
  const auto age = std::chrono::steady_clock::now() - status->published_at;
  if (age > options.status_age_max) {
    return fmt::format("The pipeline has not reported for {} s.",
                       std::chrono::duration_cast<std::chrono::seconds>(age).count());
  }
  return "";
}

AdminServer::AdminServer(AdminOptions options, const pipeline::StatusBoard& board,
                         const telemetry::MetricsRegistry& metrics, telemetry::Logger log)
    : rep_(std::make_unique<Rep>(std::move(options), board, metrics, std::move(log))) {}

AdminServer::~AdminServer() { Stop(); }

Status AdminServer::Start() {
  MR_CHECK(rep_->server == nullptr);
  MR_ASSIGN_OR_RETURN(rep_->server, rep_->Listen());
  rep_->thread = std::jthread([server = rep_->server.get()] {
    pthread_setname_np(pthread_self(), "mr-admin");
    server->listen_after_bind();
  });
  rep_->server->WaitUntilStarted();
  rep_->log.Info("Admin server listens",
                 {{"listen", config::FormatListenAddress(rep_->options.host, rep_->port)}});
  return Status::Ok();
}

int AdminServer::port() const { return rep_->port; }

void AdminServer::Stop() {
  if (rep_->server != nullptr) {
    rep_->server->stop();
    rep_->thread.join();
    rep_->server.reset();
  }
}

}  // namespace millrace::admin
