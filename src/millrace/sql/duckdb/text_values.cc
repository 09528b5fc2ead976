// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/duckdb/text_values.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "millrace/common/coding.h"
#include "millrace/model/calendar.h"

namespace millrace::sql {
namespace {

std::string FormatDay(int64_t day) {
  const CivilDate date = CivilFromDays(day);
  return fmt::format("{:04}-{:02}-{:02}", date.year, date.month, date.day);
}

std::string FormatTime(int64_t micros) {
  const int64_t seconds = micros / 1000000;
  std::string text =
      fmt::format("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  return micros % 1000000 == 0 ? text : text + fmt::format(".{:06}", micros % 1000000);
}

template <typename T>
bool ParseNumber(std::string_view text, T* value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return code == std::errc() && end == text.data() + text.size();
}

bool ParseInt128(std::string_view text, Int128* value) {
  const bool negative = text.starts_with('-');
  text.remove_prefix(negative ? 1 : 0);
  UInt128 sum = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') {
      return false;
    }
    sum = sum * 10 + static_cast<UInt128>(c - '0');
  }
  *value = static_cast<Int128>(negative ? ~sum + 1 : sum);
  return !text.empty();
}

std::string FormatUInt128(UInt128 value) {
  std::string digits;
  do {
    digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(value % 10)));
    value /= 10;
  } while (value != 0);
  return digits;
}

std::string FormatInt128(Int128 value) {
  return value < 0 ? "-" + FormatUInt128(~static_cast<UInt128>(value) + 1)
                   : FormatUInt128(static_cast<UInt128>(value));
}

bool ParseDay(std::string_view text, int64_t* day) {
  const size_t second = text.rfind('-');
  const size_t first = second == std::string_view::npos ? second : text.rfind('-', second - 1);
  int64_t y = 0;
  int64_t m = 0;
  int64_t d = 0;
  if (first == std::string_view::npos || !ParseNumber(text.substr(0, first), &y) ||
      !ParseNumber(text.substr(first + 1, second - first - 1), &m) ||
      !ParseNumber(text.substr(second + 1), &d)) {
    return false;
  }
  *day = DaysFromCivil({y, m, d});
  return true;
}

bool ParseTime(std::string_view text, int64_t* micros) {
  int64_t h = 0;
  int64_t m = 0;
  int64_t s = 0;
  if (text.size() < 8 || !ParseNumber(text.substr(0, 2), &h) ||
      !ParseNumber(text.substr(3, 2), &m) || !ParseNumber(text.substr(6, 2), &s)) {
    return false;
  }
  *micros = ((h * 60 + m) * 60 + s) * 1000000;
  if (text.size() == 8) {
    return true;
  }
  std::string fraction(text.substr(9));
  fraction.resize(6, '0');
  int64_t f = 0;
  *micros += ParseNumber(std::string_view(fraction), &f) ? f : 0;
  return true;
}

bool ParseTimestamp(std::string_view text, int64_t* micros) {
  if (text == "infinity" || text == "-infinity") {
    *micros = text == "infinity" ? kTimestampInfinity : kTimestampMinusInfinity;
    return true;
  }
  if (text.ends_with('Z')) {
    text.remove_suffix(1);
  }
  const size_t at = text.find('T');
  int64_t day = 0;
  int64_t time = 0;
  if (at == std::string_view::npos || !ParseDay(text.substr(0, at), &day) ||
      !ParseTime(text.substr(at + 1), &time)) {
    return false;
  }
  *micros = day * kMicrosPerDay + time;
  return true;
}

bool ParseHex(std::string_view text, std::string* bytes) {
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    uint8_t byte = 0;
    const auto [end, code] = std::from_chars(text.data() + i, text.data() + i + 2, byte, 16);
    if (code != std::errc() || end != text.data() + i + 2) {
      return false;
    }
    bytes->push_back(static_cast<char>(byte));
  }
  return text.size() % 2 == 0;
}

void ReplaceAll(std::string* text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text->find(from, at)) != std::string::npos; at += to.size()) {
    text->replace(at, from.size(), to);
  }
}

template <typename T>
bool AppendNumber(std::string_view text, Column* column) {
  T value{};
  if (!ParseNumber(text, &value)) {
    return false;
  }
  column->Append(value);
  return true;
}

bool AppendWide(Int128 value, size_t width, Column* column) {
  // Little endian: the low bytes are the narrower integer.
  char bytes[16];
  std::memcpy(bytes, &value, 16);
  column->AppendFixed(bytes);
  return width <= 16;
}

bool AppendDecimal(std::string_view text, Column* column) {
  const size_t point = std::min(text.find('.'), text.size());
  std::string digits(text.substr(0, point));
  std::string fraction(point == text.size() ? std::string_view() : text.substr(point + 1));
  fraction.resize(column->type().scale, '0');
  Int128 value = 0;
  return ParseInt128(digits + fraction, &value) &&
         AppendWide(value, column->type().width(), column);
}

