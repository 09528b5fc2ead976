// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/value_text.h"

#include <charconv>
#include <cmath>
#include <cstring>

#include "millrace/common/coding.h"
#include "millrace/model/calendar.h"

namespace millrace {

namespace {

UInt128 Magnitude(Int128 value) {
  return value < 0 ? UInt128{0} - static_cast<UInt128>(value) : static_cast<UInt128>(value);
}

template <typename T>
void AppendNumber(Buffer& to, T value) {
  // Enough for any 64-bit integer and for the shortest form of any double.
  constexpr size_t kMax = 32;
  char* at = to.Extend(kMax);
  const auto end = std::to_chars(at, at + kMax, value).ptr;
  to.Truncate(to.size() - (kMax - static_cast<size_t>(end - at)));
}

// Digits of `value` to at least `width`, with leading zeros.
void AppendPadded(Buffer& to, uint64_t value, size_t width) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  const auto n = static_cast<size_t>(end - digits);
  if (n < width) {
    std::memset(to.Extend(width - n), '0', width - n);
  }
  to.Append(digits, n);
}

// "05": two digits.
void AppendTwo(Buffer& to, uint64_t value) {
  char* at = to.Extend(2);
  at[0] = static_cast<char>('0' + value / 10);
  at[1] = static_cast<char>('0' + value % 10);
}

// ".5": up to six digits without trailing zeros; nothing for 0.
void AppendFraction(Buffer& to, uint64_t micros) {
  if (micros == 0) {
    return;
  }
  to.Append(".");
  AppendPadded(to, micros, 6);
  size_t size = to.size();
  while (to.data()[size - 1] == '0') {
    --size;
  }
  to.Truncate(size);
}

void AppendDay(Buffer& to, int64_t days) {
  const CivilDate date = CivilFromDays(days);
  if (date.year >= 0 && date.year <= 9999) {
    AppendTwo(to, static_cast<uint64_t>(date.year) / 100);
    AppendTwo(to, static_cast<uint64_t>(date.year) % 100);
  } else {
    to.Append(date.year < 0 ? "-" : "+");
    AppendPadded(to, static_cast<uint64_t>(date.year < 0 ? -date.year : date.year), 6);
  }
  to.Append("-");
  AppendTwo(to, static_cast<uint64_t>(date.month));
  to.Append("-");
  AppendTwo(to, static_cast<uint64_t>(date.day));
}

// True if it was one.
template <typename T>
bool AppendInfinity(Buffer& to, T value) {
  constexpr T kMost = sizeof(T) == 4 ? T{kDateInfinity} : static_cast<T>(kTimestampInfinity);
  if (value != kMost && value != -kMost) [[likely]] {
    return false;
  }
  to.Append(value == kMost ? "infinity" : "-infinity");
  return true;
}

// "-4H": nothing for 0.
void AppendPart(Buffer& to, int64_t value, char unit) {
  if (value != 0) {
    AppendInteger(to, value);
    to.Append(&unit, 1);
  }
}

}  // namespace

template <typename T>
void AppendInteger(Buffer& to, T value) {
  AppendNumber(to, value);
}
template void AppendInteger(Buffer& to, int8_t value);
template void AppendInteger(Buffer& to, int16_t value);
template void AppendInteger(Buffer& to, int32_t value);
template void AppendInteger(Buffer& to, int64_t value);
template void AppendInteger(Buffer& to, uint8_t value);
template void AppendInteger(Buffer& to, uint16_t value);
template void AppendInteger(Buffer& to, uint32_t value);
template void AppendInteger(Buffer& to, uint64_t value);

void AppendUnsigned128(Buffer& to, UInt128 value) {
  char digits[40];
  to.Append(digits, FormatUInt128(value, digits));
}

void AppendSigned128(Buffer& to, Int128 value) {
  to.Append(value < 0 ? "-" : "");
  AppendUnsigned128(to, Magnitude(value));
}

void AppendDecimal(Buffer& to, Int128 unscaled, size_t scale) {
  const UInt128 magnitude = Magnitude(unscaled);
  char digits[40];
  const size_t n = FormatUInt128(magnitude, digits);
  to.Append(unscaled < 0 ? "-" : "");
  if (scale == 0) {
    to.Append(digits, n);
  } else if (n > scale) {
    to.Append(digits, n - scale);
    to.Append(".");
    to.Append(digits + n - scale, scale);
  } else {
    to.Append("0.");
    if (scale != n) {
      std::memset(to.Extend(scale - n), '0', scale - n);
    }
    to.Append(digits, n);
  }
}

