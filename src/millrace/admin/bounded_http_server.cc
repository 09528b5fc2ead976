// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/bounded_http_server.h"

#include <algorithm>
#include <cerrno>
#include <exception>
#include <functional>
#include <semaphore>
#include <string>
#include <utility>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace millrace::admin {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Accepting waits here for a free thread, so that the kernel's queue bounds what waits.
class BlockingThreadPool : public httplib::ThreadPool {
 public:
  explicit BlockingThreadPool(size_t threads)
      : httplib::ThreadPool(threads), free_(static_cast<std::ptrdiff_t>(threads)) {}

  void enqueue(std::function<void()> work) override {
    free_.acquire();
    httplib::ThreadPool::enqueue([this, work = std::move(work)] {
      work();
      free_.release();
    });
  }

 private:
  std::counting_semaphore<> free_;
};

// One connection, read and written until a deadline. Does not own the socket.
class BoundedStream : public httplib::Stream {
 public:
  BoundedStream(socket_t socket, milliseconds time_max, size_t read_bytes_max)
      : socket_(socket), deadline_(steady_clock::now() + time_max), bytes_left_(read_bytes_max) {}

  bool is_readable() const override { return Wait(POLLIN); }
  bool is_writable() const override { return Wait(POLLOUT); }
  ssize_t read(char* to, size_t size) override {
    if (bytes_left_ == 0 || !Wait(POLLIN)) {
      return -1;
    }
    const ssize_t n = recv(socket_, to, std::min(size, bytes_left_), MSG_DONTWAIT);
    bytes_left_ -= n > 0 ? static_cast<size_t>(n) : 0;
    return n;
  }
  ssize_t write(const char* from, size_t size) override {
    return Wait(POLLOUT) ? send(socket_, from, size, MSG_DONTWAIT | MSG_NOSIGNAL) : -1;
  }
  // No handler asks for these.
  void get_remote_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  void get_local_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  socket_t socket() const override { return socket_; }

 private:
  // False at the deadline.
  bool Wait(int16_t events) const {
    pollfd fd = {.fd = socket_, .events = events, .revents = 0};
    int ready = 0;
    do {
      const auto left = std::chrono::ceil<milliseconds>(deadline_ - steady_clock::now()).count();
      ready = left > 0 ? poll(&fd, 1, static_cast<int>(left)) : 0;
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
  }

  const socket_t socket_;
  const steady_clock::time_point deadline_;
  size_t bytes_left_;
};

}  // namespace

BoundedHttpServer::BoundedHttpServer(size_t threads, milliseconds time_max,
                                     size_t request_bytes_max)
    : time_max_(time_max), request_bytes_max_(request_bytes_max) {
  set_payload_max_length(request_bytes_max);
  // httplib's default lets several processes share the port.
  set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  });
  // httplib calls this once it listens.
  new_task_queue = [this, threads] {
    started_.count_down();
    return new BlockingThreadPool(threads);
  };
}

bool BoundedHttpServer::process_and_close_socket(socket_t socket) {
  bool is_answered = false;
  try {
    BoundedStream stream(socket, time_max_, request_bytes_max_);
    bool is_closed = svr_sock_ == INVALID_SOCKET;  // a stop: what was accepted last is not served
    is_answered = !is_closed && process_request(stream, /*close_connection=*/true, is_closed, {});
  } catch (const std::exception&) {
    // A malformed request must not end the process: it gets no answer.
    is_answered = false;
  }
  shutdown(socket, SHUT_RDWR);
  close(socket);
  return is_answered;
}

}  // namespace millrace::admin
