// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/status_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/admin/admin_server.h"
#include "millrace/admin/status_json.h"

namespace millrace::admin {
namespace {

using testing::HasSubstr;

class StatusClientTest : public testing::Test {
 protected:
  pipeline::StatusBoard board_;
  telemetry::MetricsRegistry metrics_{"p"};
};

TEST_F(StatusClientTest, FetchesTheStatus) {
  board_.Publish({.pipeline = "engagement", .sinks = {{.name = "live", .lag_rows = 16240}}});
  AdminServer server({.host = "", .port = 0, .token = "s3cret"}, board_, metrics_, {});
  ASSERT_TRUE(server.Start().ok());
  for (const char* host : {"127.0.0.1", "0.0.0.0", "", "localhost"}) {
    const Result<std::string> json = FetchStatus(host, server.port(), "s3cret");
    ASSERT_TRUE(json.ok()) << json.status().ToString();
    EXPECT_EQ(ParseStatusJson(*json)->sinks.at(0).lag_rows, 16240u);
  }
  const Result<std::string> refused = FetchStatus("127.0.0.1", server.port(), "wrong");
  EXPECT_EQ(refused.status().code(), Code::kPermissionDenied);
  EXPECT_THAT(refused.status().message(), HasSubstr("set admin.token"));
  EXPECT_EQ(FetchStatus("127.0.0.1", server.port(), "a\r\nX: y").status().code(),
            Code::kInvalidArgument);
}

TEST_F(StatusClientTest, HasATableReadAgain) {
  std::string asked;
  AdminServer server({.port = 0,
                      .read_again =
                          [&](const std::string& table) {
                            asked = table;
                            return table == "no" ? FailedPrecondition("not now") : Status::Ok();
                          }},
                     board_, metrics_, {});
  ASSERT_TRUE(server.Start().ok());
  const auto ask = [&](const std::string& table) {
    return RequestSnapshot("127.0.0.1", server.port(), "", table);
  };
  EXPECT_TRUE(ask("odd \" name").ok());
  EXPECT_EQ(asked, "odd \" name");
  EXPECT_EQ(ask("no").code(), Code::kFailedPrecondition);
  EXPECT_EQ(ask("no").message(), "not now");
}

TEST_F(StatusClientTest, ReachesIpv6Loopback) {
  AdminServer server({.host = "::1", .port = 0}, board_, metrics_, {});
  ASSERT_TRUE(server.Start().ok());
  EXPECT_TRUE(FetchStatus("::1", server.port(), "").ok());
}

TEST_F(StatusClientTest, NobodyThereIsSaidPlainly) {
  AdminServer server({.port = 0}, board_, metrics_, {});
  ASSERT_TRUE(server.Start().ok());
  server.Stop();
  const Result<std::string> json = FetchStatus("127.0.0.1", server.port(), "");
  EXPECT_EQ(json.status().code(), Code::kUnavailable);
  EXPECT_EQ(
      json.status().message(),
      "ask http://127.0.0.1:" + std::to_string(server.port()) +
          "/api/v1/status for the status: no answer (Connection); is `millrace run` running?");
}

}  // namespace
}  // namespace millrace::admin
