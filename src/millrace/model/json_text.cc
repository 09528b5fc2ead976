// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/json_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace millrace {

namespace {

constexpr int64_t kMicrosPerSecond = 1'000'000;
constexpr int64_t kMicrosPerDay = 86'400 * kMicrosPerSecond;

// For each byte of a JSON string: 0 as it is, 'u' as \u00XX, 0x80 part of a UTF-8 sequence, else
// the letter after the backslash.
constexpr std::array<uint8_t, 256> MakeEscapes() {
  std::array<uint8_t, 256> table{};
  for (size_t i = 0; i < 0x20; ++i) {
    table[i] = 'u';
  }
  for (size_t i = 0x80; i < 0x100; ++i) {
    table[i] = 0x80;
  }
  table['"'] = '"';
  table['\\'] = '\\';
  table['\b'] = 'b';
  table['\f'] = 'f';
  table['\n'] = 'n';
  table['\r'] = 'r';
  table['\t'] = 't';
  return table;
}
constexpr std::array<uint8_t, 256> kEscapes = MakeEscapes();

// The length of the valid UTF-8 sequence of two bytes or more at `at`, or 0.
size_t SequenceLength(const uint8_t* at, const uint8_t* end) {
  const auto is_tail = [&](size_t i) { return (at[i] & 0xc0) == 0x80; };
  const auto left = static_cast<size_t>(end - at);
  const uint8_t lead = at[0];
  if (lead >= 0xc2 && lead <= 0xdf) {
    return left >= 2 && is_tail(1) ? 2 : 0;
  }
  if ((lead & 0xf0) == 0xe0) {
    if (left < 3 || !is_tail(1) || !is_tail(2)) {
      return 0;
    }
    const bool overlong = lead == 0xe0 && at[1] < 0xa0;
    const bool surrogate = lead == 0xed && at[1] > 0x9f;
    return overlong || surrogate ? 0 : 3;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    if (left < 4 || !is_tail(1) || !is_tail(2) || !is_tail(3)) {
      return 0;
    }
    const bool overlong = lead == 0xf0 && at[1] < 0x90;
    const bool too_great = lead == 0xf4 && at[1] > 0x8f;
    return overlong || too_great ? 0 : 4;
  }
  return 0;
}

// The first byte in [at, end) that needs a look: an escape, or part of a UTF-8 sequence.
const uint8_t* SkipPlain(const uint8_t* at, const uint8_t* end) {
  constexpr uint64_t kOnes = 0x0101010101010101U;
  constexpr uint64_t kHighs = 0x8080808080808080U;
  while (end - at >= 8) {
    uint64_t word;
    std::memcpy(&word, at, sizeof(word));
    const uint64_t quote = word ^ (kOnes * '"');
    const uint64_t backslash = word ^ (kOnes * '\\');
    const uint64_t special = (word - kOnes * 0x20) | (quote - kOnes) | (backslash - kOnes) | word;
    if ((special & kHighs) != 0) {
      break;
    }
    at += 8;
  }
  while (at != end && kEscapes[*at] == 0) {
    ++at;
  }
  return at;
}

void AppendEscape(Buffer& to, uint8_t byte) {
  constexpr char kHex[] = "0123456789abcdef";
  const uint8_t escape = kEscapes[byte];
  if (escape == 'u') {
    const char text[] = {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
    to.Append(text, sizeof(text));
  } else {
    const char text[] = {'\\', static_cast<char>(escape)};
    to.Append(text, sizeof(text));
  }
}

// Appends text that is JSON already, with what is not UTF-8 replaced.
void AppendValidUtf8(Buffer& to, std::string_view text) {
  const auto* at = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t* const end = at + text.size();
  const uint8_t* from = at;
  while (at != end) {
    while (end - at >= 8) {
      uint64_t word;
      std::memcpy(&word, at, sizeof(word));
      if ((word & 0x8080808080808080U) != 0) {
        break;
      }
      at += 8;
    }
    if (at == end) {
      break;
    }
    if (*at < 0x80) {
      ++at;
    } else if (const size_t n = SequenceLength(at, end); n != 0) {
      at += n;
    } else {
      to.Append(from, static_cast<size_t>(at - from));
      to.Append("\xef\xbf\xbd");
      from = ++at;
    }
  }
  to.Append(from, static_cast<size_t>(end - from));
}

template <typename T>
void AppendNumber(Buffer& to, T value) {
  // Enough for any 64-bit integer and for the shortest form of any double.
  constexpr size_t kMax = 32;
  char* at = to.Extend(kMax);
  const auto end = std::to_chars(at, at + kMax, value).ptr;
  to.Truncate(to.size() - (kMax - static_cast<size_t>(end - at)));
}

void AppendSigned128(Buffer& to, Int128 value) {
  if (value < 0) {
    to.Append("-");
  }
  AppendUnsigned128(
      to, value < 0 ? UInt128{0} - static_cast<UInt128>(value) : static_cast<UInt128>(value));
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

// The date of a day number, by the proleptic Gregorian calendar in eras of 400 years that begin in
// March.
void AppendDay(Buffer& to, int64_t days_since_1970) {
  constexpr int64_t kDaysPerEra = 146'097;
  const int64_t day = days_since_1970 + 719'468;  // since 0000-03-01
  const int64_t era = (day >= 0 ? day : day - (kDaysPerEra - 1)) / kDaysPerEra;
  const int64_t of_era = day - era * kDaysPerEra;
  const int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36'524 - of_era / 146'096) / 365;
  const int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month_from_march = (5 * of_year + 2) / 153;
  const int64_t day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
  const int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
  const int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  if (year >= 0 && year <= 9999) {
    AppendTwo(to, static_cast<uint64_t>(year) / 100);
    AppendTwo(to, static_cast<uint64_t>(year) % 100);
  } else {
    to.Append(year < 0 ? "-" : "+");
    AppendPadded(to, static_cast<uint64_t>(year < 0 ? -year : year), 6);
  }
  to.Append("-");
  AppendTwo(to, static_cast<uint64_t>(month));
  to.Append("-");
  AppendTwo(to, static_cast<uint64_t>(day_of_month));
}

// REQUIRES: 0 <= micros <= kMicrosPerDay.
void AppendTimeOfDay(Buffer& to, int64_t micros) {
  const auto seconds = static_cast<uint64_t>(micros / kMicrosPerSecond);
  AppendTwo(to, seconds / 3600);
  to.Append(":");
  AppendTwo(to, seconds / 60 % 60);
  to.Append(":");
  AppendTwo(to, seconds % 60);
  AppendFraction(to, static_cast<uint64_t>(micros % kMicrosPerSecond));
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

void AppendTimestamp(Buffer& to, int64_t micros) {
  int64_t day = micros / kMicrosPerDay;
  int64_t of_day = micros % kMicrosPerDay;
  if (of_day < 0) {
    of_day += kMicrosPerDay;
    --day;
  }
  AppendDay(to, day);
  to.Append("T");
  AppendTimeOfDay(to, of_day);
}

// "-4H": nothing for 0.
void AppendPart(Buffer& to, int64_t value, char unit) {
  if (value != 0) {
    AppendNumber(to, value);
    to.Append(&unit, 1);
  }
}

void AppendInterval(Buffer& to, const Interval& value) {
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
    AppendUnsigned(to, magnitude / kMicrosPerSecond);
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

template <typename T>
void AppendDecimal(Buffer& to, T unscaled, size_t scale) {
  const Int128 value = unscaled;
  const UInt128 magnitude =
      value < 0 ? UInt128{0} - static_cast<UInt128>(value) : static_cast<UInt128>(value);
  char digits[40];
  const size_t n = FormatUInt128(magnitude, digits);
  to.Append(value < 0 ? "-" : "");
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

// The writers, one for each kind. Each appends a value that is not NULL, bare; `kQuoted` says
// whether JSON puts it in quotes.

struct WriteBool {
  static constexpr bool kQuoted = false;
  static void Write(const Column& column, size_t row, Buffer& to) {
    to.Append(column.Value<uint8_t>(row) != 0 ? "true" : "false");
  }
};

template <typename T>
struct WriteInteger {
  static constexpr bool kQuoted = false;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendNumber(to, column.Value<T>(row));
  }
};

struct WriteInt128 {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendSigned128(to, column.Value<Int128>(row));
  }
};

struct WriteUInt128 {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendUnsigned128(to, column.Value<UInt128>(row));
  }
};

template <typename T>
struct WriteDecimal {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendDecimal(to, column.Value<T>(row), column.type().scale);
  }
};

struct WriteDate {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    const auto days = column.Value<int32_t>(row);
    if (!AppendInfinity(to, days)) {
      AppendDay(to, days);
    }
  }
};

