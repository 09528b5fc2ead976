// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <string>

#include <httplib.h>

namespace millrace::admin {

// One accepted connection, for one request: bounded in time from its beginning and in the bytes
// that it reads, and ended at once by the stop descriptor. Owns the socket.
//
// Threads: one.
class HttpConnection : public httplib::Stream {
 public:
  // `stop_fd` becomes readable when the server stops.
  HttpConnection(int fd, int stop_fd, std::chrono::milliseconds time_max, size_t read_bytes_max);
  ~HttpConnection() override;
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return fd_; }

 private:
  // Waits for `events`. False at the deadline or when the server stops.
  bool Wait(int16_t events) const;

  // Constant after construction.
  const int fd_;
  const int stop_fd_;
  const std::chrono::steady_clock::time_point deadline_;

  size_t read_bytes_left_;
  std::array<char, 4096> buffer_{};
  size_t buffer_begin_ = 0;
  size_t buffer_end_ = 0;
};

}  // namespace millrace::admin
