// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/value_range.h"

#include <algorithm>
#include <span>

#include "millrace/common/check.h"
#include "millrace/common/coding.h"

namespace millrace::sinks::clickhouse {
namespace {

constexpr int32_t kDateMin = -25'567;
constexpr int32_t kDateMax = 120'529;
constexpr int64_t kTimestampMin = int64_t{kDateMin} * 86'400'000'000;
constexpr int64_t kTimestampMax = (int64_t{kDateMax} + 1) * 86'400'000'000 - 1;

// The first row of [begin, end) that is not NULL and outside [min, max].
template <typename T>
std::optional<size_t> FindOutside(const Column& column, size_t begin, size_t end, T min, T max) {
  const std::span<const T> values = column.Values<T>();
  bool outside = false;
  for (size_t row = begin; row < end; ++row) {
    outside |= values[row] < min || values[row] > max;
  }
  for (size_t row = begin; outside && row < end; ++row) {
    if ((values[row] < min || values[row] > max) && !column.IsNull(row)) {
      return row;
    }
  }
  return std::nullopt;
}

template <typename T>
std::optional<size_t> FindNaN(const Column& column, size_t begin, size_t end) {
  return FindOutside<T>(column, begin, end, -kDecimalNaN<T>, kDecimalNaN<T> - 1);
}

// Appends the value of a row that is out of range as its replacement.
void AppendNearest(const Column& column, size_t row, Column& to) {
  switch (column.type().kind) {
    case TypeKind::kDate:
      return to.Append(std::clamp(column.Value<int32_t>(row), kDateMin, kDateMax));
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
      return to.Append(std::clamp(column.Value<int64_t>(row), kTimestampMin, kTimestampMax));
    default:
      return to.AppendFrom(column, row);
  }
}

}  // namespace

bool HasLimits(const DataType& type) {
  switch (type.kind) {
    case TypeKind::kDate:
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
    case TypeKind::kDecimal:
      return true;
    case TypeKind::kList:
      return HasLimits(*type.element);
    default:
      return false;
  }
}

std::optional<size_t> FindOutOfRange(const Column& column, size_t begin, size_t end) {
  switch (column.type().kind) {
    case TypeKind::kDate:
      return FindOutside<int32_t>(column, begin, end, kDateMin, kDateMax);
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
      return FindOutside<int64_t>(column, begin, end, kTimestampMin, kTimestampMax);
    case TypeKind::kDecimal:
      switch (column.type().width()) {
        case 2:
          return FindNaN<int16_t>(column, begin, end);
        case 4:
          return FindNaN<int32_t>(column, begin, end);
        case 8:
          return FindNaN<int64_t>(column, begin, end);
        default:
          return FindNaN<Int128>(column, begin, end);
      }
    case TypeKind::kList:
      for (size_t row = begin; row < end && HasLimits(column.type()); ++row) {
        const auto [first, last] = column.ListRange(row);
        if (!column.IsNull(row) && FindOutOfRange(column.child(), first, last)) {
          return row;
        }
      }
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

std::string_view OutOfRangeReason(const DataType& type) {
  if (type.is_list()) {
    return OutOfRangeReason(*type.element);
  }
  return type.kind == TypeKind::kDecimal
             ? "is NaN, which ClickHouse's Decimal does not have"
             : "is outside 1900-01-01 to 2299-12-31, which is what ClickHouse holds";
}

Column ReplaceOutOfRange(const Column& column, size_t begin, size_t end, OutOfRange out_of_range) {
  MR_CHECK(out_of_range != OutOfRange::kError);
  Column made(column.type());
  for (size_t row = begin; row < end; ++row) {
    if (!FindOutOfRange(column, row, row + 1)) {
      made.AppendFrom(column, row);
    } else if (column.type().is_list()) {
      const auto [first, last] = column.ListRange(row);
      const Column elements = ReplaceOutOfRange(column.child(), first, last, out_of_range);
      made.child().AppendRange(elements, 0, elements.size());
      made.AppendListEnd();
    } else if (out_of_range == OutOfRange::kNull) {
      made.AppendNull();
    } else {
      AppendNearest(column, row, made);
    }
  }
  return made;
}

bool IsKeyColumn(const Stream& stream, size_t column) {
  return std::find(stream.key.begin(), stream.key.end(), column) != stream.key.end();
}

bool ReplacesWithNull(const Stream& stream, size_t column, OutOfRange out_of_range) {
  const DataType& type = (*stream.columns)[column].type;
  return out_of_range == OutOfRange::kNull && !type.is_list() && HasLimits(type) &&
         !IsKeyColumn(stream, column);
}

}  // namespace millrace::sinks::clickhouse