struct WriteTime {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendTimeOfDay(to, column.Value<int64_t>(row));
  }
};

template <bool kZone>
struct WriteTimestamp {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    const auto micros = column.Value<int64_t>(row);
    if (!AppendInfinity(to, micros)) {
      AppendTimestamp(to, micros);
      to.Append(kZone ? "Z" : "");
    }
  }
};

struct WriteInterval {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendInterval(to, column.Value<Interval>(row));
  }
};

struct WriteUuid {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendUuid(to, column.ValueBytes(row));
  }
};

struct WriteBytes {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendBase64(to, column.Text(row));
  }
};

void WriteRaw(const Column& column, size_t row, Buffer& to) { to.Append(column.Text(row)); }

void WriteEmbedded(const Column& column, size_t row, Buffer& to) {
  AppendValidUtf8(to, column.Text(row));
}

void WriteString(const Column& column, size_t row, Buffer& to) {
  AppendJsonString(to, column.Text(row));
}

void WriteList(const Column& column, size_t row, Buffer& to) {
  const Column& child = column.child();
  const ValueWriter write = JsonWriterOf(child.type());
  const auto [begin, end] = column.ListRange(row);
  to.Append("[");
  for (size_t i = begin; i < end; ++i) {
    if (i != begin) {
      to.Append(",");
    }
    write(child, i, to);
  }
  to.Append("]");
}

