// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/table_condition.h"

#include <fmt/format.h>

#include "millrace/clients/postgres/quoting.h"

namespace millrace::sources::postgres {
namespace {

// `= 'name'`, or `LIKE 'a%b'` where there are stars.
std::string PartCondition(const config::TablePattern::Part& part) {
  if (part.pieces.size() == 1) {
    return "= " + pg::QuoteLiteral(part.pieces[0]);
  }
  std::string like;
  for (const std::string& piece : part.pieces) {
    like += &piece == &part.pieces.front() ? "" : "%";
    for (const char c : piece) {
      like += c == '%' || c == '_' || c == '\\' ? "\\" : "";
      like += c;
    }
  }
  return "LIKE " + pg::QuoteLiteral(like);
}

}  // namespace

std::string TableCondition(const config::TablePattern& pattern) {
  return fmt::format("n.nspname::text {} AND c.relname::text {}", PartCondition(pattern.schema()),
                     PartCondition(pattern.name()));
}

}  // namespace millrace::sources::postgres
