// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/admin_server.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "millrace/admin/http_connection.h"
#include "millrace/admin/listen_address.h"
#include "millrace/admin/status_json.h"
#include "millrace/common/check.h"

namespace millrace::admin {
namespace {

using httplib::Request;
using httplib::Response;
using HandlerResponse = httplib::Server::HandlerResponse;

constexpr size_t kThreads = 4;
constexpr int kBacklog = 16;
constexpr std::chrono::milliseconds kConnectionTimeMax{5000};
// Enough for a GET with a token. What is read stays far below what could overflow the stack of the
// recursive matcher that HTTP ranges are parsed with.
constexpr size_t kRequestBytesMax = 8192;
// How long a thread waits when the process is out of file descriptors.
constexpr int kExhaustedWaitMs = 100;

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

std::string ErrorText(int error) { return std::generic_category().message(error); }

std::string ToLower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  return lower;
}

// The parser of httplib without its sockets and threads.
class RequestParser : public httplib::Server {
 public:
  void Serve(httplib::Stream& stream) {
    bool closed = false;
    process_request(stream, /*close_connection=*/true, closed, nullptr);
  }
};

Status BindError(const ListenAddress& address, int error) {
  const std::string what = fmt::format("listen on {}: {}", address.ToString(), ErrorText(error));
  switch (error) {
    case EADDRINUSE:
      return FailedPrecondition(
          what + "; stop the process that holds the port, or set admin.listen to another one");
    case EADDRNOTAVAIL:
      return FailedPrecondition(what + "; set admin.listen to an address of this machine");
    case EACCES:
      return PermissionDenied(what + "; set admin.listen to a port above 1023");
    default:
      return Unavailable(what);
  }
}

// A non-blocking socket that listens on `address`.
Result<int> Listen(const ListenAddress& address) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int failure =
      getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (failure != 0) {
    return FailedPrecondition(fmt::format("listen on {}: {}; set admin.listen to an address",
                                          address.ToString(), gai_strerror(failure)));
  }
  int error = EADDRNOTAVAIL;
  int listening = -1;
  for (const addrinfo* at = found; at != nullptr && listening < 0; at = at->ai_next) {
    const int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, kBacklog) == 0) {
      listening = fd;
      continue;
    }
    error = errno;
    if (fd >= 0) {
      close(fd);
    }
  }
  freeaddrinfo(found);
  if (listening < 0) {
    return BindError(address, error);
  }
  return listening;
}

uint16_t BoundPort(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  MR_CHECK(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  // sin_port and sin6_port stand at the same place.
  sockaddr_in v4{};
  std::memcpy(&v4, &address, sizeof(v4));
  return ntohs(v4.sin_port);
}

}  // namespace

struct AdminServer::Rep {
  Rep(AdminOptions o, const pipeline::StatusBoard& b, const telemetry::MetricsRegistry& m,
      telemetry::Logger l)
      : options(std::move(o)), board(b), metrics(m), log(std::move(l)) {
    for (const std::string& name : options.allowed_hosts) {
      allowed_hosts.push_back(ToLower(name));
    }
    allowed_hosts.emplace_back("localhost");
    AddRoutes();
  }

  void AddRoutes();
  HandlerResponse Guard(const Request& request, Response& response) const;
  bool IsAllowedHost(const Request& request) const;
  // Why changes do not flow; empty if they do.
  std::string NotReadyReason() const;
  void ServeUntilStop();
  void ServeConnection(int fd);

  // Constant after construction.
  const AdminOptions options;
  const pipeline::StatusBoard& board;
  const telemetry::MetricsRegistry& metrics;
  const telemetry::Logger log;

  // Constant while threads run.
  std::vector<std::string> allowed_hosts;  // lower case
  RequestParser parser;
  int listen_fd = -1;
  int stop_fd = -1;
  uint16_t port = 0;

  std::vector<std::jthread> threads;
};

void AdminServer::Rep::AddRoutes() {
  parser.set_default_headers(
      {{"Cache-Control", "no-store"}, {"X-Content-Type-Options", "nosniff"}});
  parser.set_payload_max_length(kRequestBytesMax);
  parser.set_pre_routing_handler(
      [this](const Request& request, Response& response) { return Guard(request, response); });
  parser.set_exception_handler([](const Request&, Response& response, const std::exception_ptr&) {
    response.status = 500;
    response.set_content("The request could not be answered.\n", kText);
  });
  parser.set_error_handler([](const Request&, Response& response) {
    if (response.body.empty()) {
      response.set_content(
          fmt::format("HTTP {}. GET / names the paths that there are.\n", response.status), kText);
    }
  });
  parser.Get("/", [this](const Request&, Response& response) {
    response.set_content(
        fmt::format("Millrace, pipeline {}\n\n"
                    "/healthz        200 while the process works\n"
                    "/readyz         200 if changes really flow, or 503 and why not\n"
                    "/metrics        numbers for Prometheus\n"
                    "/api/v1/status  source, streams and sinks as JSON\n",
                    board.Read()->pipeline),
        kText);
  });
  parser.Get("/healthz", [](const Request&, Response& response) {
    response.set_content("The process works.\n", kText);
  });
  parser.Get("/readyz", [this](const Request&, Response& response) {
    const std::string reason = NotReadyReason();
    response.status = reason.empty() ? 200 : 503;
    response.set_content((reason.empty() ? "Changes flow." : reason) + "\n", kText);
  });
  parser.Get("/metrics", [this](const Request&, Response& response) {
    response.set_content(metrics.RenderText(), "text/plain; version=0.0.4; charset=utf-8");
  });
  parser.Get("/api/v1/status", [this](const Request&, Response& response) {
    response.set_content(ToJson(*board.Read()) + "\n", "application/json");
  });
}