// A writer of what is not NULL as one of JSON.
template <ValueWriter kWrite, bool kQuoted>
void WriteJson(const Column& column, size_t row, Buffer& to) {
  if (column.IsNull(row)) {
    to.Append("null");
    return;
  }
  if constexpr (kQuoted) {
    to.Append("\"");
  }
  kWrite(column, row, to);
  if constexpr (kQuoted) {
    to.Append("\"");
  }
}

template <typename T>
void WriteFloatText(const Column& column, size_t row, Buffer& to) {
  const T value = column.Value<T>(row);
  if (std::isfinite(value)) [[likely]] {
    AppendNumber(to, value);
  } else {
    to.Append(std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
  }
}

template <typename T>
void WriteFloatJson(const Column& column, size_t row, Buffer& to) {
  const bool quoted = !std::isfinite(column.Value<T>(row));
  to.Append(quoted ? "\"" : "");
  WriteFloatText<T>(column, row, to);
  to.Append(quoted ? "\"" : "");
}

// Both forms of a kind.
struct Writers {
  ValueWriter text;
  ValueWriter json;
};

template <typename Kind>
constexpr Writers Both() {
  return {Kind::Write, WriteJson<Kind::Write, Kind::kQuoted>};
}

Writers DecimalWriters(const DataType& type) {
  switch (DecimalWidth(type.precision)) {
    case 2:
      return Both<WriteDecimal<int16_t>>();
    case 4:
      return Both<WriteDecimal<int32_t>>();
    case 8:
      return Both<WriteDecimal<int64_t>>();
    default:
      return Both<WriteDecimal<Int128>>();
  }
}

Writers WritersOf(const DataType& type) {
  switch (type.kind) {
    case TypeKind::kBool:
      return Both<WriteBool>();
    case TypeKind::kInt8:
      return Both<WriteInteger<int8_t>>();
    case TypeKind::kInt16:
      return Both<WriteInteger<int16_t>>();
    case TypeKind::kInt32:
      return Both<WriteInteger<int32_t>>();
    case TypeKind::kInt64:
      return Both<WriteInteger<int64_t>>();
    case TypeKind::kInt128:
      return Both<WriteInt128>();
    case TypeKind::kUInt8:
      return Both<WriteInteger<uint8_t>>();
    case TypeKind::kUInt16:
      return Both<WriteInteger<uint16_t>>();
    case TypeKind::kUInt32:
      return Both<WriteInteger<uint32_t>>();
    case TypeKind::kUInt64:
      return Both<WriteInteger<uint64_t>>();
    case TypeKind::kUInt128:
      return Both<WriteUInt128>();
    case TypeKind::kFloat32:
      return {WriteFloatText<float>, WriteJson<WriteFloatJson<float>, false>};
    case TypeKind::kFloat64:
      return {WriteFloatText<double>, WriteJson<WriteFloatJson<double>, false>};
    case TypeKind::kDecimal:
      return DecimalWriters(type);
    case TypeKind::kDate:
      return Both<WriteDate>();
    case TypeKind::kTime:
      return Both<WriteTime>();
    case TypeKind::kTimestamp:
      return Both<WriteTimestamp<false>>();
    case TypeKind::kTimestampTz:
      return Both<WriteTimestamp<true>>();
    case TypeKind::kInterval:
      return Both<WriteInterval>();
    case TypeKind::kUuid:
      return Both<WriteUuid>();
    case TypeKind::kText:
    case TypeKind::kEnum:
      return {WriteRaw, WriteJson<WriteString, false>};
    case TypeKind::kJson:
      return {WriteRaw, WriteJson<WriteEmbedded, false>};
    case TypeKind::kBytes:
      return Both<WriteBytes>();
    case TypeKind::kList:
      return {WriteList, WriteJson<WriteList, false>};
  }
  MR_CHECK(false);
}

}  // namespace

