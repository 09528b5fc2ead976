// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/http_connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace millrace::admin {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

void FormatPeer(const sockaddr_storage& address, std::string& ip, int& port) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof(v4));
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    port = ntohs(v4.sin_port);
  } else if (address.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof(v6));
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
    port = ntohs(v6.sin6_port);
  }
  ip = text;
}

}  // namespace

HttpConnection::HttpConnection(int fd, int stop_fd, milliseconds time_max, size_t read_bytes_max)
    : fd_(fd),
      stop_fd_(stop_fd),
      deadline_(steady_clock::now() + time_max),
      read_bytes_left_(read_bytes_max) {}

HttpConnection::~HttpConnection() {
  shutdown(fd_, SHUT_RDWR);
  close(fd_);
}

bool HttpConnection::Wait(int16_t events) const {
  while (true) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline_ - steady_clock::now());
    if (left.count() <= 0) {
      return false;
    }
    pollfd fds[2] = {{.fd = fd_, .events = events, .revents = 0},
                     {.fd = stop_fd_, .events = POLLIN, .revents = 0}};
    const int ready = poll(fds, 2, static_cast<int>(left.count()));
    if (ready < 0 && errno == EINTR) {
      continue;
    }
    return ready > 0 && fds[1].revents == 0;
  }
}

bool HttpConnection::is_readable() const { return buffer_begin_ < buffer_end_ || Wait(POLLIN); }

bool HttpConnection::is_writable() const { return Wait(POLLOUT); }

ssize_t HttpConnection::read(char* to, size_t size) {
  if (buffer_begin_ == buffer_end_) {
    if (read_bytes_left_ == 0) {
      return -1;
    }
    ssize_t got = -1;
    do {
      if (!Wait(POLLIN)) {
        return -1;
      }
      got = recv(fd_, buffer_.data(), std::min(buffer_.size(), read_bytes_left_), MSG_DONTWAIT);
    } while (got < 0 && (errno == EAGAIN || errno == EINTR));
    if (got <= 0) {
      return got;
    }
    read_bytes_left_ -= static_cast<size_t>(got);
    buffer_begin_ = 0;
    buffer_end_ = static_cast<size_t>(got);
  }
  const size_t n = std::min(size, buffer_end_ - buffer_begin_);
  std::memcpy(to, buffer_.data() + buffer_begin_, n);
  buffer_begin_ += n;
  return static_cast<ssize_t>(n);
}

ssize_t HttpConnection::write(const char* from, size_t size) {
  while (Wait(POLLOUT)) {
    const ssize_t sent = send(fd_, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0 || (errno != EAGAIN && errno != EINTR)) {
      return sent;
    }
  }
  return -1;
}

void HttpConnection::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getpeername(fd_, reinterpret_cast<sockaddr*>(&address), &length) == 0) {
    FormatPeer(address, ip, port);
  }
}

void HttpConnection::get_local_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) == 0) {
    FormatPeer(address, ip, port);
  }
}

}  // namespace millrace::admin