// Runs before every route.
HandlerResponse AdminServer::Rep::Guard(const Request& request, Response& response) const {
  const auto refuse = [&](int status, const std::string& sentence) {
    response.status = status;
    response.set_content(sentence + "\n", kText);
    return HandlerResponse::Handled;
  };
  if (!IsAllowedHost(request)) {
    return refuse(
        403,
        "This host name is not allowed: use an IP address or localhost, or add the name to "
        "admin.allowed_hosts.");
  }
  if (request.method != "GET" && request.method != "HEAD") {
    response.set_header("Allow", "GET, HEAD");
    return refuse(405, "Only GET and HEAD are answered.");
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

// A web page that points its own name at this address (DNS rebinding) sends that name as Host.
// Requests without Host are not a browser's.
bool AdminServer::Rep::IsAllowedHost(const Request& request) const {
  const size_t count = request.get_header_value_count("Host");
  if (count != 1) {
    return count == 0;
  }
  const std::string header = request.get_header_value("Host");
  const std::string host = ToLower(HostWithoutPort(header));
  return IsIpAddress(host) ||
         std::find(allowed_hosts.begin(), allowed_hosts.end(), host) != allowed_hosts.end();
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

void AdminServer::Rep::ServeUntilStop() {
  pthread_setname_np(pthread_self(), "mr-admin");
  while (true) {
    pollfd fds[2] = {{.fd = listen_fd, .events = POLLIN, .revents = 0},
                     {.fd = stop_fd, .events = POLLIN, .revents = 0}};
    if (poll(fds, 2, -1) < 0) {
      MR_CHECK(errno == EINTR);
      continue;
    }
    if (fds[1].revents != 0) {
      return;
    }
    const int fd = accept4(listen_fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      ServeConnection(fd);
      continue;
    }
    // Another thread may have taken the connection, or its client gone. The others mean that no
    // descriptor or memory is left, in which case the listening socket stays readable.
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      log.Warn("Admin connection cannot be accepted, will retry",
               {{"error", ErrorText(errno)}, {"wait_ms", kExhaustedWaitMs}});
      poll(&fds[1], 1, kExhaustedWaitMs);
    }
  }
}

void AdminServer::Rep::ServeConnection(int fd) {
  HttpConnection connection(fd, stop_fd, kConnectionTimeMax, kRequestBytesMax);
  try {
    parser.Serve(connection);
  } catch (const std::exception& error) {
    // A malformed request must not end the process. Its connection is closed without an answer.
    log.Warn("Admin request cannot be parsed", {{"error", error.what()}});
  }
}

AdminServer::AdminServer(AdminOptions options, const pipeline::StatusBoard& board,
                         const telemetry::MetricsRegistry& metrics, telemetry::Logger log)
    : rep_(std::make_unique<Rep>(std::move(options), board, metrics, std::move(log))) {}

AdminServer::~AdminServer() { Stop(); }

Status AdminServer::Start() {
  MR_CHECK(rep_->listen_fd < 0);
  MR_RETURN_IF_ERROR(ValidateAdminOptions(rep_->options));
  MR_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress(rep_->options.listen));
  MR_ASSIGN_OR_RETURN(const int listen_fd, Listen(address));
  rep_->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (rep_->stop_fd < 0) {
    close(listen_fd);
    return ResourceExhausted(fmt::format("start the admin server: {}", ErrorText(errno)));
  }
  rep_->listen_fd = listen_fd;
  rep_->port = BoundPort(listen_fd);
  rep_->allowed_hosts.push_back(ToLower(address.host));
  for (size_t i = 0; i < kThreads; ++i) {
    rep_->threads.emplace_back([rep = rep_.get()] { rep->ServeUntilStop(); });
  }
  rep_->log.Info("Admin server listens", {{"listen", address.ToString()}, {"port", rep_->port}});
  return Status::Ok();
}

uint16_t AdminServer::port() const { return rep_->port; }

void AdminServer::Stop() {
  if (rep_->listen_fd < 0) {
    return;
  }
  const uint64_t one = 1;
  MR_CHECK(write(rep_->stop_fd, &one, sizeof(one)) == sizeof(one));
  rep_->threads.clear();
  close(rep_->listen_fd);
  close(rep_->stop_fd);
  rep_->listen_fd = -1;
  rep_->stop_fd = -1;
}

}  // namespace millrace::admin
