// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/http/http_client.h"

#include <functional>
#include <thread>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace millrace::http {
namespace {

// A peer in this process that answers what a real server cannot be made to answer.
class FakePeer {
 public:
  // `serve` gets each connection, one at a time.
  explicit FakePeer(std::function<void(int connection)> serve) : serve_(std::move(serve)) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    socklen_t length = sizeof(address);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this] {
      for (int connection; (connection = accept(listener_, nullptr, nullptr)) >= 0;) {
        serve_(connection);
        close(connection);
      }
    });
  }
  ~FakePeer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }

  std::unique_ptr<HttpClient> MakeClient(
      std::chrono::milliseconds timeout = std::chrono::seconds(20),
      size_t response_bytes_max = 1000) const {
    HttpOptions options;
    options.url = *ParseHttpUrl("http://u:p%40ss@127.0.0.1:" + std::to_string(port_) + "/");
    options.request_timeout = timeout;
    options.response_bytes_max = response_bytes_max;
    return *HttpClient::Make(options);
  }

 private:
  std::function<void(int)> serve_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::jthread thread_;
};

// Reads one request with a Content-Length body; empty when the client hung up.
std::string ReadRequest(int connection) {
  std::string text;
  char bytes[4096];
  size_t whole = std::string::npos;
  while (text.size() < whole) {
    const ssize_t n = read(connection, bytes, sizeof(bytes));
    if (n <= 0) {
      return {};
    }
    text.append(bytes, static_cast<size_t>(n));
    const size_t head = text.find("\r\n\r\n");
    const size_t length = text.find("Content-Length: ");
    if (head != std::string::npos && length != std::string::npos) {
      whole = head + 4 + std::stoul(text.substr(length + 16));
    }
  }
  return text;
}

void Answer(int connection, std::string_view text) {
  EXPECT_EQ(write(connection, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

constexpr std::string_view kOk =
    "HTTP/1.1 200 OK\r\nX-Some-Header:  v \r\nContent-Length: 2\r\n\r\nhi";

TEST(ParseHttpUrl, DecodesUserAndPassword) {
  const Result<HttpUrl> url = ParseHttpUrl("https://u%40x:p%3Aw@db.example/path?a=b");
  ASSERT_TRUE(url.ok()) << url.status().ToString();
  EXPECT_EQ(url->user, "u@x");
  EXPECT_EQ(url->password, "p:w");
  EXPECT_EQ(url->port, "443");
  EXPECT_EQ(url->path, "/path");
  EXPECT_EQ(url->query, "a=b");
  EXPECT_EQ(url->ToString(), "https://db.example:443");
}

TEST(ParseHttpUrl, RefusesOthersAndKeepsSecrets) {
  for (const char* bad :
       {"redis://:secret@h", "http://:secret@", "secret", "http://u:secret@h:99999"}) {
    const Result<HttpUrl> url = ParseHttpUrl(bad);
    EXPECT_FALSE(url.ok()) << bad;
    EXPECT_EQ(url.status().message().find("secret"), std::string::npos) << url.status().message();
  }
}

TEST(HttpClient, SendsTheBuffersInOrderOverOneConnection) {
  std::vector<std::string> requests;
  int connections = 0;
  FakePeer peer([&](int connection) {
    ++connections;
    for (std::string request; !(request = ReadRequest(connection)).empty();) {
      requests.push_back(request);
      Answer(connection, kOk);
    }
  });
  {
    auto client = peer.MakeClient();
    HttpRequest request;
    request.query = {{"query", "INSERT INTO `a` & b"}};
    request.headers = {{"X-Mine", "1"}};
    request.body = {"abc", "", "def"};
    for (int i = 0; i < 2; ++i) {
      const Result<HttpResponse> response = client->Post(request, {});
      ASSERT_TRUE(response.ok()) << response.status().ToString();
      EXPECT_EQ(response->status, 200);
      EXPECT_EQ(response->body, "hi");
      EXPECT_EQ(response->Header("x-some-header"), "v");
      EXPECT_EQ(response->Header("none"), "");
    }
  }
  EXPECT_EQ(connections, 1);
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_NE(requests[0].find("POST /?query=INSERT%20INTO%20%60a%60%20%26%20b HTTP/1.1"),
            std::string::npos);
  EXPECT_NE(requests[0].find("X-Mine: 1\r\n"), std::string::npos);
  EXPECT_NE(requests[0].find("Authorization: Basic dTpwQHNz\r\n"), std::string::npos);
  EXPECT_TRUE(requests[1].ends_with("\r\n\r\nabcdef")) << requests[1];
}

TEST(HttpClient, SendsTheWholeBodyAgainOnceAnIdleConnectionIsGone) {
  std::vector<std::string> requests;
  FakePeer peer([&](int connection) {
    requests.push_back(ReadRequest(connection));
    Answer(connection, kOk);
  });
  auto client = peer.MakeClient();
  HttpRequest request;
  request.body = {"abc", "def"};
  ASSERT_TRUE(client->Post(request, {}).ok());
  const Result<HttpResponse> again = client->Post(request, {});
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_TRUE(requests[1].ends_with("\r\n\r\nabcdef")) << requests[1];
}

TEST(HttpClient, TellsACutConnectionFromNoAnswer) {
  FakePeer peer([&](int connection) {
    ReadRequest(connection);
    Answer(connection, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
  });
  EXPECT_EQ(peer.MakeClient()->Post({}, {}).status().code(), Code::kUnavailable);

  FakePeer silent([&](int connection) {
    ReadRequest(connection);
    ReadRequest(connection);  // until the client hangs up
  });
  EXPECT_EQ(silent.MakeClient(std::chrono::milliseconds(50))->Post({}, {}).status().code(),
            Code::kTimedOut);
}

TEST(HttpClient, StopEndsAWaitingRequest) {
  std::stop_source stop;
  FakePeer peer([&](int connection) {
    ReadRequest(connection);
    stop.request_stop();
    ReadRequest(connection);
  });
  auto client = peer.MakeClient();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(client->Post({}, stop.get_token()).status().code(), Code::kCancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
  EXPECT_EQ(client->Post({}, stop.get_token()).status().code(), Code::kCancelled);
}

TEST(HttpClient, BoundsTheAnswer) {
  FakePeer peer([&](int connection) {
    ReadRequest(connection);
    Answer(connection, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + std::string(99, 'x'));
  });
  auto client = peer.MakeClient(std::chrono::seconds(20), 98);
  EXPECT_EQ(client->Post({}, {}).status().code(), Code::kResourceExhausted);
}

TEST(HttpClient, NobodyListeningIsUnavailable) {
  HttpOptions options;
  options.url = *ParseHttpUrl("http://127.0.0.1:1/");
  EXPECT_EQ((*HttpClient::Make(options))->Post({}, {}).status().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace millrace::http