bool AppendInterval(std::string_view text, Column* column) {
  const size_t first = text.find('/');
  const size_t second = text.rfind('/');
  Interval value;
  if (first == std::string_view::npos || first == second ||
      !ParseNumber(text.substr(0, first), &value.months) ||
      !ParseNumber(text.substr(first + 1, second - first - 1), &value.days) ||
      !ParseNumber(text.substr(second + 1), &value.micros)) {
    return false;
  }
  column->Append(value);
  return true;
}

bool AppendUuid(std::string text, Column* column) {
  std::erase(text, '-');
  std::string bytes;
  if (text.size() != 32 || !ParseHex(text, &bytes)) {
    return false;
  }
  column->AppendFixed(bytes.data());
  return true;
}

bool AppendList(std::string_view text, Column* column) {
  if (!text.starts_with('[') || !text.ends_with(']')) {
    return false;
  }
  text = text.substr(1, text.size() - 2);
  while (!text.empty()) {
    const size_t comma = std::min(text.find(", "), text.size());
    if (!AppendParsed(text.substr(0, comma), &column->child())) {
      return false;
    }
    text.remove_prefix(std::min(comma + 2, text.size()));
  }
  column->AppendListEnd();
  return true;
}

std::string FormatDecimal(const Column& column, size_t row) {
  Int128 value = 0;
  switch (column.type().width()) {
    case 2:
      value = column.Value<int16_t>(row);
      break;
    case 4:
      value = column.Value<int32_t>(row);
      break;
    case 8:
      value = column.Value<int64_t>(row);
      break;
    default:
      value = column.Value<Int128>(row);
  }
  const size_t scale = column.type().scale;
  std::string digits = FormatInt128(value < 0 ? -value : value);
  if (digits.size() <= scale) {
    digits.insert(0, scale + 1 - digits.size(), '0');
  }
  if (scale != 0) {
    digits.insert(digits.size() - scale, ".");
  }
  return (value < 0 ? "-" : "") + digits;
}

std::string FormatTimestamp(int64_t micros, std::string_view zone) {
  if (micros == kTimestampInfinity || micros == kTimestampMinusInfinity) {
    return micros > 0 ? "infinity" : "-infinity";
  }
  const int64_t day = (micros >= 0 ? micros : micros - (kMicrosPerDay - 1)) / kMicrosPerDay;
  return fmt::format("{}T{}{}", FormatDay(day), FormatTime(micros - day * kMicrosPerDay), zone);
}

std::string FormatText(const Column& column, size_t row) {
  std::string text(column.Text(row));
  if (column.type().kind == TypeKind::kBytes) {
    std::string hex = "\\x";
    for (const char c : text) {
      hex += fmt::format("{:02x}", static_cast<uint8_t>(c));
    }
    return hex;
  }
  ReplaceAll(&text, "\n", "\\n");
  return text.empty() ? "(empty)" : text;
}

std::string FormatUuid(const Column& column, size_t row) {
  std::string text;
  for (size_t i = 0; i < 16; ++i) {
    text += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                        static_cast<uint8_t>(column.ValueBytes(row)[i]));
  }
  return text;
}

}  // namespace

std::optional<DataType> ParseType(std::string_view text) {
  if (text.starts_with("list(") && text.ends_with(')')) {
    std::optional<DataType> element = ParseType(text.substr(5, text.size() - 6));
    return element ? std::optional(DataType::List(*element)) : std::nullopt;
  }
  if (text.starts_with("decimal(") && text.ends_with(')')) {
    const size_t comma = text.find(',');
    uint8_t precision = 0;
    uint8_t scale = 0;
    if (comma == std::string_view::npos || !ParseNumber(text.substr(8, comma - 8), &precision) ||
        !ParseNumber(text.substr(comma + 1, text.size() - comma - 2), &scale)) {
      return std::nullopt;
    }
    return DataType::Decimal(precision, scale);
  }
  for (int kind = 1; kind <= static_cast<int>(TypeKind::kBytes); ++kind) {
    const DataType type(static_cast<TypeKind>(kind));
    if (type.kind != TypeKind::kDecimal && type.ToString() == text) {
      return type;
    }
  }
  return std::nullopt;
}

bool AppendDate(std::string_view text, Column* column) {
  int64_t day = 0;
  if (text == "infinity" || text == "-infinity") {
    day = text == "infinity" ? kDateInfinity : kDateMinusInfinity;
  } else if (!ParseDay(text, &day)) {
    return false;
  }
  column->Append(static_cast<int32_t>(day));
  return true;
}

