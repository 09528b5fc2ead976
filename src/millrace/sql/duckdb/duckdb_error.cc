// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/duckdb/duckdb_error.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "millrace/sql/query_functions.h"

namespace millrace::sql {
namespace {

constexpr std::string_view kLine = "\n\nLINE ";

// "Conversion Error: " and the like, in front of every sentence.
std::string_view WithoutKind(std::string_view message) {
  const size_t at = message.find("Error: ");
  return at == std::string_view::npos || at > 32 ? message : message.substr(at + 7);
}

std::string_view WithoutLine(std::string_view message) {
  return message.substr(0, message.rfind(kLine));
}

bool IsWordChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// The beginnings of DuckDB's sentences behind which values stand; each is followed by a blank, a
// quote, a bracket or a colon. What they say is safe up to the first value.
constexpr std::string_view kOpenings[] = {
    "Casting value",
    "Could not cast value",
    "Could not convert string",
    "Failed to cast decimal value",
    "Failed to cast value",
    "Date out of range",
    "Invalid UTF8 Codepoint",
    "Malformed JSON",
    "Overflow in",
    "Type",
    "Unimplemented type for cast",
    "Value out of range",
    "cannot take logarithm of a negative number",
    "cannot take logarithm of zero",
    "cannot take square root of a negative number",
    "date field value out of range",
    "extract specifier",
    "invalid date field format",
    "invalid timestamp field format",
    "time field value out of range",
    "timestamp field value out of range",
};

// Names of types as they stand in messages: INT32, DECIMAL(10,2), TIMESTAMP WITH TIME ZONE.
constexpr std::string_view kTypeWords[] = {
    "BIGINT",  "BLOB",     "BOOL",      "BOOLEAN",  "DATE",   "DECIMAL",   "DOUBLE",
    "FLOAT",   "HUGEINT",  "INT128",    "INT16",    "INT32",  "INT64",     "INT8",
    "INTEGER", "INTERVAL", "JSON",      "SMALLINT", "TIME",   "TIMESTAMP", "TIMESTAMPTZ",
    "TINYINT", "UBIGINT",  "UHUGEINT",  "UINT128",  "UINT16", "UINT32",    "UINT64",
    "UINT8",   "UINTEGER", "USMALLINT", "UTINYINT", "UUID",   "VARCHAR",
};

// The type that the sentence ends with, behind `to ` or `type `; empty if there is none.
std::string TargetType(std::string_view text) {
  for (const std::string_view marker : {" to type ", " destination type ", " to "}) {
    const size_t at = text.rfind(marker);
    if (at == std::string_view::npos) {
      continue;
    }
    const std::string_view rest = text.substr(at + marker.size());
    const auto* end = std::ranges::find_if_not(rest, IsWordChar);
    const std::string_view word = rest.substr(0, static_cast<size_t>(end - rest.begin()));
    if (std::ranges::find(kTypeWords, word) != std::end(kTypeWords)) {
      return std::string(word);
    }
  }
  return {};
}

// The second word of "Type INT64 with value ..." and of "Overflow in addition of INT64 (...)".
std::string Sanitized(std::string_view text) {
  const auto* opening = std::ranges::find_if(kOpenings, [text](std::string_view o) {
    return text.starts_with(o) && (text.size() == o.size() || !IsWordChar(text[o.size()]));
  });
  if (opening == std::end(kOpenings)) {
    return {};
  }
  std::string kept(*opening);
  // Words of DuckDB's own that may follow: types and names of operations, never a value.
  static constexpr std::string_view kFollowing[] = {" addition", " division",       " left shift",
                                                    " modulo",   " multiplication", " negation",
                                                    " subtract", " subtraction"};
  std::string_view rest = text.substr(opening->size());
  for (const std::string_view word : kFollowing) {
    if (rest.starts_with(word)) {
      kept += word;
      rest.remove_prefix(word.size());
      break;
    }
  }
  for (const std::string_view type : kTypeWords) {
    for (const std::string_view before : {" of ", " "}) {
      if (rest.starts_with(before) && rest.substr(before.size()).starts_with(type) &&
          (rest.size() == before.size() + type.size() ||
           !IsWordChar(rest[before.size() + type.size()]))) {
        kept += fmt::format("{}{}", before, type);
        rest = {};
      }
    }
  }
  if (const std::string target = TargetType(text); !target.empty()) {
    kept += " to " + target;
  }
  return ToLower(kept.substr(0, 1)) + kept.substr(1);
}

std::string_view Kind(duckdb_error_type type) {
  switch (type) {
    case DUCKDB_ERROR_OUT_OF_RANGE:
      return "a value is out of range";
    case DUCKDB_ERROR_CONVERSION:
    case DUCKDB_ERROR_MISMATCH_TYPE:
    case DUCKDB_ERROR_INVALID_TYPE:
    case DUCKDB_ERROR_DECIMAL:
      return "a value cannot be converted";
    case DUCKDB_ERROR_DIVIDE_BY_ZERO:
      return "division by zero";
    default:
      return "a function does not take a value";
  }
}

}  // namespace

std::optional<size_t> ErrorLine(std::string_view message) {
  const size_t at = message.rfind(kLine);
  if (at == std::string_view::npos) {
    return std::nullopt;
  }
  const std::string_view number = message.substr(at + kLine.size());
  size_t line = 0;
  const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), line);
  return code == std::errc() && line != 0 ? std::optional(line) : std::nullopt;
}

std::string PlanError(std::string_view message) {
  std::string_view text = WithoutKind(WithoutLine(message));
  text = text.substr(0, text.find('\n'));
  while (!text.empty() && (text.back() == '.' || text.back() == '!')) {
    text.remove_suffix(1);
  }
  return text.empty() ? std::string("DuckDB gives no reason") : std::string(text);
}

Status RunError(duckdb_error_type type, std::string_view message, std::string_view where) {
  switch (type) {
    case DUCKDB_ERROR_OUT_OF_MEMORY:
      return ResourceExhausted(fmt::format(
          "{}the rows of a batch do not fit into the SQL engine's memory: raise engine.memory or "
          "lower engine.batch.max_rows",
          where));
    case DUCKDB_ERROR_OUT_OF_RANGE:
    case DUCKDB_ERROR_CONVERSION:
    case DUCKDB_ERROR_MISMATCH_TYPE:
    case DUCKDB_ERROR_INVALID_TYPE:
    case DUCKDB_ERROR_DECIMAL:
    case DUCKDB_ERROR_DIVIDE_BY_ZERO:
    case DUCKDB_ERROR_INVALID_INPUT:
    case DUCKDB_ERROR_PARAMETER_NOT_ALLOWED:
    case DUCKDB_ERROR_NOT_IMPLEMENTED:
    case DUCKDB_ERROR_SYNTAX:
    case DUCKDB_ERROR_PARSER:
    case DUCKDB_ERROR_BINDER:
    case DUCKDB_ERROR_EXPRESSION: {
      const std::string detail = Sanitized(WithoutKind(WithoutLine(message)));
      return InvalidArgument(
          fmt::format("{}{}{}", where, Kind(type), detail.empty() ? "" : " (" + detail + ")"));
    }
    default:
      return Internal(
          fmt::format("{}the SQL engine failed with error type {}", where, static_cast<int>(type)));
  }
}

}  // namespace millrace::sql
