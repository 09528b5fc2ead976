// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_errors.h"

#include <gtest/gtest.h>

namespace millrace::sinks::clickhouse {
namespace {

http::HttpResponse Exception(int code, std::string body) {
  http::HttpResponse response;
  response.status = 500;
  response.headers["x-clickhouse-exception-code"] = std::to_string(code);
  response.body = std::move(body);
  return response;
}

TEST(CodeOfException, Table) {
  const std::pair<int, Code> cases[] = {
      {60, Code::kNotFound},
      {81, Code::kNotFound},
      {516, Code::kPermissionDenied},
      {497, Code::kPermissionDenied},
      {164, Code::kPermissionDenied},
      {241, Code::kResourceExhausted},
      {252, Code::kResourceExhausted},
      {243, Code::kResourceExhausted},
      {242, Code::kUnavailable},
      {999, Code::kUnavailable},
      {210, Code::kUnavailable},
      {159, Code::kTimedOut},
      {53, Code::kFailedPrecondition},
      {452, Code::kFailedPrecondition},
      {469, Code::kFailedPrecondition},
      {48, Code::kUnsupported},
      {0, Code::kUnavailable},
      {123456, Code::kUnavailable},
  };
  for (const auto& [exception, code] : cases) {
    EXPECT_EQ(CodeOfException(exception), code) << exception;
  }
}

TEST(StatusOfResponse, OneLineWithoutFrame) {
  const Status status = StatusOfResponse(Exception(
      60,
      "Code: 60. DB::Exception: Table app.x does not exist. (UNKNOWN_TABLE) (version 26.7.2.1)\n"));
  EXPECT_EQ(status.ToString(),
            "not_found: ClickHouse error 60: Table app.x does not exist. (UNKNOWN_TABLE)");
  EXPECT_LT(StatusOfResponse(Exception(60, std::string(100'000, 'x'))).message().size(), 400U);
}

TEST(StatusOfResponse, NeverQuotesRows) {
  const Status status =
      StatusOfResponse(Exception(469,
                                 "Code: 469. DB::Exception: Constraint `c` for table app.x is "
                                 "violated at row 1. Column values: "
                                 "card = '4111'. (VIOLATED_CONSTRAINT) (version 26.7.2.1)\n"));
  EXPECT_EQ(status.ToString(), "failed_precondition: ClickHouse error 469: VIOLATED_CONSTRAINT");
  // An exception that the table does not know may quote anything.
  EXPECT_EQ(
      StatusOfResponse(Exception(4242, "Code: 4242. DB::Exception: '4111' (NEW) (version 30.1)\n"))
          .message(),
      "ClickHouse error 4242: NEW");
}

TEST(StatusOfResponse, SuccessMustComeFromClickHouse) {
  http::HttpResponse response;
  response.status = 200;
  response.body = "<html>Welcome</html>";
  EXPECT_EQ(StatusOfResponse(response).code(), Code::kUnavailable);
  response.headers["x-clickhouse-query-id"] = "1";
  EXPECT_TRUE(StatusOfResponse(response).ok());
  response.headers["x-clickhouse-exception-code"] = "60";
  EXPECT_EQ(StatusOfResponse(response).code(), Code::kNotFound);
}

TEST(StatusOfResponse, OfAProxy) {
  http::HttpResponse response;
  response.body = "secret page";
  for (const auto& [status, code] :
       {std::pair(403, Code::kPermissionDenied), std::pair(502, Code::kUnavailable),
        std::pair(504, Code::kTimedOut)}) {
    response.status = status;
    EXPECT_EQ(StatusOfResponse(response).code(), code);
    EXPECT_EQ(StatusOfResponse(response).message().find("secret"), std::string::npos);
  }
}

}  // namespace
}  // namespace millrace::sinks::clickhouse
