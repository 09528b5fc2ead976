// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/testing/tcp_proxy.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "millrace/common/check.h"

namespace millrace::sinks::testing {

namespace {

constexpr int kPollMs = 5;
constexpr int kAnswerPollMs = 50;
constexpr int kAnswerPolls = 200;  // 10 s

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) {
      return false;
    }
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// Empty at the end of the connection.
std::string ReceiveSome(int fd) {
  std::string bytes(64 << 10, '\0');
  const ssize_t n = recv(fd, bytes.data(), bytes.size(), 0);
  bytes.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return bytes;
}

void Set(std::atomic<bool>& flag) {
  flag = true;
  flag.notify_all();
}

}  // namespace

TcpProxy::TcpProxy(std::string server_host, std::string server_port)
    : server_host_(std::move(server_host)), server_port_(std::move(server_port)) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  MR_CHECK(bind(listener_, generic, size) == 0 && listen(listener_, 16) == 0);
  MR_CHECK(getsockname(listener_, generic, &size) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

TcpProxy::~TcpProxy() {
  thread_.request_stop();
  Release();
  thread_.join();
  close(listener_);
}

void TcpProxy::SetMode(Mode mode) {
  mode_ = mode;
  const uint64_t wanted = ++generation_;
  for (uint64_t seen = seen_; seen < wanted; seen = seen_) {
    seen_.wait(seen);
  }
}

void TcpProxy::Arm(Break kind, std::string trigger, std::string answer) {
  break_ = kind;
  trigger_ = std::move(trigger);
  answer_ = std::move(answer);
  held_ = false;
  released_ = false;
  done_ = false;
  armed_ = true;
}

void TcpProxy::Release() { Set(released_); }

void TcpProxy::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const uint64_t generation = generation_;
    const Mode mode = mode_;
    seen_ = generation;
    seen_.notify_all();
    std::vector<pollfd> fds = {{listener_, POLLIN, 0}};
    for (const Link& link : links_) {
      const auto events = static_cast<int16_t>(mode == Mode::kStall ? 0 : POLLIN);
      fds.push_back({link.client, events, 0});
      fds.push_back({link.server, events, 0});
    }
    poll(fds.data(), fds.size(), kPollMs);
    if (mode == Mode::kStall) {
      NoticeStalledBytes();
    }
    const bool closes_all = cut_.exchange(false) || mode == Mode::kRefuse;
    size_t i = 1;
    for (Link& link : links_) {
      link.closed = closes_all;
      if (!link.closed && mode != Mode::kStall && fds[i].revents != 0) {
        PassRequest(link, mode);
      }
      if (!link.closed && mode != Mode::kStall && fds[i + 1].revents != 0) {
        PassReply(link);
      }
      i += 2;
    }
    links_.remove_if([](const Link& link) {
      if (link.closed) {
        close(link.client);
        close(link.server);
      }
      return link.closed;
    });
    if ((fds[0].revents & POLLIN) != 0) {
      Accept(mode);
    }
  }
  for (const Link& link : links_) {
    close(link.client);
    close(link.server);
  }
}

void TcpProxy::NoticeStalledBytes() {
  for (const Link& link : links_) {
    char byte = 0;
    if (recv(link.client, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
      Set(has_stalled_bytes_);
    }
  }
}

void TcpProxy::Accept(Mode mode) {
  const int client = accept(listener_, nullptr, nullptr);
  const int server = mode == Mode::kRefuse ? -1 : Connect();
  if (server < 0) {
    close(client);
    return;
  }
  links_.push_back({client, server});
}

int TcpProxy::Connect() const {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(server_host_.c_str(), server_port_.c_str(), &hints, &found) != 0) {
    return -1;
  }
  int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
    close(fd);
    fd = -1;
  }
  freeaddrinfo(found);
  return fd;
}

void TcpProxy::PassRequest(Link& link, Mode mode) {
  std::string bytes = ReceiveSome(link.client);
  if (bytes.empty()) {
    link.closed = true;
    return;
  }
  if (armed_) {
    if (const size_t at = bytes.find(trigger_); at != std::string::npos) {
      BreakAt(link, bytes, at);
      link.closed = true;
      return;
    }
  }
  bool cuts = mode == Mode::kCutRequests && bytes.size() > 1;
  bytes.resize(cuts ? bytes.size() / 2 : bytes.size());
  if (const int64_t left = request_bytes_left_; left >= 0) {
    const auto size = static_cast<int64_t>(bytes.size());
    cuts = size >= left;
    bytes.resize(static_cast<size_t>(std::min(size, left)));
    request_bytes_left_ = cuts ? -1 : left - size;
  }
  request_bytes_ += static_cast<int64_t>(bytes.size());
  link.closed = !SendAll(link.server, bytes) || cuts;
}

void TcpProxy::PassReply(Link& link) {
  const std::string bytes = ReceiveSome(link.server);
  const bool drops = !bytes.empty() && replies_to_drop_ > 0;
  replies_to_drop_ -= drops ? 1 : 0;
  link.closed = bytes.empty() || drops || !SendAll(link.client, bytes);
}

void TcpProxy::BreakAt(const Link& link, const std::string& bytes, size_t at) {
  armed_ = false;
  if (break_ == Break::kHold) {
    // What stands before the trigger goes on, so that the server has the whole of it but the end.
    SendAll(link.server, bytes.substr(0, at));
    Set(held_);
    released_.wait(false);
    SendAll(link.server, bytes.substr(at));
  } else if (break_ == Break::kCutAfter) {
    SendAll(link.server, bytes);
  }
  if (break_ != Break::kCutBefore) {
    AwaitAnswer(link.server);
  }
  Set(done_);
}

void TcpProxy::AwaitAnswer(int server) const {
  std::string seen;
  for (int i = 0; i < kAnswerPolls && seen.find(answer_) == std::string::npos; ++i) {
    pollfd fd = {.fd = server, .events = POLLIN, .revents = 0};
    if (poll(&fd, 1, kAnswerPollMs) <= 0) {
      continue;
    }
    const std::string bytes = ReceiveSome(server);
    if (bytes.empty()) {
      return;
    }
    seen += bytes;
  }
}

}  // namespace millrace::sinks::testing
