// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/redis/redis_socket.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

namespace millrace::redis {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// The longest that a stop goes unseen.
constexpr milliseconds kPollSlice{100};

std::string ErrorText(int error_number) {
  return std::error_code(error_number, std::generic_category()).message();
}

// Polls `fd` in slices.
Status PollUntil(int fd, short events, Deadline deadline, const std::stop_token& stop,
                 const std::string& address) {
  while (true) {
    if (stop.stop_requested()) {
      return Cancelled("asked to stop");
    }
    const auto left =
        std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now()) + milliseconds(1);
    if (left <= milliseconds(0)) {
      return TimedOut(fmt::format("no answer from Redis at {} in time", address));
    }
    pollfd entry = {.fd = fd, .events = events, .revents = 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::min(left, kPollSlice).count()));
    if (ready > 0) {
      return Status::Ok();
    }
    if (ready < 0 && errno != EINTR) {
      return Unavailable(fmt::format("poll Redis at {}: {}", address, ErrorText(errno)));
    }
  }
}

// Connects one address. Gives the descriptor.
Result<int> ConnectAddress(const addrinfo& info, Deadline deadline, const std::stop_token& stop,
                           const std::string& address) {
  const int fd =
      ::socket(info.ai_family, info.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, info.ai_protocol);
  if (fd < 0) {
    return Unavailable(fmt::format("make a socket: {}", ErrorText(errno)));
  }
  int error = ::connect(fd, info.ai_addr, info.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    const Status connected = PollUntil(fd, POLLOUT, deadline, stop, address);
    if (!connected.ok()) {
      ::close(fd);
      return connected;
    }
    socklen_t size = sizeof(error);
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
      error = errno;
    }
  }
  if (error != 0) {
    ::close(fd);
    return Unavailable(fmt::format("connect to Redis at {}: {}", address, ErrorText(error)));
  }
  const int on = 1;
  // Without them it works all the same: later notice of a dead peer, and small delays.
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  (void)::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  return fd;
}

Result<int> ConnectHost(const RedisUrl& url, Deadline deadline, const std::stop_token& stop) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(url.host.c_str(), std::to_string(url.port).c_str(), &hints, &found);
  if (error != 0) {
    return Unavailable(
        fmt::format("look up Redis' host '{}': {}", url.host, ::gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, ::freeaddrinfo);
  Status last = Unavailable(fmt::format("Redis' host '{}' has no address", url.host));
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    Result<int> fd = ConnectAddress(*info, deadline, stop, url.Address());
    if (fd.ok() || fd.status().code() == Code::kCancelled) {
      return fd;
    }
    last = fd.status();
  }
  return last;
}

// The oldest error of this thread's OpenSSL queue, which is emptied.
std::string TlsErrorText() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "the peer broke off" : reason;
}

void BlockSigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

bool IsAddress(const std::string& host) {
  ASN1_OCTET_STRING* address = a2i_IPADDRESS(host.c_str());
  ASN1_OCTET_STRING_free(address);
  return address != nullptr;
}

}  // namespace

struct RedisSocket::Tls {
  ~Tls() {
    SSL_free(ssl);
    SSL_CTX_free(context);
  }
  SSL_CTX* context = nullptr;
  SSL* ssl = nullptr;
  bool wants_write = false;  // what the last call that would block waits for
};

RedisSocket::RedisSocket(int fd, std::string address) : fd_(fd), address_(std::move(address)) {}

RedisSocket::~RedisSocket() {
  tls_.reset();
  ::close(fd_);
}

Result<std::unique_ptr<RedisSocket>> RedisSocket::Connect(const RedisUrl& url,
                                                          const TlsOptions& tls, Deadline deadline,
                                                          std::stop_token stop) {
  MR_ASSIGN_OR_RETURN(const int fd, ConnectHost(url, deadline, stop));
  std::unique_ptr<RedisSocket> socket(new RedisSocket(fd, url.Address()));
  if (url.tls) {
    MR_RETURN_IF_ERROR(socket->StartTls(url, tls, deadline, stop));
  }
  return socket;
}

