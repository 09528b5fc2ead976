// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/json_text.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "millrace/common/utf8.h"
#include "millrace/model/value_text.h"

namespace millrace {

namespace {

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
  for (;;) {
    const size_t valid = ValidUtf8Prefix(text);
    to.Append(text.substr(0, valid));
    if (valid == text.size()) {
      return;
    }
    to.Append("\xef\xbf\xbd");
    text.remove_prefix(valid + 1);
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
    AppendInteger(to, column.Value<T>(row));
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
    const T value = column.Value<T>(row);
    if (value == kDecimalNaN<T>) [[unlikely]] {
      to.Append("NaN");
    } else {
      AppendDecimal(to, value, column.type().scale);
    }
  }
};

struct WriteDate {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendDate(to, column.Value<int32_t>(row));
  }
};

struct WriteTime {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendTime(to, column.Value<int64_t>(row));
  }
};

template <bool kZone>
struct WriteTimestamp {
  static constexpr bool kQuoted = true;
  static void Write(const Column& column, size_t row, Buffer& to) {
    AppendTimestamp(to, column.Value<int64_t>(row), kZone ? "Z" : "");
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
  AppendFloat(to, column.Value<T>(row));
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
      if (const size_t n = Utf8SequenceLength(at, end); n != 0) {
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

}  // namespace millrace
