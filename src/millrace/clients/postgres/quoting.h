// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace millrace::pg {

// `"name"` with quotes doubled: safe in SQL and in replication commands whatever the name holds.
std::string QuoteIdentifier(std::string_view name);

// `"schema"."name"`.
std::string QuoteQualified(std::string_view schema, std::string_view name);

// `'text'` with quotes doubled; ` E'text'` where a backslash is in it.
std::string QuoteLiteral(std::string_view text);

}  // namespace millrace::pg
