// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/common/result.h"

namespace millrace::http {

// The parts of an http or https URL, percent-decoded but for `path` and `query`.
struct HttpUrl {
  std::string scheme;
  std::string host;
  std::string port;
  std::string user;      // empty: none
  std::string password;  // a secret
  std::string path;      // "/" at least
  std::string query;     // without '?'

  // Without user, password and query: for messages.
  std::string ToString() const;
};

// kInvalidArgument if `url` is not an http or https URL. The message does not repeat the URL, which
// may hold a password.
Result<HttpUrl> ParseHttpUrl(const std::string& url);

struct HttpOptions {
  HttpUrl url;
  std::chrono::milliseconds connect_timeout{10'000};
  // For one request from the first byte sent to the last one read.
  std::chrono::milliseconds request_timeout{300'000};
  // A longer answer is an error: nothing that a peer sends may fill the memory.
  size_t response_bytes_max = size_t{16} << 20;
  // https only. Empty: the system's certificates; no client certificate.
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
};

struct HttpRequest {
  std::vector<std::pair<std::string, std::string>> query;  // encoded by the client
  std::vector<std::pair<std::string, std::string>> headers;
  // Sent one after the other, without a copy. They outlive the call.
  std::vector<std::string_view> body;
  // Instead of HttpOptions::request_timeout; 0: that one.
  std::chrono::milliseconds timeout{0};
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  // Empty where there is none. `name` in lower case.
  std::string_view Header(const std::string& name) const;
};

// HttpClient sends requests to one server over a connection that it keeps, and makes again where it
// is gone. A connection that the server closed while idle is replaced without an error, and the
// request is sent again whole: what is sent here must bear a repeat.
//
// Threads: one at a time.
//
// Errors of the transport only; any HTTP status is a success here.
//   kUnavailable         no connection, or it broke: after that the outcome of the request is
//   unknown kTimedOut            no whole answer in time: the outcome is unknown
//   kFailedPrecondition  the certificate is not trusted, or a certificate file cannot be read
//   kCancelled           `stop` was asked for: the connection is dropped, the outcome is unknown
//   kResourceExhausted   the answer is longer than the bound
class HttpClient {
 public:
  static Result<std::unique_ptr<HttpClient>> Make(HttpOptions options);

  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  ~HttpClient();

  // Blocks until the whole answer is here, at most request_timeout, and returns at once on `stop`.
  Result<HttpResponse> Post(const HttpRequest& request, std::stop_token stop);

 private:
  class Impl;
  explicit HttpClient(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::http