Status RedisSocket::StartTls(const RedisUrl& url, const TlsOptions& options, Deadline deadline,
                             const std::stop_token& stop) {
  BlockSigpipe();
  tls_ = std::make_unique<Tls>();
  tls_->context = SSL_CTX_new(TLS_client_method());
  SSL_CTX* context = tls_->context;
  if (context == nullptr) {
    return Internal("make a TLS context: " + TlsErrorText());
  }
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_verify(context, options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  const bool has_ca = options.ca_file.empty() ? SSL_CTX_set_default_verify_paths(context) == 1
                                              : SSL_CTX_load_verify_locations(
                                                    context, options.ca_file.c_str(), nullptr) == 1;
  if (!has_ca) {
    return FailedPrecondition(fmt::format("read the certificates in tls.ca_file '{}': {}",
                                          options.ca_file, TlsErrorText()));
  }
  if (!options.cert_file.empty() &&
      (SSL_CTX_use_certificate_chain_file(context, options.cert_file.c_str()) != 1 ||
       SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1)) {
    return FailedPrecondition(fmt::format("read tls.cert_file '{}' and its key_file: {}",
                                          options.cert_file, TlsErrorText()));
  }
  tls_->ssl = SSL_new(context);
  if (tls_->ssl == nullptr || SSL_set_fd(tls_->ssl, fd_) != 1) {
    return Internal("make a TLS session: " + TlsErrorText());
  }
  const std::string& name = options.server_name.empty() ? url.host : options.server_name;
  if (IsAddress(name)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls_->ssl), name.c_str());
  } else {
    SSL_set_tlsext_host_name(tls_->ssl, name.c_str());
    SSL_set1_host(tls_->ssl, name.c_str());
  }
  while (true) {
    ERR_clear_error();
    const int result = SSL_connect(tls_->ssl);
    if (result == 1) {
      return Status::Ok();
    }
    const long verified = SSL_get_verify_result(tls_->ssl);
    if (options.verify && verified != X509_V_OK) {
      return FailedPrecondition(fmt::format("the certificate of Redis at {} is not accepted: {}",
                                            address_, X509_verify_cert_error_string(verified)));
    }
    MR_RETURN_IF_ERROR(TlsResult(result).status().WithContext("TLS handshake"));
    MR_RETURN_IF_ERROR(Wait(/*or_write=*/false, deadline, stop));
  }
}

// 0 for what would block.
Result<size_t> RedisSocket::TlsResult(int result) {
  if (result > 0) {
    return static_cast<size_t>(result);
  }
  const int saved_errno = errno;
  switch (SSL_get_error(tls_->ssl, result)) {
    case SSL_ERROR_WANT_READ:
      tls_->wants_write = false;
      return size_t{0};
    case SSL_ERROR_WANT_WRITE:
      tls_->wants_write = true;
      return size_t{0};
    case SSL_ERROR_ZERO_RETURN:
      return Broken(0);
    case SSL_ERROR_SYSCALL:
      ERR_clear_error();
      return Broken(saved_errno);
    default:
      return Unavailable(fmt::format("TLS with Redis at {}: {}", address_, TlsErrorText()));
  }
}

Status RedisSocket::Broken(int error_number) const {
  return Unavailable(
      fmt::format("Redis at {} broke off: {}", address_,
                  error_number == 0 ? "the connection was closed" : ErrorText(error_number)));
}

Result<size_t> RedisSocket::TryWrite(const char* bytes, size_t n) {
  if (tls_ != nullptr) {
    ERR_clear_error();
    return TlsResult(SSL_write(tls_->ssl, bytes, static_cast<int>(std::min<size_t>(n, INT_MAX))));
  }
  const ssize_t written = ::send(fd_, bytes, n, MSG_NOSIGNAL);
  if (written >= 0) {
    return static_cast<size_t>(written);
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
    return size_t{0};
  }
  return Broken(errno);
}

Result<size_t> RedisSocket::TryRead(char* bytes, size_t n) {
  if (tls_ != nullptr) {
    ERR_clear_error();
    return TlsResult(SSL_read(tls_->ssl, bytes, static_cast<int>(std::min<size_t>(n, INT_MAX))));
  }
  const ssize_t got = ::recv(fd_, bytes, n, 0);
  if (got > 0) {
    return static_cast<size_t>(got);
  }
  if (got == 0) {
    return Broken(0);
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
    return size_t{0};
  }
  return Broken(errno);
}

Status RedisSocket::Wait(bool or_write, Deadline deadline, const std::stop_token& stop) {
  const bool write = tls_ != nullptr ? tls_->wants_write : or_write;
  const auto events = static_cast<short>(POLLIN | (write ? POLLOUT : 0));
  return PollUntil(fd_, events, deadline, stop, address_);
}

}  // namespace millrace::redis
