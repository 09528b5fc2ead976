// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/value_parser.h"

#include <array>
#include <charconv>
#include <concepts>
#include <limits>
#include <string>

#include "millrace/common/coding.h"
#include "millrace/common/utf8.h"
#include "millrace/sources/postgres/calendar.h"

namespace millrace::sources::postgres {

const ValueError kRowTooLarge{
    Code::kInvalidArgument,
    "the row is larger than 256 MiB, the most that is taken; split it, or keep its large values "
    "out of the publication by a column list"};

namespace {

constexpr ValueError kMalformed{Code::kCorruption, "the text is not of the column's type"};
constexpr ValueError kDecimalTooLarge{Code::kInvalidArgument,
                                      "the number has more digits than the column's type"};
constexpr ValueError kTimestampTooLarge{
    Code::kInvalidArgument, "the timestamp lies outside 64-bit microseconds since 1970"};
constexpr ValueError kIntervalTooLarge{
    Code::kInvalidArgument, "the interval does not fit its months, days and microseconds"};
constexpr ValueError kNotUtf8{
    Code::kInvalidArgument,
    "the text is not valid UTF-8, which a database of encoding SQL_ASCII does not check; correct "
    "the row"};
constexpr ValueError kMultiDimensional{
    Code::kInvalidArgument, "multi-dimensional array in a column of one-dimensional arrays"};

// ------------------------------------------------------------------------------------- numbers

const ValueError* AppendBool(std::string_view text, Column& column) {
  if (text.size() != 1 || (text[0] != 't' && text[0] != 'f')) {
    return &kMalformed;
  }
  column.Append<uint8_t>(text[0] == 't');
  return nullptr;
}

template <std::integral T>
const ValueError* AppendInteger(std::string_view text, Column& column) {
  T value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) [[unlikely]] {
    return &kMalformed;
  }
  column.Append(value);
  return nullptr;
}

template <std::floating_point T>
const ValueError* AppendFloat(std::string_view text, Column& column) {
  T value = 0;
  if (text == "NaN") {
    value = std::numeric_limits<T>::quiet_NaN();
  } else if (text == "Infinity") {
    value = std::numeric_limits<T>::infinity();
  } else if (text == "-Infinity") {
    value = -std::numeric_limits<T>::infinity();
  } else {
    const char first = text.empty()                             ? '\0'
                       : text.front() == '-' && text.size() > 1 ? text[1]
                                                                : text.front();
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (first < '0' || first > '9' || parsed.ec != std::errc() ||
        parsed.ptr != text.data() + text.size()) [[unlikely]] {
      return &kMalformed;
    }
  }
  column.Append(value);
  return nullptr;
}

constexpr std::array<UInt128, 39> MakePowersOfTen() {
  std::array<UInt128, 39> powers{};
  powers[0] = 1;
  for (size_t i = 1; i < powers.size(); ++i) {
    powers[i] = powers[i - 1] * 10;
  }
  return powers;
}
constexpr std::array<UInt128, 39> kPowersOfTen = MakePowersOfTen();

// The digits of `text`, sign apart, as an integer scaled by 10^scale; below 10^precision.
const ValueError* ParseScaled(std::string_view text, uint32_t precision, uint32_t scale,
                              UInt128& value) {
  UInt128 v = 0;
  uint64_t low = 0;  // the last up to 18 digits, gathered in a register
  uint32_t low_digits = 0;
  uint32_t significant = 0;  // digits from the first that is not zero
  uint32_t fraction = 0;
  bool in_fraction = false;
  bool any = false;
  for (const char c : text) {
    const uint32_t digit = static_cast<uint32_t>(c - '0');
    if (digit > 9) {
      if (c != '.' || in_fraction) {
        return &kMalformed;
      }
      in_fraction = true;
      continue;
    }
    any = true;
    if (in_fraction && fraction == scale) {
      if (digit != 0) {
        return &kDecimalTooLarge;
      }
      continue;
    }
    fraction += in_fraction;
    significant += significant != 0 || digit != 0;
    if (significant > precision) {
      return &kDecimalTooLarge;
    }
    low = low * 10 + digit;
    if (++low_digits == 18) {
      v = v * kPowersOfTen[18] + low;
      low = 0;
      low_digits = 0;
    }
  }
  if (!any) {
    return &kMalformed;
  }
  v = v * kPowersOfTen[low_digits] + low;
  if (v != 0 && significant + (scale - fraction) > precision) {
    return &kDecimalTooLarge;
  }
  value = v * kPowersOfTen[scale - fraction];
  return nullptr;
}

template <typename T>
const ValueError* AppendDecimal(std::string_view text, Column& column) {
  const bool is_negative = !text.empty() && text.front() == '-';
  const std::string_view digits = is_negative ? text.substr(1) : text;
  if (text == "NaN") [[unlikely]] {
    column.Append(kDecimalNaN<T>);
    return nullptr;
  }
  UInt128 magnitude = 0;
  const DataType& type = column.type();
  if (const ValueError* error = ParseScaled(digits, type.precision, type.scale, magnitude)) {
    return error;
  }
  const Int128 value = static_cast<Int128>(magnitude);
  column.Append(static_cast<T>(is_negative ? -value : value));
  return nullptr;
}

// -------------------------------------------------------------------------------- dates, times

const ValueError* AppendDate(std::string_view text, Column& column) {
  if (text == "infinity" || text == "-infinity") {
    column.Append(text.front() == '-' ? kDateMinusInfinity : kDateInfinity);
    return nullptr;
  }
  CalendarReader reader(text);
  int64_t days = 0;
  int64_t year = 0;
  if (!reader.ReadDate(days, year) || !reader.ReadEra(days, year) || !reader.AtEnd()) [[unlikely]] {
    return &kMalformed;
  }
  if (days >= kDateInfinity || days <= kDateMinusInfinity) {
    return &kMalformed;  // beyond what PostgreSQL's date holds
  }
  column.Append(static_cast<int32_t>(days));
  return nullptr;
}

const ValueError* AppendTime(std::string_view text, Column& column) {
  CalendarReader reader(text);
  int64_t micros = 0;
  if (!reader.ReadTime(micros) || !reader.AtEnd()) [[unlikely]] {
    return &kMalformed;
  }
  column.Append(micros);
  return nullptr;
}

template <bool kWithZone>
const ValueError* AppendTimestamp(std::string_view text, Column& column) {
  if (!text.empty() && (text.back() == 'y')) {
    if (text != "infinity" && text != "-infinity") {
      return &kMalformed;
    }
    column.Append(text.front() == '-' ? kTimestampMinusInfinity : kTimestampInfinity);
    return nullptr;
  }
  CalendarReader reader(text);
  int64_t days = 0;
  int64_t year = 0;
  int64_t time = 0;
  int64_t offset = 0;
  if (!reader.ReadDate(days, year) || !reader.Skip(' ') || !reader.ReadTime(time) ||
      (kWithZone && !reader.ReadZone(offset)) || !reader.ReadEra(days, year) || !reader.AtEnd())
      [[unlikely]] {
    return &kMalformed;
  }
  int64_t micros = 0;
  if (__builtin_mul_overflow(days, kMicrosPerDay, &micros) ||
      __builtin_add_overflow(micros, time - offset, &micros) || micros >= kTimestampInfinity ||
      micros <= kTimestampMinusInfinity) [[unlikely]] {
    return &kTimestampTooLarge;
  }
  column.Append(micros);
  return nullptr;
}

const ValueError* AppendInterval(std::string_view text, Column& column) {
  if (text == "infinity" || text == "-infinity") {
    column.AppendFixed(text.front() == '-' ? &kIntervalMinusInfinity : &kIntervalInfinity);
    return nullptr;
  }
  Interval interval;
  switch (ParseIsoInterval(text, interval)) {
    case IntervalParse::kOk:
      // Up to PostgreSQL 16 these two are finite.
      if (interval == kIntervalInfinity || interval == kIntervalMinusInfinity) {
        return &kIntervalTooLarge;
      }
      column.AppendFixed(&interval);
      return nullptr;
    case IntervalParse::kOutOfRange:
      return &kIntervalTooLarge;
    case IntervalParse::kMalformed:
      break;
  }
  return &kMalformed;
}

// ------------------------------------------------------------------------------- bytes and text

constexpr std::array<int8_t, 256> MakeHexTable() {
  std::array<int8_t, 256> table{};
  table.fill(-1);
  for (uint8_t i = 0; i < 10; ++i) {
    table[uint8_t{'0'} + i] = static_cast<int8_t>(i);
  }
  for (uint8_t i = 0; i < 6; ++i) {
    table[uint8_t{'a'} + i] = static_cast<int8_t>(10 + i);
    table[uint8_t{'A'} + i] = static_cast<int8_t>(10 + i);
  }
  return table;
}
constexpr std::array<int8_t, 256> kHex = MakeHexTable();

// Two hexadecimal digits; negative if they are none.
int HexByte(const char* at) {
  return kHex[static_cast<uint8_t>(at[0])] * 16 | kHex[static_cast<uint8_t>(at[1])];
}

const ValueError* AppendUuid(std::string_view text, Column& column) {
  if (text.size() != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-')
      [[unlikely]] {
    return &kMalformed;
  }
  constexpr std::array<uint8_t, 16> kAt = {0,  2,  4,  6,  9,  11, 14, 16,
                                           19, 21, 24, 26, 28, 30, 32, 34};
  std::array<uint8_t, 16> bytes{};
  int bad = 0;
  for (size_t i = 0; i < 16; ++i) {
    const int byte = HexByte(text.data() + kAt[i]);
    bad |= byte;
    bytes[i] = static_cast<uint8_t>(byte);
  }
  if (bad < 0) [[unlikely]] {
    return &kMalformed;
  }
  column.AppendFixed(bytes.data());
  return nullptr;
}

const ValueError* AppendBytes(std::string_view text, Column& column) {
  if (text.size() % 2 != 0 || !text.starts_with("\\x")) [[unlikely]] {
    return &kMalformed;
  }
  const size_t size = text.size() / 2 - 1;
  if (size > kRowBytesMax) [[unlikely]] {
    return &kRowTooLarge;
  }
  char* const to = column.AppendTextOf(size);
  int bad = 0;
  for (size_t i = 0; i < size; ++i) {
    const int byte = HexByte(text.data() + 2 + 2 * i);
    bad |= byte;
    to[i] = static_cast<char>(byte);
  }
  if (bad < 0) [[unlikely]] {
    column.Truncate(column.size() - 1);
    return &kMalformed;
  }
  return nullptr;
}

const ValueError* AppendPlainText(std::string_view text, Column& column) {
  if (text.size() > kRowBytesMax) [[unlikely]] {
    return &kRowTooLarge;
  }
  if (!IsValidUtf8(text)) [[unlikely]] {
    return &kNotUtf8;
  }
  column.AppendText(text);
  return nullptr;
}

const ValueError* AppendJson(std::string_view text, Column& column) {
  // The server prints valid JSON. Nothing at all would tear the JSON that it is embedded in.
  return text.empty() ? &kMalformed : AppendPlainText(text, column);
}

// --------------------------------------------------------------------------------------- arrays

// Reads the elements of `{...}`, the braces left out.
class ArrayReader {
 public:
  explicit ArrayReader(std::string_view body) : at_(body.data()), end_(at_ + body.size()) {}

  struct Element {
    bool is_null = false;
    std::string_view text;  // valid until the next Read()
  };

  // False if the text is no array; `error` says which kind of none.
  bool Read(Element& element, const ValueError*& error) {
    error = &kMalformed;
    if (at_ == end_) {
      return false;
    }
    if (*at_ == '{') {
      error = &kMultiDimensional;
      return false;
    }
    return *at_ == '"' ? ReadQuoted(element) : ReadPlain(element);
  }

  bool AtEnd() const { return at_ == end_; }
  bool SkipComma() {
    if (at_ == end_ || *at_ != ',') {
      return false;
    }
    ++at_;
    return true;
  }

 private:
  bool ReadPlain(Element& element) {
    const char* begin = at_;
    while (at_ != end_ && *at_ != ',') {
      if (*at_ == '"' || *at_ == '{' || *at_ == '}' || *at_ == '\\') {
        return false;
      }
      ++at_;
    }
    element.text = {begin, static_cast<size_t>(at_ - begin)};
    element.is_null = element.text == "NULL";
    return !element.text.empty();
  }

  bool ReadQuoted(Element& element) {
    const char* begin = ++at_;
    bool escaped = false;
    for (; at_ != end_ && *at_ != '"'; ++at_) {
      if (*at_ == '\\') {
        escaped = true;
        if (++at_ == end_) {
          return false;
        }
      }
    }
    if (at_ == end_) {
      return false;
    }
    element = {.is_null = false, .text = {begin, static_cast<size_t>(at_ - begin)}};
    ++at_;
    if (escaped) {
      Unescape(element);
    }
    return true;
  }

  void Unescape(Element& element) {
    unescaped_.clear();
    unescaped_.reserve(element.text.size());
    std::string_view rest = element.text;
    for (size_t at = 0; (at = rest.find('\\')) != std::string_view::npos;) {
      unescaped_.append(rest, 0, at);
      unescaped_.push_back(rest[at + 1]);
      rest.remove_prefix(at + 2);
    }
    unescaped_.append(rest);
    element.text = unescaped_;
  }

  const char* at_;
  const char* end_;
  std::string unescaped_;
};

// Drops the "[2:3]=" of an array whose lower bound is not 1. False if it is no such thing.
bool SkipBounds(std::string_view& text, const ValueError*& error) {
  error = &kMalformed;
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    return false;
  }
  const std::string_view bounds = text.substr(0, equals);
  if (bounds.find_first_not_of("[]:-+0123456789") != std::string_view::npos ||
      bounds.back() != ']') {
    return false;
  }
  if (bounds.find('[', 1) != std::string_view::npos) {
    error = &kMultiDimensional;
    return false;
  }
  text.remove_prefix(equals + 1);
  return true;
}

const ValueError* AppendElements(std::string_view body, Column& child) {
  const AppendValueFn append = ValueParserFor(child.type());
  ArrayReader reader(body);
  ArrayReader::Element element;
  const ValueError* error = nullptr;
  for (;;) {
    if (!reader.Read(element, error)) {
      return error;
    }
    if (element.is_null) {
      child.AppendNull();
    } else if ((error = append(element.text, child)) != nullptr) {
      return error;
    }
    if (reader.AtEnd()) {
      return nullptr;
    }
    if (!reader.SkipComma()) {
      return &kMalformed;
    }
  }
}

const ValueError* AppendList(std::string_view text, Column& column) {
  const ValueError* error = nullptr;
  if (text.size() > kRowBytesMax) [[unlikely]] {
    return &kRowTooLarge;
  }
  if (text.starts_with('[') && !SkipBounds(text, error)) {
    return error;
  }
  if (text.size() < 2 || text.front() != '{' || text.back() != '}') [[unlikely]] {
    return &kMalformed;
  }
  const std::string_view body = text.substr(1, text.size() - 2);
  if (!body.empty()) {
    const size_t size_before = column.child().size();
    if ((error = AppendElements(body, column.child())) != nullptr) {
      column.child().Truncate(size_before);
      return error;
    }
  }
  column.AppendListEnd();
  return nullptr;
}

AppendValueFn DecimalParserFor(const DataType& type) {
  switch (type.width()) {
    case 2:
      return AppendDecimal<int16_t>;
    case 4:
      return AppendDecimal<int32_t>;
    case 8:
      return AppendDecimal<int64_t>;
    default:
      return AppendDecimal<Int128>;
  }
}

}  // namespace

