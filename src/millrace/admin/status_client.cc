// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/status_client.h"

#include <algorithm>

#include <fmt/format.h>
#include <httplib.h>

#include "millrace/config/listen_address.h"

namespace millrace::admin {
namespace {

constexpr size_t kAnswerBytesMax = 16 << 20;
constexpr time_t kConnectSeconds = 2;
constexpr time_t kAnswerSeconds = 3;

// A token with these would end its header line.
bool HasControlCharacter(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

}  // namespace

Result<std::string> FetchStatus(std::string host, int port, const std::string& token) {
  if (host.empty() || host == "0.0.0.0") {
    host = "127.0.0.1";
  } else if (host == "::") {
    host = "::1";
  }
  const std::string address = config::FormatListenAddress(host, port);
  const std::string what = fmt::format("ask http://{}/api/v1/status for the status", address);
  if (HasControlCharacter(token)) {
    return InvalidArgument(what + ": admin.token has a control character");
  }
  httplib::Client client(host, port);
  client.set_connection_timeout(kConnectSeconds);
  client.set_read_timeout(kAnswerSeconds);
  client.set_keep_alive(false);
  httplib::Headers headers = {{"Host", address}};
  if (!token.empty()) {
    headers.emplace("Authorization", "Bearer " + token);
  }
  std::string body;
  bool is_too_long = false;
  const httplib::Result answer =
      client.Get("/api/v1/status", headers, [&](const char* data, size_t size) {
        is_too_long = body.size() + size > kAnswerBytesMax;
        if (!is_too_long) {
          body.append(data, size);
        }
        return !is_too_long;
      });
  if (is_too_long) {
    return Corruption(what + ": the answer is too long; is another program on this port?");
  }
  if (!answer) {
    return Unavailable(fmt::format("{}: no answer ({}); is `millrace run` running?", what,
                                   httplib::to_string(answer.error())));
  }
  if (answer->status == 401) {
    return PermissionDenied(what + ": the token is wrong; set admin.token as the pipeline has it");
  }
  if (answer->status != 200) {
    return Corruption(
        fmt::format("{}: HTTP {}; is another program on this port?", what, answer->status));
  }
  return body;
}

}  // namespace millrace::admin
