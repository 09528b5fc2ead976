// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace millrace::sinks::testing {

// A link between a sink and its server that a test can stall or cut: what goes to port() comes to
// the server, as `mode` says. For tests only; one thread moves all bytes.
class FaultyLink {
 public:
  enum class Mode {
    kPass,
    kStall,        // nothing moves, nothing is closed
    kRefuse,       // connections are closed at once
    kCutRequests,  // half of the first piece of a request goes through, then the connection is
                   // closed
  };

  FaultyLink(const std::string& host, const std::string& port) : host_(host), server_port_(port) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
        listen(listener_, 16) == 0) {
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
      port_ = ntohs(address.sin_port);
    }
    thread_ = std::jthread([this](std::stop_token stop) { Run(stop); });
  }
  FaultyLink(const FaultyLink&) = delete;
  FaultyLink& operator=(const FaultyLink&) = delete;
  ~FaultyLink() {
    thread_.request_stop();
    thread_.join();
    close(listener_);
  }

  uint16_t port() const { return port_; }
  // Holds for every byte that moves after the call.
  void SetMode(Mode mode) {
    mode_ = mode;
    const uint64_t wanted = ++generation_;
    for (uint64_t seen = seen_; seen < wanted; seen = seen_) {
      seen_.wait(seen);
    }
  }
  // Closes every connection that is open.
  void Cut() { cut_ = true; }
  // The next `n` requests go through, and at the first byte of the reply the connection is closed.
  void DropReplies(int n) { replies_to_drop_ = n; }
  // Blocks until bytes of a client wait behind kStall.
  void WaitForStalledBytes() const { has_stalled_bytes_.wait(false); }

 private:
  struct Link {
    int client = -1;
    int server = -1;
    bool closed = false;
  };

  void Run(std::stop_token stop) {
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
      poll(fds.data(), fds.size(), 5);
      if (mode == Mode::kStall) {
        NoticeStalledBytes();
      }
      if (cut_.exchange(false) || mode == Mode::kRefuse) {
        for (Link& link : links_) {
          link.closed = true;
        }
      }
      size_t i = 1;
      for (Link& link : links_) {
        if (!link.closed && mode != Mode::kStall) {
          MoveBytes(link, mode, fds[i].revents != 0, fds[i + 1].revents != 0);
        }
        i += 2;
      }
      links_.remove_if([](Link& link) { return link.closed && CloseLink(link); });
      if ((fds[0].revents & POLLIN) != 0) {
        Accept(mode);
      }
    }
    for (Link& link : links_) {
      CloseLink(link);
    }
  }

  void NoticeStalledBytes() {
    for (const Link& link : links_) {
      char byte = 0;
      if (recv(link.client, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
        has_stalled_bytes_ = true;
        has_stalled_bytes_.notify_all();
      }
    }
  }

  static bool CloseLink(Link& link) {
    close(link.client);
    close(link.server);
    return true;
  }

  void Accept(Mode mode) {
    const int client = accept(listener_, nullptr, nullptr);
    const int server = mode == Mode::kRefuse ? -1 : Connect();
    if (server < 0) {
      close(client);
      return;
    }
    links_.push_back({client, server});
  }

  int Connect() const {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (getaddrinfo(host_.c_str(), server_port_.c_str(), &hints, &found) != 0) {
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

  void MoveBytes(Link& link, Mode mode, bool from_client, bool from_server) {
    char bytes[1 << 16];
    if (from_client) {
      ssize_t n = recv(link.client, bytes, sizeof(bytes), 0);
      const bool cuts = mode == Mode::kCutRequests && n > 1;
      n = cuts ? n / 2 : n;
      link.closed = n <= 0 || !SendAll(link.server, bytes, static_cast<size_t>(n)) || cuts;
    }
    if (from_server && !link.closed) {
      const ssize_t n = recv(link.server, bytes, sizeof(bytes), 0);
      const bool drops = n > 0 && replies_to_drop_ > 0;
      link.closed = n <= 0 || drops || !SendAll(link.client, bytes, static_cast<size_t>(n));
      replies_to_drop_ -= drops ? 1 : 0;
    }
  }

  static bool SendAll(int fd, const char* bytes, size_t n) {
    while (n != 0) {
      const ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
      if (sent <= 0) {
        return false;
      }
      bytes += sent;
      n -= static_cast<size_t>(sent);
    }
    return true;
  }

  // Constant after construction.
  std::string host_;
  std::string server_port_;
  int listener_ = -1;
  uint16_t port_ = 0;

  std::atomic<Mode> mode_ = Mode::kPass;
  std::atomic<uint64_t> generation_ = 0;
  std::atomic<uint64_t> seen_ = 0;
  std::atomic<bool> cut_ = false;
  std::atomic<int> replies_to_drop_ = 0;
  std::atomic<bool> has_stalled_bytes_ = false;
  std::list<Link> links_;  // of thread_ only
  std::jthread thread_;
};

}  // namespace millrace::sinks::testing
