// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>

#include "millrace/clients/redis/redis_url.h"
#include "millrace/common/result.h"

namespace millrace::redis {

// How a TLS server is checked and how we show who we are. Paths of PEM files; empty: not used.
struct TlsOptions {
  std::string ca_file;    // empty: the system's certificates
  std::string cert_file;  // with key_file: our own certificate
  std::string key_file;
  std::string server_name;  // the name that the certificate must have; empty: the URL's host
  bool verify = true;
};

using Deadline = std::chrono::steady_clock::time_point;

// A TCP connection, through TLS where the URL says so. Non-blocking: what would block is waited for
// in Wait(), which looks at its stop token ten times a second.
//
// Threads: one thread makes every call. With TLS that thread's SIGPIPE is blocked.
//
// Errors: kUnavailable when the peer cannot be reached or broke off, kTimedOut at the deadline,
// kCancelled at the stop, kFailedPrecondition for a certificate that is not accepted or a PEM file
// that cannot be read.
class RedisSocket {
 public:
  // Connects to the first of the host's addresses that answers. The name lookup itself heeds
  // neither deadline nor stop.
  static Result<std::unique_ptr<RedisSocket>> Connect(const RedisUrl& url, const TlsOptions& tls,
                                                      Deadline deadline, std::stop_token stop);
  ~RedisSocket();
  RedisSocket(const RedisSocket&) = delete;
  RedisSocket& operator=(const RedisSocket&) = delete;

  // The bytes written or read; 0 if the call would block. The peer's end is kUnavailable.
  Result<size_t> TryWrite(const char* bytes, size_t n);
  Result<size_t> TryRead(char* bytes, size_t n);

  // Waits until there is something to read, or with `or_write` room to write.
  Status Wait(bool or_write, Deadline deadline, const std::stop_token& stop);

 private:
  struct Tls;
  RedisSocket(int fd, std::string address);

  Status StartTls(const RedisUrl& url, const TlsOptions& options, Deadline deadline,
                  const std::stop_token& stop);
  Result<size_t> TlsResult(int result);
  Status Broken(int error_number) const;

  // Constant after Connect().
  const int fd_;
  const std::string address_;
  std::unique_ptr<Tls> tls_;
};

}  // namespace millrace::redis
