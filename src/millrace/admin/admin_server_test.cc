// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/admin_server.h"

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <unistd.h>

namespace millrace::admin {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A TCP connection to the server under test.
class TestClient {
 public:
  explicit TestClient(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ~TestClient() { close(fd_); }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  bool Send(const std::string& bytes) {
    return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  void EndSending() { shutdown(fd_, SHUT_WR); }
  // Until the server closes.
  std::string Receive() {
    std::string all;
    std::array<char, 4096> piece{};
    for (ssize_t n = 0; (n = recv(fd_, piece.data(), piece.size(), 0)) > 0;) {
      all.append(piece.data(), static_cast<size_t>(n));
    }
    return all;
  }

 private:
  int fd_;
};

class AdminServerTest : public testing::Test {
 protected:
  AdminServer& Start(AdminOptions options = {}) {
    options.port = 0;
    server_ =
        std::make_unique<AdminServer>(std::move(options), board_, metrics_, telemetry::Logger());
    const Status status = server_->Start();
    EXPECT_TRUE(status.ok()) << status.ToString();
    return *server_;
  }

  std::string Exchange(const std::string& request) {
    TestClient client(server_->port());
    client.Send(request);
    client.EndSending();
    return client.Receive();
  }
  std::string Get(const std::string& path, const std::string& headers = "Host: 127.0.0.1\r\n") {
    return Exchange("GET " + path + " HTTP/1.1\r\n" + headers + "\r\n");
  }

  pipeline::StatusBoard board_;
  telemetry::MetricsRegistry metrics_{"engagement"};
  std::unique_ptr<AdminServer> server_;
};

TEST_F(AdminServerTest, HealthzIsFineWhateverThePipelineDoes) {
  Start();
  const std::string answer = Get("/healthz");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nThe process works.\n"));
}

TEST_F(AdminServerTest, ReadyzSaysWhyNot) {
  Start();
  EXPECT_THAT(Get("/readyz"), HasSubstr("The pipeline has not started yet.\n"));
  board_.Publish({.not_ready_reason = "Sink 'live' does not answer."});
  const std::string answer = Get("/readyz");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\nSink 'live' does not answer.\n"));
  board_.Publish({.ready = true});
  EXPECT_THAT(Get("/readyz"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(AdminServerTest, AnOldStatusIsNotReady) {
  Start({.status_age_max = milliseconds(-1)});
  board_.Publish({.ready = true});
  const std::string answer = Get("/readyz");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(answer, HasSubstr("The pipeline has not reported for 0 s.\n"));
}

TEST_F(AdminServerTest, MetricsArePrometheusText) {
  Start();
  metrics_.GetGauge(telemetry::metric::kReady).Set(1);
  const std::string answer = Get("/metrics");
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(answer, HasSubstr("millrace_ready{pipeline=\"engagement\"} 1\n"));
}

TEST_F(AdminServerTest, StatusIsJson) {
  Start();
  board_.Publish({.pipeline = "engagement", .state = "streaming"});
  const std::string answer = Get("/api/v1/status");
  EXPECT_THAT(answer, HasSubstr("Content-Type: application/json\r\n"));
  const auto json = nlohmann::json::parse(answer.substr(answer.find("\r\n\r\n") + 4));
  EXPECT_EQ(json["pipeline"], "engagement");
  EXPECT_EQ(json["state"], "streaming");
}

TEST_F(AdminServerTest, TheRootNamesThePaths) {
  Start();
  board_.Publish({.pipeline = "engagement"});
  const std::string answer = Get("/");
  for (const char* text :
       {"pipeline engagement", "/healthz", "/readyz", "/metrics", "/api/v1/status"}) {
    EXPECT_THAT(answer, HasSubstr(text));
  }
  EXPECT_THAT(Get("/nothing"), StartsWith("HTTP/1.1 404 "));
}

TEST_F(AdminServerTest, TheTokenGuardsAllButProbesAndMetrics) {
  Start({.token = "s3cret"});
  const std::string host = "Host: localhost\r\n";
  for (const char* path : {"/healthz", "/metrics"}) {
    EXPECT_THAT(Get(path), StartsWith("HTTP/1.1 200 ")) << path;
  }
  EXPECT_THAT(Get("/readyz"), StartsWith("HTTP/1.1 503 "));
  for (const char* path : {"/", "/api/v1/status", "/nothing", "/healthz/", "//healthz"}) {
    EXPECT_THAT(Get(path), StartsWith("HTTP/1.1 401 ")) << path;
  }
  for (const char* wrong : {"Bearer s3cre", "Bearer s3crets", "Bearer ", "Bearer", "s3cret",
                            "Basic s3cret", "Bearer S3CRET", "Bearer s3crets3cret"}) {
    EXPECT_THAT(Get("/api/v1/status", host + "Authorization: " + wrong + "\r\n"),
                StartsWith("HTTP/1.1 401 "))
        << wrong;
  }
  for (const char* right : {"Bearer s3cret", "bearer s3cret"}) {
    EXPECT_THAT(Get("/api/v1/status", host + "Authorization: " + right + "\r\n"),
                StartsWith("HTTP/1.1 200 "))
        << right;
  }
  EXPECT_THAT(Get("/"), HasSubstr("WWW-Authenticate: Bearer realm=\"millrace\"\r\n"));
  EXPECT_THAT(Get("/"), Not(HasSubstr("s3cret")));
}

TEST_F(AdminServerTest, WithoutATokenOtherHostNamesAreRefused) {
  Start();
  for (const char* host :
       {"127.0.0.1", "127.0.0.1:7070", "[::1]:7070", "[::1]", "localhost", "LOCALHOST:80"}) {
    EXPECT_THAT(Get("/healthz", std::string("Host: ") + host + "\r\n"), StartsWith("HTTP/1.1 200 "))
        << host;
  }
  for (const char* host : {"evil.example", "evil.example:7070", "127.0.0.1.evil.example",
                           "localhost.evil.example", "[evil.example]"}) {
    EXPECT_THAT(Get("/healthz", std::string("Host: ") + host + "\r\n"), StartsWith("HTTP/1.1 403 "))
        << host;
  }
  EXPECT_THAT(Get("/healthz", "Host: localhost\r\nHost: evil.example\r\n"),
              StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(Exchange("GET /healthz HTTP/1.0\r\n\r\n"), HasSubstr("200 OK"));
}

TEST_F(AdminServerTest, WithATokenEveryHostNameIsAnswered) {
  Start({.token = "s3cret"});
  EXPECT_THAT(Get("/healthz", "Host: millrace.internal:7070\r\n"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(AdminServerTest, ATableIsReadAgainWhenAskedFor) {
  std::string asked;
  Start({.token = "s3cret", .read_again = [&](const std::string& table) {
           asked = table;
           return table == "public.log" ? FailedPrecondition("it is append_only") : Status::Ok();
         }});
  const auto post = [&](const std::string& body, const std::string& type, const char* token) {
    return Exchange(fmt::format(
        "POST /api/v1/snapshot HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: "
        "{}\r\nContent-Length: {}\r\n\r\n{}",
        token, type, body.size(), body));
  };
  const std::string json = "application/json";
  EXPECT_THAT(post(R"({"table": "public.a"})", json, "s3cret"), StartsWith("HTTP/1.1 202 "));
  EXPECT_EQ(asked, "public.a");
  const std::string refused = post(R"({"table": "public.log"})", json, "s3cret");
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 409 "));
  EXPECT_THAT(refused, testing::EndsWith("it is append_only\n"));
  asked.clear();
  EXPECT_THAT(post(R"({"table": "public.a"})", json, "wrong"), StartsWith("HTTP/1.1 401 "));
  // What a web page can send without asking first.
  EXPECT_THAT(post(R"({"table": "public.a"})", "text/plain", "s3cret"),
              StartsWith("HTTP/1.1 400 "));
  for (const char* body : {"", "{", "[]", "{}", R"({"table": 1})"}) {
    EXPECT_THAT(post(body, json, "s3cret"), StartsWith("HTTP/1.1 400 ")) << body;
  }
  EXPECT_EQ(asked, "");
}

TEST_F(AdminServerTest, OnlyReadingIsAnswered) {
  Start();
  const std::string answer =
      Exchange("POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(answer, HasSubstr("Allow: GET, HEAD\r\n"));
  const std::string head = Exchange("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(head, testing::EndsWith("\r\n\r\n"));
}

TEST_F(AdminServerTest, LargeAndBrokenRequestsDoNoHarm) {
  Start();
  const std::string host = "Host: localhost\r\n";
  // Far above the bound, in one header, in many, in the path, and in what is parsed recursively.
  Get("/healthz", host + "X: " + std::string(100000, 'x') + "\r\n");
  std::string many = host;
  for (int i = 0; i < 20000; ++i) {
    many += "X: y\r\n";
  }
  EXPECT_THAT(Get("/healthz", many), Not(HasSubstr("200 OK")));
  Get("/" + std::string(100000, 'x'));
  std::string ranges = "Range: bytes=0-1";
  while (ranges.size() < 8000) {
    ranges += ",1-1";
  }
  Get("/healthz", host + ranges + "\r\n");
  Get("/healthz", host + "Range: bytes=99999999999999999999999-\r\n");
  Get("/healthz", host + "Range: bytes=" + std::string(7900, '1') + "-\r\n");
  Get("/%", host);
  Get("/%zz%u12", host);
  Get("/?" + std::string(4000, '&'), host);
  Exchange("\r\n\r\n");
  Exchange(std::string(5000, '\0'));
  Exchange("GET / HTTP/9.9\r\n\r\n");
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(AdminServerTest, ManyClientsAreAnswered) {
  Start();
  std::vector<std::jthread> threads;
  std::array<int, 8> answered{};
  for (size_t t = 0; t < answered.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        answered[t] += Get("/metrics").starts_with("HTTP/1.1 200 ") ? 1 : 0;
      }
    });
  }
  threads.clear();
  EXPECT_THAT(answered, testing::Each(25));
}

TEST_F(AdminServerTest, ARequestWithoutEndIsCutOff) {
  AdminServer& server = Start();
  TestClient client(server.port());
  for (int i = 0; i < 1000 && client.Send(std::string(10000, 'x')); ++i) {
  }
  client.Receive();
  EXPECT_FALSE(client.Send("x"));
}

// More clients than threads: silent, half a request, and some that are not served.
TEST_F(AdminServerTest, StopEndsOpenConnections) {
  AdminServer& server = Start();
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 9; ++i) {
    clients.push_back(std::make_unique<TestClient>(server.port()));
    if (i % 2 == 0) {
      clients.back()->Send("GET /healthz HTT");
    }
  }
  const auto begin = steady_clock::now();
  server.Stop();
  EXPECT_LT(steady_clock::now() - begin, milliseconds(3000));
  EXPECT_EQ(clients.front()->Receive(), "");
  server.Stop();
}

TEST_F(AdminServerTest, ABusyPortIsAnErrorWithTheRemedy) {
  const AdminServer& first = Start();
  AdminServer second({.port = first.port()}, board_, metrics_, telemetry::Logger());
  const Status status = second.Start();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_EQ(status.message(), "listen on 127.0.0.1:" + std::to_string(first.port()) +
                                  ": Address already in use; stop the process that holds the port, "
                                  "or set admin.listen to another one");
  server_->Stop();
  EXPECT_TRUE(second.Start().ok());
}

TEST_F(AdminServerTest, AddressesThatAreNotOursAreRefused) {
  AdminServer foreign({.host = "192.0.2.1", .port = 0, .token = "t"}, board_, metrics_, {});
  EXPECT_EQ(foreign.Start().code(), Code::kFailedPrecondition);
}

TEST_F(AdminServerTest, TheThreadsHaveTheirName) {
  Start();
  Get("/healthz");
  int named = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream comm(task.path() / "comm");
    const std::string name{std::istreambuf_iterator<char>(comm), std::istreambuf_iterator<char>()};
    named += name == "mr-admin\n" ? 1 : 0;
  }
  EXPECT_EQ(named, 5);
}

}  // namespace
}  // namespace millrace::admin
