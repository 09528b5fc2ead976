// SPDX-License-Identifier: Apache-2.0
#include "millrace/storage/row_codec.h"

#include <bit>
#include <cmath>
#include <concepts>
#include <cstring>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "millrace/common/check.h"
#include "millrace/common/coding.h"

namespace millrace::storage {

namespace {

constexpr uint8_t kRowFormat = 1;

// Marks in keys. They sort NULL before values, and the end of a list before its next element.
constexpr char kListEnd = 0;
constexpr char kNull = 1;
constexpr char kValue = 2;
// Within text a zero byte is followed by one of these.
constexpr char kTextEnd = 1;
constexpr char kTextZero = static_cast<char>(0xff);

// std::string and Buffer, appended to alike.
void AppendBytes(std::string& to, const char* bytes, size_t n) { to.append(bytes, n); }
void AppendBytes(Buffer& to, const char* bytes, size_t n) { to.Append(bytes, n); }
void AppendByte(std::string& to, char byte) { to.push_back(byte); }
void AppendByte(Buffer& to, char byte) { *to.Extend(1) = byte; }

template <typename To, std::unsigned_integral T>
void AppendOrdered(To& to, T v) {
  char bytes[1 + sizeof(T)] = {kValue};
  if constexpr (sizeof(T) > 1) {
    v = SwapBytes(v);
  }
  std::memcpy(bytes + 1, &v, sizeof(T));
  AppendBytes(to, bytes, sizeof(bytes));
}

// All widths of signed integers give eight bytes, so that a widened column keeps its keys.
template <typename To>
void AppendSigned(To& to, int64_t v) {
  AppendOrdered(to, static_cast<uint64_t>(v) ^ (uint64_t{1} << 63));
}

template <typename To>
void AppendUInt128(To& to, UInt128 v) {
  char bytes[17] = {kValue};
  const uint64_t high = SwapBytes(static_cast<uint64_t>(v >> 64));
  const uint64_t low = SwapBytes(static_cast<uint64_t>(v));
  std::memcpy(bytes + 1, &high, 8);
  std::memcpy(bytes + 9, &low, 8);
  AppendBytes(to, bytes, sizeof(bytes));
}

template <typename To>
void AppendInt128(To& to, Int128 v) {
  AppendUInt128(to, static_cast<UInt128>(v) ^ (UInt128{1} << 127));
}

template <typename To>
void AppendDouble(To& to, double v) {
  if (v == 0) {
    v = 0;  // -0.0 too
  } else if (std::isnan(v)) {
    v = std::numeric_limits<double>::quiet_NaN();  // sorts last, as in PostgreSQL
  }
  const auto bits = std::bit_cast<uint64_t>(v);
  const uint64_t sign = uint64_t{1} << 63;
  AppendOrdered(to, (bits & sign) != 0 ? ~bits : bits | sign);
}

template <typename To>
void AppendInterval(To& to, const Interval& v) {
  constexpr Int128 kDay = Int128{86'400} * 1'000'000;
  AppendInt128(to, (Int128{v.months} * 30 + v.days) * kDay + v.micros);
}

template <typename To>
void AppendTextKey(To& to, std::string_view text) {
  AppendByte(to, kValue);
  while (true) {
    const void* zero = text.empty() ? nullptr : std::memchr(text.data(), 0, text.size());
    if (zero == nullptr) {
      break;
    }
    const auto n = static_cast<size_t>(static_cast<const char*>(zero) - text.data()) + 1;
    AppendBytes(to, text.data(), n);
    AppendByte(to, kTextZero);
    text.remove_prefix(n);
  }
  AppendBytes(to, text.data(), text.size());
  const char end[2] = {0, kTextEnd};
  AppendBytes(to, end, 2);
}

template <typename T, typename To>
void AppendDecimalOf(To& to, T value) {
  AppendInt128(to, value == kDecimalNaN<T> ? kDecimalNaN<Int128> : Int128{value});
}

template <typename To>
void AppendDecimalKey(To& to, const Column& column, size_t row) {
  switch (column.type().width()) {
    case 2:
      return AppendDecimalOf(to, column.Value<int16_t>(row));
    case 4:
      return AppendDecimalOf(to, column.Value<int32_t>(row));
    case 8:
      return AppendDecimalOf(to, column.Value<int64_t>(row));
    default:
      return AppendDecimalOf(to, column.Value<Int128>(row));
  }
}

template <typename To>
void AppendKeyValue(To& to, const Column& column, size_t row) {
  if (column.IsNull(row)) {
    AppendByte(to, kNull);
    return;
  }
  switch (column.type().kind) {
    case TypeKind::kBool:
    case TypeKind::kUInt8:
      return AppendOrdered(to, uint64_t{column.Value<uint8_t>(row)});
    case TypeKind::kInt8:
      return AppendSigned(to, column.Value<int8_t>(row));
    case TypeKind::kInt16:
      return AppendSigned(to, column.Value<int16_t>(row));
    case TypeKind::kInt32:
    case TypeKind::kDate:
      return AppendSigned(to, column.Value<int32_t>(row));
    case TypeKind::kInt64:
    case TypeKind::kTime:
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
      return AppendSigned(to, column.Value<int64_t>(row));
    case TypeKind::kInt128:
      return AppendInt128(to, column.Value<Int128>(row));
    case TypeKind::kUInt16:
      return AppendOrdered(to, uint64_t{column.Value<uint16_t>(row)});
    case TypeKind::kUInt32:
      return AppendOrdered(to, uint64_t{column.Value<uint32_t>(row)});
    case TypeKind::kUInt64:
      return AppendOrdered(to, column.Value<uint64_t>(row));
    case TypeKind::kUInt128:
      return AppendUInt128(to, column.Value<UInt128>(row));
    case TypeKind::kFloat32:
      return AppendDouble(to, column.Value<float>(row));
    case TypeKind::kFloat64:
      return AppendDouble(to, column.Value<double>(row));
    case TypeKind::kDecimal:
      return AppendDecimalKey(to, column, row);
    case TypeKind::kInterval:
      return AppendInterval(to, column.Value<Interval>(row));
    case TypeKind::kUuid:
      AppendByte(to, kValue);
      return AppendBytes(to, column.ValueBytes(row), 16);
    case TypeKind::kText:
    case TypeKind::kEnum:
    case TypeKind::kJson:
    case TypeKind::kBytes:
      return AppendTextKey(to, column.Text(row));
    case TypeKind::kList: {
      AppendByte(to, kValue);
      const auto [begin, end] = column.ListRange(row);
      for (size_t i = begin; i < end; ++i) {
        AppendKeyValue(to, column.child(), i);
      }
      return AppendByte(to, kListEnd);
    }
  }
}

// Appends a bitmap of n bits, 1 = NULL, then the values that are not NULL. `column_of` gives the
// column and row of value i.
template <typename To, typename ColumnOf>
void AppendValues(To& to, size_t n, const ColumnOf& column_of);

template <typename To>
void AppendRowValue(To& to, const Column& column, size_t row) {
  const size_t width = column.type().width();
  if (width != 0) {
    AppendBytes(to, column.ValueBytes(row), width);
  } else if (column.type().is_list()) {
    const auto [begin, end] = column.ListRange(row);
    AppendVarint(to, end - begin);
    AppendValues(to, end - begin, [&, first = begin](size_t i) {
      return std::pair<const Column&, size_t>(column.child(), first + i);
    });
  } else {
    const std::string_view text = column.Text(row);
    AppendVarint(to, text.size());
    AppendBytes(to, text.data(), text.size());
  }
}

template <typename To, typename ColumnOf>
void AppendValues(To& to, size_t n, const ColumnOf& column_of) {
  for (size_t base = 0; base < n; base += 8) {
    uint32_t bits = 0;
    for (size_t i = base; i < n && i < base + 8; ++i) {
      const auto [column, row] = column_of(i);
      bits |= static_cast<uint32_t>(column.IsNull(row)) << (i - base);
    }
    AppendByte(to, static_cast<char>(bits));
  }
  for (size_t i = 0; i < n; ++i) {
    const auto [column, row] = column_of(i);
    if (!column.IsNull(row)) {
      AppendRowValue(to, column, row);
    }
  }
}

template <typename To>
void AppendRow(To& to, const RowBatch& batch, size_t row, SchemaVersion version,
               std::span<const uint32_t> columns) {
  AppendByte(to, static_cast<char>(kRowFormat));
  AppendVarint(to, version.value());
  AppendVarint(to, columns.size());
  AppendValues(to, columns.size(), [&](size_t i) {
    return std::pair<const Column&, size_t>(batch.column(columns[i]), row);
  });
}

// Reads the format byte and the schema version.
Result<SchemaVersion> ReadRowHeader(ByteReader& reader) {
  MR_ASSIGN_OR_RETURN(const uint8_t format, reader.ReadLittleEndian<uint8_t>());
  if (format > kRowFormat) {
    return Unsupported(
        fmt::format("a state row has format {}; this version reads up to {}", format, kRowFormat));
  }
  if (format != kRowFormat) {
    return Corruption("a state row has no format");
  }
  MR_ASSIGN_OR_RETURN(const uint64_t version, reader.ReadVarint());
  if (version > UINT32_MAX) {
    return Corruption("a state row has a schema version beyond 32 bits");
  }
  return SchemaVersion(static_cast<uint32_t>(version));
}

Result<std::string_view> ReadNullBitmap(ByteReader& reader, size_t n) {
  MR_ASSIGN_OR_RETURN(const std::string_view nulls, reader.ReadBytes(n / 8 + (n % 8 != 0 ? 1 : 0)));
  if (n % 8 != 0 && static_cast<uint8_t>(nulls.back()) >> (n % 8) != 0) {
    return Corruption("a state row marks values as NULL that it does not have");
  }
  return nulls;
}

bool IsNullAt(std::string_view nulls, size_t i) {
  return (static_cast<uint8_t>(nulls[i / 8]) >> (i % 8) & 1) != 0;
}

Status ReadValue(ByteReader& reader, Column& to);

Status ReadElements(ByteReader& reader, uint64_t n, Column& to) {
  // Checks the length: an element takes at least its bit. Eight elements a byte bound the memory.
  MR_ASSIGN_OR_RETURN(const std::string_view nulls, ReadNullBitmap(reader, n));
  for (uint64_t i = 0; i < n; ++i) {
    if (IsNullAt(nulls, i)) {
      to.AppendNull();
    } else {
      MR_RETURN_IF_ERROR(ReadValue(reader, to));
    }
  }
  return Status::Ok();
}

Status ReadValue(ByteReader& reader, Column& to) {
  const size_t width = to.type().width();
  if (width != 0) {
    MR_ASSIGN_OR_RETURN(const std::string_view bytes, reader.ReadBytes(width));
    if (to.type().kind == TypeKind::kBool && static_cast<uint8_t>(bytes.front()) > 1) {
      return Corruption("a state row has a boolean that is neither true nor false");
    }
    to.AppendFixed(bytes.data());
    return Status::Ok();
  }
  if (!to.type().is_list()) {
    MR_ASSIGN_OR_RETURN(const std::string_view text, reader.ReadLengthPrefixed());
    to.AppendText(text);
    return Status::Ok();
  }
  MR_ASSIGN_OR_RETURN(const uint64_t n, reader.ReadVarint());
  const size_t elements = to.child().size();
  Status status = ReadElements(reader, n, to.child());
  if (!status.ok()) {
    to.child().Truncate(elements);  // they belong to no row yet, so that Truncate(row) misses them
    return status;
  }
  to.AppendListEnd();
  return Status::Ok();
}

Status ReadRow(ByteReader& reader, RowBatch& to) {
  MR_RETURN_IF_ERROR(ReadRowHeader(reader).status());
  MR_ASSIGN_OR_RETURN(const uint64_t columns, reader.ReadVarint());
  if (columns != to.column_count()) {
    return Corruption(fmt::format("a state row has {} columns where its table has {}", columns,
                                  to.column_count()));
  }
  MR_ASSIGN_OR_RETURN(const std::string_view nulls, ReadNullBitmap(reader, columns));
  for (size_t i = 0; i < columns; ++i) {
    if (IsNullAt(nulls, i)) {
      to.column(i).AppendNull();
    } else {
      MR_RETURN_IF_ERROR(ReadValue(reader, to.column(i)));
    }
  }
  return reader.empty() ? Status::Ok() : Corruption("a state row has bytes behind its last value");
}

std::vector<uint32_t> AllColumns(const RowBatch& batch) {
  std::vector<uint32_t> columns(batch.column_count());
  std::iota(columns.begin(), columns.end(), 0U);
  return columns;
}

}  // namespace

void EncodeKey(const RowBatch& batch, size_t row, std::span<const uint32_t> columns,
               std::string& to) {
  for (const uint32_t column : columns) {
    AppendKeyValue(to, batch.column(column), row);
  }
}

void EncodeKeys(const RowBatch& batch, size_t begin, size_t end, std::span<const uint32_t> columns,
                EncodedRows& to) {
  to.Reserve(end - begin);
  for (size_t row = begin; row < end; ++row) {
    for (const uint32_t column : columns) {
      AppendKeyValue(to.bytes(), batch.column(column), row);
    }
    to.EndRow();
  }
}

void EncodeRow(const RowBatch& batch, size_t row, SchemaVersion version, std::string& to) {
  AppendRow(to, batch, row, version, AllColumns(batch));
}

void EncodeRow(const RowBatch& batch, size_t row, SchemaVersion version,
               std::span<const uint32_t> columns, std::string& to) {
  AppendRow(to, batch, row, version, columns);
}

void EncodeRows(const RowBatch& batch, size_t begin, size_t end, SchemaVersion version,
                std::span<const uint32_t> columns, EncodedRows& to) {
  to.Reserve(end - begin);
  for (size_t row = begin; row < end; ++row) {
    AppendRow(to.bytes(), batch, row, version, columns);
    to.EndRow();
  }
}

Result<SchemaVersion> DecodeRowVersion(std::string_view bytes) {
  ByteReader reader(bytes);
  return ReadRowHeader(reader);
}

Status DecodeRow(std::string_view bytes, RowBatch& to) {
  ByteReader reader(bytes);
  const size_t rows = to.row_count();
  Status status = ReadRow(reader, to);
  if (!status.ok()) {
    to.Truncate(rows);
  }
  return status;
}

}  // namespace millrace::storage
