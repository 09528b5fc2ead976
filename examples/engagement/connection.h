// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include <libpq-fe.h>

// libpq's connections and results as values, and what its errors say.

struct ConnectionDeleter {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
struct ResultDeleter {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Connection = std::unique_ptr<PGconn, ConnectionDeleter>;
using Result = std::unique_ptr<PGresult, ResultDeleter>;

inline std::string OneLine(const char* message) {
  std::string text = message == nullptr ? "" : message;
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') {
    text.pop_back();
  }
  return text;
}

// An error of the server that a new connection may not meet.
inline bool IsPassing(const PGresult* result) {
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const std::string_view code = state == nullptr ? "" : state;
  // 57P: shutting down or starting; 40: deadlock or serialization; 08: connection; 53: resources.
  for (const std::string_view prefix : {"57P", "40", "08", "53"}) {
    if (code.substr(0, prefix.size()) == prefix) {
      return true;
    }
  }
  return false;
}