bool AppendParsed(std::string_view text, Column* column) {
  if (text == "NULL") {
    column->AppendNull();
    return true;
  }
  int64_t integer = 0;
  Int128 wide = 0;
  std::string bytes;
  switch (column->type().kind) {
    case TypeKind::kBool:
      column->Append<uint8_t>(text == "true" ? 1 : 0);
      return text == "true" || text == "false";
    case TypeKind::kInt8:
      return AppendNumber<int8_t>(text, column);
    case TypeKind::kInt16:
      return AppendNumber<int16_t>(text, column);
    case TypeKind::kInt32:
      return AppendNumber<int32_t>(text, column);
    case TypeKind::kInt64:
      return AppendNumber<int64_t>(text, column);
    case TypeKind::kUInt8:
      return AppendNumber<uint8_t>(text, column);
    case TypeKind::kUInt16:
      return AppendNumber<uint16_t>(text, column);
    case TypeKind::kUInt32:
      return AppendNumber<uint32_t>(text, column);
    case TypeKind::kUInt64:
      return AppendNumber<uint64_t>(text, column);
    case TypeKind::kInt128:
    case TypeKind::kUInt128:
      return ParseInt128(text, &wide) && AppendWide(wide, 16, column);
    case TypeKind::kFloat32:
      return AppendNumber<float>(text, column);
    case TypeKind::kFloat64:
      return AppendNumber<double>(text, column);
    case TypeKind::kDecimal:
      return AppendDecimal(text, column);
    case TypeKind::kDate:
      return AppendDate(text, column);
    case TypeKind::kTime:
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
      if (column->type().kind == TypeKind::kTime ? !ParseTime(text, &integer)
                                                 : !ParseTimestamp(text, &integer)) {
        return false;
      }
      column->Append(integer);
      return true;
    case TypeKind::kInterval:
      return AppendInterval(text, column);
    case TypeKind::kUuid:
      return AppendUuid(std::string(text), column);
    case TypeKind::kBytes:
      if (!text.starts_with("\\x") || !ParseHex(text.substr(2), &bytes)) {
        return false;
      }
      column->AppendText(bytes);
      return true;
    case TypeKind::kText:
    case TypeKind::kEnum:
    case TypeKind::kJson:
      bytes = text == "(empty)" ? "" : text;
      ReplaceAll(&bytes, "\\n", "\n");
      column->AppendText(bytes);
      return true;
    case TypeKind::kList:
      return AppendList(text, column);
  }
  return false;
}

std::string FormatValue(const Column& column, size_t row) {
  if (column.IsNull(row)) {
    return "NULL";
  }
  switch (column.type().kind) {
    case TypeKind::kBool:
      return column.Value<uint8_t>(row) != 0 ? "true" : "false";
    case TypeKind::kInt8:
      return fmt::format("{}", column.Value<int8_t>(row));
    case TypeKind::kInt16:
      return fmt::format("{}", column.Value<int16_t>(row));
    case TypeKind::kInt32:
      return fmt::format("{}", column.Value<int32_t>(row));
    case TypeKind::kInt64:
      return fmt::format("{}", column.Value<int64_t>(row));
    case TypeKind::kInt128:
      return FormatInt128(column.Value<Int128>(row));
    case TypeKind::kUInt8:
      return fmt::format("{}", column.Value<uint8_t>(row));
    case TypeKind::kUInt16:
      return fmt::format("{}", column.Value<uint16_t>(row));
    case TypeKind::kUInt32:
      return fmt::format("{}", column.Value<uint32_t>(row));
    case TypeKind::kUInt64:
      return fmt::format("{}", column.Value<uint64_t>(row));
    case TypeKind::kUInt128:
      return FormatUInt128(column.Value<UInt128>(row));
    case TypeKind::kFloat32:
      return fmt::format("{}", column.Value<float>(row));
    case TypeKind::kFloat64:
      return fmt::format("{}", column.Value<double>(row));
    case TypeKind::kDecimal:
      return FormatDecimal(column, row);
    case TypeKind::kDate: {
      const auto day = column.Value<int32_t>(row);
      return day == kDateInfinity        ? "infinity"
             : day == kDateMinusInfinity ? "-infinity"
                                         : FormatDay(day);
    }
    case TypeKind::kTime:
      return FormatTime(column.Value<int64_t>(row));
    case TypeKind::kTimestamp:
      return FormatTimestamp(column.Value<int64_t>(row), "");
    case TypeKind::kTimestampTz:
      return FormatTimestamp(column.Value<int64_t>(row), "Z");
    case TypeKind::kInterval: {
      const auto value = column.Value<Interval>(row);
      return fmt::format("{}/{}/{}", value.months, value.days, value.micros);
    }
    case TypeKind::kUuid:
      return FormatUuid(column, row);
    case TypeKind::kText:
    case TypeKind::kEnum:
    case TypeKind::kJson:
    case TypeKind::kBytes:
      return FormatText(column, row);
    case TypeKind::kList: {
      std::vector<std::string> values;
      const auto [begin, end] = column.ListRange(row);
      for (size_t i = begin; i < end; ++i) {
        values.push_back(FormatValue(column.child(), i));
      }
      return fmt::format("[{}]", fmt::join(values, ", "));
    }
  }
  return "?";
}

}  // namespace millrace::sql