template <typename T>
void AppendFloat(Buffer& to, T value) {
  if (std::isfinite(value)) [[likely]] {
    AppendNumber(to, value);
  } else {
    to.Append(std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
  }
}
template void AppendFloat(Buffer& to, float value);
template void AppendFloat(Buffer& to, double value);

void AppendDate(Buffer& to, int32_t days) {
  if (!AppendInfinity(to, days)) {
    AppendDay(to, days);
  }
}

void AppendTime(Buffer& to, int64_t micros) {
  const auto seconds = static_cast<uint64_t>(micros / kMicrosPerSecond);
  AppendTwo(to, seconds / 3600);
  to.Append(":");
  AppendTwo(to, seconds / 60 % 60);
  to.Append(":");
  AppendTwo(to, seconds % 60);
  AppendFraction(to, static_cast<uint64_t>(micros % kMicrosPerSecond));
}

void AppendTimestamp(Buffer& to, TimestampMicros value, std::string_view zone) {
  if (AppendInfinity(to, value)) {
    return;
  }
  int64_t day = value / kMicrosPerDay;
  int64_t of_day = value % kMicrosPerDay;
  if (of_day < 0) {
    of_day += kMicrosPerDay;
    --day;
  }
  AppendDay(to, day);
  to.Append("T");
  AppendTime(to, of_day);
  to.Append(zone);
}

void AppendInterval(Buffer& to, const Interval& value) {
  if (value == kIntervalInfinity || value == kIntervalMinusInfinity) [[unlikely]] {
    to.Append(value == kIntervalInfinity ? "infinity" : "-infinity");
    return;
  }
  to.Append("P");
  AppendPart(to, value.months / 12, 'Y');
  AppendPart(to, value.months % 12, 'M');
  AppendPart(to, value.days, 'D');
  if (value.micros == 0) {
    if (value.months == 0 && value.days == 0) {
      to.Append("T0S");
    }
    return;
  }
  to.Append("T");
  const int64_t minutes = value.micros / kMicrosPerSecond / 60;
  AppendPart(to, minutes / 60, 'H');
  AppendPart(to, minutes % 60, 'M');
  const int64_t micros = value.micros % (60 * kMicrosPerSecond);
  if (micros != 0) {
    const auto magnitude = static_cast<uint64_t>(micros < 0 ? -micros : micros);
    to.Append(micros < 0 ? "-" : "");
    AppendInteger(to, magnitude / kMicrosPerSecond);
    AppendFraction(to, magnitude % kMicrosPerSecond);
    to.Append("S");
  }
}

void AppendUuid(Buffer& to, const char* bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  char* at = to.Extend(36);
  for (size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) {
      *at++ = '-';
    }
    const auto byte = static_cast<uint8_t>(bytes[i]);
    *at++ = kHex[byte >> 4];
    *at++ = kHex[byte & 15];
  }
}

void AppendBase64(Buffer& to, std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto* from = reinterpret_cast<const uint8_t*>(bytes.data());
  char* at = to.Extend((bytes.size() + 2) / 3 * 4);
  size_t i = 0;
  for (; i + 3 <= bytes.size(); i += 3) {
    const uint32_t group = uint32_t{from[i]} << 16 | uint32_t{from[i + 1]} << 8 | from[i + 2];
    *at++ = kDigits[group >> 18];
    *at++ = kDigits[group >> 12 & 63];
    *at++ = kDigits[group >> 6 & 63];
    *at++ = kDigits[group & 63];
  }
  const size_t rest = bytes.size() - i;
  if (rest != 0) {
    const uint32_t group = uint32_t{from[i]} << 16 | (rest == 2 ? uint32_t{from[i + 1]} << 8 : 0);
    *at++ = kDigits[group >> 18];
    *at++ = kDigits[group >> 12 & 63];
    *at++ = rest == 2 ? kDigits[group >> 6 & 63] : '=';
    *at++ = '=';
  }
}

}  // namespace millrace