ValueWriter JsonWriterOf(const DataType& type) { return WritersOf(type).json; }

ValueWriter TextWriterOf(const DataType& type) { return WritersOf(type).text; }

void AppendJsonString(Buffer& to, std::string_view text) {
  to.Append("\"");
  const auto* at = reinterpret_cast<const uint8_t*>(text.data());
  const uint8_t* const end = at + text.size();
  const uint8_t* from = at;  // what is copied as it is begins here
  while (true) {
    at = SkipPlain(at, end);
    if (at == end) {
      break;
    }
    if (*at >= 0x80) {
      if (const size_t n = SequenceLength(at, end); n != 0) {
        at += n;
        continue;
      }
    }
    to.Append(from, static_cast<size_t>(at - from));
    if (*at >= 0x80) {
      to.Append("\xef\xbf\xbd");
    } else {
      AppendEscape(to, *at);
    }
    from = ++at;
  }
  to.Append(from, static_cast<size_t>(end - from));
  to.Append("\"");
}

void AppendUnsigned(Buffer& to, uint64_t value) { AppendNumber(to, value); }

void AppendUnsigned128(Buffer& to, UInt128 value) {
  char digits[40];
  to.Append(digits, FormatUInt128(value, digits));
}

void AppendTimestampTz(Buffer& to, TimestampMicros value) {
  if (!AppendInfinity(to, value)) {
    AppendTimestamp(to, value);
    to.Append("Z");
  }
}

}  // namespace millrace
