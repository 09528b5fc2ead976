// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <latch>

#include <httplib.h>

namespace millrace::admin {

// httplib::Server with what it lacks beside untrusted clients: a connection is bounded in time from
// its beginning (httplib bounds each read alone, so that one byte a second would hold a thread, and
// a stop, for ever) and in the bytes that are read (httplib stores a line of any length), and no
// more connections are accepted than there are threads to serve them.
//
// Lifecycle: bind_to_port() or bind_to_any_port(), listen_after_bind() in a thread of its own, from
// which the others inherit their name, WaitUntilStarted(), stop(). Connections end within time_max.
class BoundedHttpServer : public httplib::Server {
 public:
  BoundedHttpServer(size_t threads, std::chrono::milliseconds time_max, size_t request_bytes_max);

  // Blocks until listen_after_bind() can be stopped.
  void WaitUntilStarted() { started_.wait(); }

 private:
  bool process_and_close_socket(socket_t socket) override;

  // Constant after construction.
  const std::chrono::milliseconds time_max_;
  const size_t request_bytes_max_;

  std::latch started_{1};
};

}  // namespace millrace::admin