AppendValueFn ValueParserFor(const DataType& type) {
  switch (type.kind) {
    case TypeKind::kBool:
      return AppendBool;
    case TypeKind::kInt16:
      return AppendInteger<int16_t>;
    case TypeKind::kInt32:
      return AppendInteger<int32_t>;
    case TypeKind::kInt64:
      return AppendInteger<int64_t>;
    case TypeKind::kFloat32:
      return AppendFloat<float>;
    case TypeKind::kFloat64:
      return AppendFloat<double>;
    case TypeKind::kDecimal:
      return DecimalParserFor(type);
    case TypeKind::kDate:
      return AppendDate;
    case TypeKind::kTime:
      return AppendTime;
    case TypeKind::kTimestamp:
      return AppendTimestamp<false>;
    case TypeKind::kTimestampTz:
      return AppendTimestamp<true>;
    case TypeKind::kInterval:
      return AppendInterval;
    case TypeKind::kUuid:
      return AppendUuid;
    case TypeKind::kText:
    case TypeKind::kEnum:
      return AppendPlainText;
    case TypeKind::kJson:
      return AppendJson;
    case TypeKind::kBytes:
      return AppendBytes;
    case TypeKind::kList:
      return AppendList;
    case TypeKind::kInt8:
    case TypeKind::kInt128:
    case TypeKind::kUInt8:
    case TypeKind::kUInt16:
    case TypeKind::kUInt32:
    case TypeKind::kUInt64:
    case TypeKind::kUInt128:
      break;
  }
  MR_CHECK(false && "a type that no column of PostgreSQL maps to");
  return nullptr;
}

}  // namespace millrace::sources::postgres
