// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/status_client.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <httplib.h>
#include <nlohmann/json.hpp>

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

struct Answer {
  int status = 0;
  std::string body;
};

// Sends a GET, or with a body a POST of JSON; `what` is for messages.
Result<Answer> Ask(std::string host, int port, const std::string& token, const char* path,
                   const std::string& body, std::string_view purpose) {
  if (host.empty() || host == "0.0.0.0") {
    host = "127.0.0.1";
  } else if (host == "::") {
    host = "::1";
  }
  const std::string address = config::FormatListenAddress(host, port);
  const std::string what = fmt::format("ask http://{}{} {}", address, path, purpose);
  if (HasControlCharacter(token)) {
    return InvalidArgument(what + ": admin.token has a control character");
  }
  httplib::Client client(host, port);
  client.set_connection_timeout(kConnectSeconds);
  client.set_read_timeout(kAnswerSeconds);
  client.set_keep_alive(false);
  httplib::Request request;
  request.method = body.empty() ? "GET" : "POST";
  request.path = path;
  request.headers = {{"Host", address}};
  if (!token.empty()) {
    request.headers.emplace("Authorization", "Bearer " + token);
  }
  if (!body.empty()) {
    request.headers.emplace("Content-Type", "application/json");
    request.body = body;
  }
  Answer answer;
  bool is_too_long = false;
  request.content_receiver = [&](const char* data, size_t size, uint64_t, uint64_t) {
    is_too_long = answer.body.size() + size > kAnswerBytesMax;
    if (!is_too_long) {
      answer.body.append(data, size);
    }
    return !is_too_long;
  };
  const httplib::Result result = client.send(request);
  if (is_too_long) {
    return Corruption(what + ": the answer is too long; is another program on this port?");
  }
  if (!result) {
    return Unavailable(fmt::format("{}: no answer ({}); is `millrace run` running?", what,
                                   httplib::to_string(result.error())));
  }
  answer.status = result->status;
  if (answer.status == 401) {
    return PermissionDenied(what + ": the token is wrong; set admin.token as the pipeline has it");
  }
  if (answer.status != 200 && answer.status != 202 && answer.status != 400 &&
      answer.status != 409) {
    return Corruption(
        fmt::format("{}: HTTP {}; is another program on this port?", what, answer.status));
  }
  return answer;
}

// The sentence of an answer that says no.
Status Refusal(Answer answer) {
  while (answer.body.ends_with('\n')) {
    answer.body.pop_back();
  }
  return FailedPrecondition(std::move(answer.body));
}

}  // namespace

Result<std::string> FetchStatus(std::string host, int port, const std::string& token) {
  MR_ASSIGN_OR_RETURN(Answer answer,
                      Ask(std::move(host), port, token, "/api/v1/status", "", "for the status"));
  return std::move(answer.body);
}

Status RequestSnapshot(std::string host, int port, const std::string& token,
                       const std::string& table) {
  const std::string body = nlohmann::json{{"table", table}}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
  MR_ASSIGN_OR_RETURN(Answer answer, Ask(std::move(host), port, token, "/api/v1/snapshot", body,
                                         "to read a table again"));
  return answer.status == 202 ? Status::Ok() : Refusal(std::move(answer));
}

Result<std::string> RequestDeadLetters(std::string host, int port, const std::string& token,
                                       const std::string& request) {
  MR_ASSIGN_OR_RETURN(Answer answer, Ask(std::move(host), port, token, "/api/v1/dlq", request,
                                         "about dead letters"));
  if (answer.status != 200) {
    return Refusal(std::move(answer));
  }
  return std::move(answer.body);
}

}  // namespace millrace::admin
