// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/testing/tcp_proxy.h"

#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "millrace/common/check.h"

namespace millrace::sinks::testing {

namespace {

constexpr int kPollMs = 50;
constexpr int kAnswerPolls = 200;  // 10 s

sockaddr_in Loopback(const std::string& host, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  MR_CHECK(::inet_pton(AF_INET, host.c_str(), &address.sin_addr) == 1);
  return address;
}

bool SendAll(int fd, const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) {
      return false;
    }
    sent += static_cast<size_t>(n);
  }
  return true;
}

// Empty at the end of the connection.
std::string ReceiveSome(int fd) {
  std::string bytes(64 << 10, '\0');
  const ssize_t n = ::recv(fd, bytes.data(), bytes.size(), 0);
  bytes.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return bytes;
}

bool IsReadable(int fd) {
  pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, kPollMs) > 0;
}

}  // namespace

TcpProxy::TcpProxy(std::string upstream_host, uint16_t upstream_port)
    : host_(std::move(upstream_host)), upstream_port_(upstream_port) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback("127.0.0.1", 0);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  MR_CHECK(::bind(listener_, generic, size) == 0 && ::listen(listener_, 8) == 0);
  MR_CHECK(::getsockname(listener_, generic, &size) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { Run(); });
}

TcpProxy::~TcpProxy() {
  stopping_ = true;
  thread_.join();
  ::close(listener_);
}

void TcpProxy::Arm(Mode mode, std::string trigger, std::string answer) {
  trigger_ = std::move(trigger);
  answer_ = std::move(answer);
  done_ = false;
  held_ = false;
  released_ = false;
  mode_ = mode;
}

void TcpProxy::Release() { released_ = true; }

void TcpProxy::WaitUntilHeld() {
  while (!held_) {
    std::this_thread::yield();
  }
}

void TcpProxy::WaitUntilDone() {
  while (!done_) {
    std::this_thread::yield();
  }
}

void TcpProxy::Run() {
  while (!stopping_) {
    if (!IsReadable(listener_)) {
      continue;
    }
    const int client = ::accept(listener_, nullptr, nullptr);
    const int upstream = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = Loopback(host_, upstream_port_);
    if (::connect(upstream, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
      Serve(client, upstream);
    }
    ::close(client);
    ::close(upstream);
  }
}

void TcpProxy::Serve(int client, int upstream) {
  while (!stopping_) {
    pollfd entries[2] = {{.fd = client, .events = POLLIN, .revents = 0},
                         {.fd = upstream, .events = POLLIN, .revents = 0}};
    if (::poll(entries, 2, kPollMs) <= 0) {
      continue;
    }
    if (entries[0].revents != 0 && !PassToServer(client, upstream)) {
      return;
    }
    if (entries[1].revents != 0) {
      const std::string bytes = ReceiveSome(upstream);
      if (bytes.empty() || !SendAll(client, bytes)) {
        return;
      }
    }
  }
}

// False when the connection is over.
bool TcpProxy::PassToServer(int client, int upstream) {
  const std::string bytes = ReceiveSome(client);
  if (bytes.empty()) {
    return false;
  }
  const size_t at = mode_ == Mode::kForward ? std::string::npos : bytes.find(trigger_);
  if (at == std::string::npos) {
    return SendAll(upstream, bytes);
  }
  const Mode mode = mode_.exchange(Mode::kForward);
  if (mode == Mode::kHold) {
    // What stands before the trigger goes on, so that the server has the whole of it but the end.
    SendAll(upstream, bytes.substr(0, at));
    held_ = true;
    while (!released_ && !stopping_) {
      std::this_thread::yield();
    }
    SendAll(upstream, bytes.substr(at));
    AwaitAnswer(upstream);
  } else if (mode == Mode::kCutAfter) {
    SendAll(upstream, bytes);
    AwaitAnswer(upstream);
  }
  done_ = true;
  return false;
}

void TcpProxy::AwaitAnswer(int upstream) {
  std::string seen;
  for (int i = 0; i < kAnswerPolls && seen.find(answer_) == std::string::npos; ++i) {
    if (!IsReadable(upstream)) {
      continue;
    }
    const std::string bytes = ReceiveSome(upstream);
    if (bytes.empty()) {
      return;
    }
    seen += bytes;
  }
}

}  // namespace millrace::sinks::testing
