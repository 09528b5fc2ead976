// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/clickhouse_errors.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

namespace millrace::sinks::clickhouse {

namespace {

struct Entry {
  int exception_code;
  Code code;
  bool quotes_values;  // its sentence may hold values of rows
};

// Ascending by exception code.
constexpr std::array kEntries = {
    Entry{6, Code::kInternal, true},               // CANNOT_PARSE_TEXT
    Entry{16, Code::kFailedPrecondition, false},   // NO_SUCH_COLUMN_IN_TABLE
    Entry{20, Code::kFailedPrecondition, false},   // NUMBER_OF_COLUMNS_DOESNT_MATCH
    Entry{26, Code::kInternal, true},              // CANNOT_PARSE_QUOTED_STRING
    Entry{27, Code::kInternal, true},              // CANNOT_PARSE_INPUT_ASSERTION_FAILED
    Entry{33, Code::kUnavailable, true},           // CANNOT_READ_ALL_DATA: the body was cut
    Entry{36, Code::kFailedPrecondition, false},   // BAD_ARGUMENTS
    Entry{38, Code::kInternal, true},              // CANNOT_PARSE_DATE
    Entry{41, Code::kInternal, true},              // CANNOT_PARSE_DATETIME
    Entry{44, Code::kFailedPrecondition, false},   // ILLEGAL_COLUMN
    Entry{47, Code::kFailedPrecondition, false},   // UNKNOWN_IDENTIFIER
    Entry{48, Code::kUnsupported, false},          // NOT_IMPLEMENTED
    Entry{50, Code::kFailedPrecondition, false},   // UNKNOWN_TYPE
    Entry{53, Code::kFailedPrecondition, true},    // TYPE_MISMATCH
    Entry{57, Code::kAlreadyExists, false},        // TABLE_ALREADY_EXISTS
    Entry{60, Code::kNotFound, false},             // UNKNOWN_TABLE
    Entry{62, Code::kFailedPrecondition, false},   // SYNTAX_ERROR: of an expression in the file
    Entry{69, Code::kFailedPrecondition, true},    // ARGUMENT_OUT_OF_BOUND
    Entry{70, Code::kFailedPrecondition, true},    // CANNOT_CONVERT_TYPE
    Entry{72, Code::kInternal, true},              // CANNOT_PARSE_NUMBER
    Entry{73, Code::kUnsupported, false},          // UNKNOWN_FORMAT
    Entry{81, Code::kNotFound, false},             // UNKNOWN_DATABASE
    Entry{115, Code::kUnsupported, false},         // UNKNOWN_SETTING
    Entry{117, Code::kInternal, true},             // INCORRECT_DATA
    Entry{131, Code::kFailedPrecondition, true},   // TOO_LARGE_STRING_SIZE
    Entry{158, Code::kResourceExhausted, false},   // TOO_MANY_ROWS
    Entry{159, Code::kTimedOut, false},            // TIMEOUT_EXCEEDED
    Entry{160, Code::kTimedOut, false},            // TOO_SLOW
    Entry{164, Code::kPermissionDenied, false},    // READONLY: the user
    Entry{173, Code::kResourceExhausted, false},   // CANNOT_ALLOCATE_MEMORY
    Entry{192, Code::kPermissionDenied, false},    // UNKNOWN_USER
    Entry{193, Code::kPermissionDenied, false},    // WRONG_PASSWORD
    Entry{194, Code::kPermissionDenied, false},    // REQUIRED_PASSWORD
    Entry{195, Code::kPermissionDenied, false},    // IP_ADDRESS_NOT_ALLOWED
    Entry{201, Code::kResourceExhausted, false},   // QUOTA_EXCEEDED
    Entry{202, Code::kResourceExhausted, false},   // TOO_MANY_SIMULTANEOUS_QUERIES
    Entry{209, Code::kTimedOut, false},            // SOCKET_TIMEOUT
    Entry{218, Code::kNotFound, false},            // TABLE_IS_DROPPED
    Entry{241, Code::kResourceExhausted, false},   // MEMORY_LIMIT_EXCEEDED
    Entry{242, Code::kUnavailable, false},         // TABLE_IS_READ_ONLY: its keeper is away
    Entry{243, Code::kResourceExhausted, false},   // NOT_ENOUGH_SPACE
    Entry{252, Code::kResourceExhausted, false},   // TOO_MANY_PARTS
    Entry{290, Code::kResourceExhausted, false},   // LIMIT_EXCEEDED
    Entry{291, Code::kPermissionDenied, false},    // DATABASE_ACCESS_DENIED
    Entry{307, Code::kResourceExhausted, false},   // TOO_MANY_BYTES
    Entry{344, Code::kUnsupported, false},         // SUPPORT_IS_DISABLED
    Entry{349, Code::kFailedPrecondition, true},   // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    Entry{396, Code::kResourceExhausted, false},   // TOO_MANY_ROWS_OR_BYTES
    Entry{452, Code::kFailedPrecondition, false},  // SETTING_CONSTRAINT_VIOLATION
    Entry{469, Code::kFailedPrecondition, true},   // VIOLATED_CONSTRAINT
    Entry{497, Code::kPermissionDenied, false},    // ACCESS_DENIED
    Entry{516, Code::kPermissionDenied, false},    // AUTHENTICATION_FAILED
    // The rest is worth another try: 210 NETWORK_ERROR, 225 NO_ZOOKEEPER, 236 ABORTED, 285
    // TOO_FEW_LIVE_REPLICAS, 319 UNKNOWN_STATUS_OF_INSERT, 394 QUERY_WAS_CANCELLED, 999
    // KEEPER_EXCEPTION, 1000 POCO_EXCEPTION and whatever a later version adds.
};

const Entry* Find(int exception_code) {
  const auto found =
      std::lower_bound(kEntries.begin(), kEntries.end(), exception_code,
                       [](const Entry& entry, int code) { return entry.exception_code < code; });
  return found != kEntries.end() && found->exception_code == exception_code ? &*found : nullptr;
}

Code CodeOfHttpStatus(int status) {
  if (status == 401 || status == 403) {
    return Code::kPermissionDenied;
  }
  return status == 408 || status == 504 ? Code::kTimedOut : Code::kUnavailable;
}

// `UNKNOWN_TABLE` out of `Code: 60. DB::Exception: ... (UNKNOWN_TABLE) (version 26.7.2.1)`.
std::string_view NameOf(std::string_view body) {
  const size_t version = body.rfind(" (version ");
  const std::string_view text = body.substr(0, version);
  const size_t open = text.rfind('(');
  if (version == std::string_view::npos || open == std::string_view::npos || !text.ends_with(")")) {
    return {};
  }
  return text.substr(open + 1, text.size() - open - 2);
}

// The first line without the frame that NameOf() sees.
std::string SentenceOf(std::string_view body) {
  constexpr size_t kLengthMax = 300;
  constexpr std::string_view kBegin = "DB::Exception: ";
  std::string_view line = body.substr(0, body.find('\n'));
  line = line.substr(0, line.rfind(" (version "));
  if (const size_t begin = line.find(kBegin); begin != std::string_view::npos) {
    line.remove_prefix(begin + kBegin.size());
  }
  std::string sentence(line.substr(0, kLengthMax));
  for (char& c : sentence) {
    if (static_cast<unsigned char>(c) < 0x20) {
      c = ' ';
    }
  }
  return sentence;
}

}  // namespace

Code CodeOfException(int exception_code) {
  const Entry* entry = Find(exception_code);
  return entry == nullptr ? Code::kUnavailable : entry->code;
}

Status StatusOfResponse(const http::HttpResponse& response) {
  const std::string_view header = response.Header("x-clickhouse-exception-code");
  if (header.empty()) {
    if (response.status != 200) {
      return {CodeOfHttpStatus(response.status),
              fmt::format("HTTP {} without an answer of ClickHouse", response.status)};
    }
    if (response.Header("x-clickhouse-query-id").empty()) {
      return Unavailable(
          "HTTP 200, but not from ClickHouse; check the URL and what stands between");
    }
    return Status::Ok();
  }
  int exception_code = 0;
  std::from_chars(header.data(), header.data() + header.size(), exception_code);
  const Entry* entry = Find(exception_code);
  const bool is_silent = entry == nullptr || entry->quotes_values;
  std::string name(NameOf(response.body));
  const std::string detail = is_silent ? name : SentenceOf(response.body);
  return {CodeOfException(exception_code), fmt::format("ClickHouse error {}: {}", exception_code,
                                                       detail.empty() ? "unknown" : detail)};
}

}  // namespace millrace::sinks::clickhouse
