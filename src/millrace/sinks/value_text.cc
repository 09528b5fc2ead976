// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/value_text.h"

#include <cmath>
#include <cstring>
#include <iterator>

#include <fmt/format.h>

#include "millrace/common/check.h"

namespace millrace::sinks {

namespace {

constexpr int64_t kMicrosPerSecond = 1'000'000;
constexpr int64_t kMicrosPerDay = 86'400 * kMicrosPerSecond;

struct CivilDate {
  int64_t year;
  int64_t month;
  int64_t day;
};

// The proleptic Gregorian date of a day number. Counts in eras of 400 years that begin in March, so
// that a leap day is the last of its year.
CivilDate CivilFromDays(int64_t days) {
  days += 719'468;  // from 0000-03-01
  const int64_t era = (days >= 0 ? days : days - 146'096) / 146'097;
  const int64_t day_of_era = days - era * 146'097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t march_month = (5 * day_of_year + 2) / 153;
  const int64_t month = march_month < 10 ? march_month + 3 : march_month - 9;
  return {year_of_era + era * 400 + (month <= 2 ? 1 : 0), month,
          day_of_year - (153 * march_month + 2) / 5 + 1};
}

void AppendCivil(int64_t days, std::string& to) {
  const CivilDate date = CivilFromDays(days);
  fmt::format_to(std::back_inserter(to), "{}{:04}-{:02}-{:02}", date.year < 0 ? "-" : "",
                 std::abs(date.year), date.month, date.day);
}

// `.5` for 500000 microseconds; nothing for 0.
void AppendFraction(int64_t micros, std::string& to) {
  if (micros == 0) {
    return;
  }
  fmt::format_to(std::back_inserter(to), ".{:06}", micros);
  while (to.back() == '0') {
    to.pop_back();
  }
}

void AppendClock(int64_t micros, std::string& to) {
  const int64_t seconds = micros / kMicrosPerSecond;
  fmt::format_to(std::back_inserter(to), "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60,
                 seconds % 60);
  AppendFraction(micros % kMicrosPerSecond, to);
}

void AppendPart(int64_t amount, char unit, std::string& to) {
  if (amount != 0) {
    fmt::format_to(std::back_inserter(to), "{}{}", amount, unit);
  }
}

template <typename T>
void AppendShortest(T value, std::string& to) {
  if (std::isnan(value)) {
    to += "NaN";
  } else if (std::isinf(value)) {
    to += value < 0 ? "-Infinity" : "Infinity";
  } else {
    fmt::format_to(std::back_inserter(to), "{}", value);
    if (to.ends_with(".0")) {
      to.resize(to.size() - 2);
    }
  }
}

void AppendBase64(std::string_view bytes, std::string& to) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < n ? static_cast<uint8_t>(bytes[i + k]) : 0);
    }
    for (size_t k = 0; k < 4; ++k) {
      to += k <= n ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
}

void AppendJsonString(std::string_view text, std::string& to) {
  to += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      to += '\\';
      to += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      fmt::format_to(std::back_inserter(to), "\\u{:04x}", static_cast<unsigned>(c));
    } else {
      to += c;
    }
  }
  to += '"';
}

void AppendJsonElement(const Column& column, size_t row, std::string& to) {
  const TypeKind kind = column.type().kind;
  if (column.IsNull(row)) {
    to += "null";
    return;
  }
  std::string text;
  if (kind == TypeKind::kBytes) {
    AppendBase64(column.Text(row), text);
  } else {
    AppendValueText(column, row, text);
  }
  const bool is_number = kind >= TypeKind::kBool && kind <= TypeKind::kFloat64 && text != "NaN" &&
                         !text.ends_with("Infinity");
  if (is_number || kind == TypeKind::kJson || kind == TypeKind::kList) {
    to += text;
  } else {
    AppendJsonString(text, to);
  }
}

void AppendList(const Column& column, size_t row, std::string& to) {
  const auto [begin, end] = column.ListRange(row);
  to += '[';
  for (size_t i = begin; i < end; ++i) {
    if (i != begin) {
      to += ',';
    }
    AppendJsonElement(column.child(), i, to);
  }
  to += ']';
}

}  // namespace

void AppendDate(int32_t days, std::string& to) {
  if (days == kDateInfinity) {
    to += "infinity";
  } else if (days == kDateMinusInfinity) {
    to += "-infinity";
  } else {
    AppendCivil(days, to);
  }
}

void AppendTimestamp(int64_t micros, std::string_view zone, std::string& to) {
  if (micros == kTimestampInfinity) {
    to += "infinity";
    return;
  }
  if (micros == kTimestampMinusInfinity) {
    to += "-infinity";
    return;
  }
  int64_t days = micros / kMicrosPerDay;
  int64_t of_day = micros % kMicrosPerDay;
  if (of_day < 0) {
    of_day += kMicrosPerDay;
    --days;
  }
  AppendCivil(days, to);
  to += 'T';
  AppendClock(of_day, to);
  to += zone;
}

void AppendTime(int64_t micros, std::string& to) { AppendClock(micros, to); }

void AppendInterval(const Interval& interval, std::string& to) {
  if (interval == Interval{}) {
    to += "PT0S";
    return;
  }
  to += 'P';
  AppendPart(interval.months / 12, 'Y', to);
  AppendPart(interval.months % 12, 'M', to);
  AppendPart(interval.days, 'D', to);
  if (interval.micros == 0) {
    return;
  }
  to += 'T';
  const int64_t seconds = interval.micros / kMicrosPerSecond;
  const int64_t fraction = interval.micros % kMicrosPerSecond;
  AppendPart(seconds / 3600, 'H', to);
  AppendPart(seconds / 60 % 60, 'M', to);
  if (seconds % 60 != 0 || fraction != 0) {
    to += interval.micros < 0 ? "-" : "";
    fmt::format_to(std::back_inserter(to), "{}", std::abs(seconds % 60));
    AppendFraction(std::abs(fraction), to);
    to += 'S';
  }
}

void AppendDecimal(Int128 unscaled, uint8_t scale, std::string& to) {
  const bool is_negative = unscaled < 0;
  const UInt128 magnitude =
      is_negative ? UInt128{0} - static_cast<UInt128>(unscaled) : static_cast<UInt128>(unscaled);
  char digits[40];
  const size_t n = FormatUInt128(magnitude, digits);
  to += is_negative ? "-" : "";
  if (n <= scale) {
    to += "0.";
    to.append(scale - n, '0');
    to.append(digits, n);
  } else {
    to.append(digits, n - scale);
    if (scale != 0) {
      to += '.';
      to.append(digits + n - scale, scale);
    }
  }
}

void AppendUuid(const char* bytes, std::string& to) {
  static constexpr char kHex[] = "0123456789abcdef";
  for (size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) {
      to += '-';
    }
    const auto byte = static_cast<uint8_t>(bytes[i]);
    to += kHex[byte >> 4];
    to += kHex[byte & 15];
  }
}

void AppendFloat(float value, std::string& to) { AppendShortest(value, to); }
void AppendFloat(double value, std::string& to) { AppendShortest(value, to); }

Int128 IntegerOf(const Column& column, size_t row) {
  switch (column.type().kind) {
    case TypeKind::kUInt8:
      return column.Value<uint8_t>(row);
    case TypeKind::kUInt16:
      return column.Value<uint16_t>(row);
    case TypeKind::kUInt32:
      return column.Value<uint32_t>(row);
    case TypeKind::kUInt64:
      return column.Value<uint64_t>(row);
    default:
      break;
  }
  switch (column.type().width()) {
    case 1:
      return column.Value<int8_t>(row);
    case 2:
      return column.Value<int16_t>(row);
    case 4:
      return column.Value<int32_t>(row);
    case 8:
      return column.Value<int64_t>(row);
    default:
      return column.Value<Int128>(row);
  }
}

void AppendValueText(const Column& column, size_t row, std::string& to) {
  switch (column.type().kind) {
    case TypeKind::kBool:
      to += column.Value<uint8_t>(row) != 0 ? "true" : "false";
      return;
    case TypeKind::kInt8:
    case TypeKind::kInt16:
    case TypeKind::kInt32:
    case TypeKind::kInt64:
    case TypeKind::kInt128:
    case TypeKind::kUInt8:
    case TypeKind::kUInt16:
    case TypeKind::kUInt32:
    case TypeKind::kUInt64:
      return AppendDecimal(IntegerOf(column, row), 0, to);
    case TypeKind::kUInt128:
      to += FormatUInt128(column.Value<UInt128>(row));
      return;
    case TypeKind::kFloat32:
      return AppendFloat(column.Value<float>(row), to);
    case TypeKind::kFloat64:
      return AppendFloat(column.Value<double>(row), to);
    case TypeKind::kDecimal:
      return AppendDecimal(IntegerOf(column, row), column.type().scale, to);
    case TypeKind::kDate:
      return AppendDate(column.Value<int32_t>(row), to);
    case TypeKind::kTime:
      return AppendTime(column.Value<int64_t>(row), to);
    case TypeKind::kTimestamp:
      return AppendTimestamp(column.Value<int64_t>(row), "", to);
    case TypeKind::kTimestampTz:
      return AppendTimestamp(column.Value<int64_t>(row), "Z", to);
    case TypeKind::kInterval:
      return AppendInterval(column.Value<Interval>(row), to);
    case TypeKind::kUuid:
      return AppendUuid(column.ValueBytes(row), to);
    case TypeKind::kText:
    case TypeKind::kEnum:
    case TypeKind::kJson:
    case TypeKind::kBytes:
      to += column.Text(row);
      return;
    case TypeKind::kList:
      return AppendList(column, row, to);
  }
  MR_CHECK(false);
}

}  // namespace millrace::sinks
