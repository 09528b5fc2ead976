// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/duckdb/value_limits.h"

#include "millrace/common/check.h"
#include "millrace/common/coding.h"
#include "millrace/sql/key_index.h"

namespace millrace::sql {
namespace {

bool MayHaveUnheld(const DataType& type) {
  return type.kind == TypeKind::kDecimal || type.kind == TypeKind::kInterval ||
         (type.is_list() && MayHaveUnheld(*type.element));
}

bool IsNaN(const Column& column, size_t row) {
  switch (column.type().width()) {
    case 2:
      return column.Value<int16_t>(row) == kDecimalNaN<int16_t>;
    case 4:
      return column.Value<int32_t>(row) == kDecimalNaN<int32_t>;
    case 8:
      return column.Value<int64_t>(row) == kDecimalNaN<int64_t>;
    default:
      return column.Value<Int128>(row) == kDecimalNaN<Int128>;
  }
}

// REQUIRES: MayHaveUnheld().
bool IsUnheld(const Column& column, size_t row) {
  if (column.IsNull(row)) {
    return false;
  }
  if (column.type().is_list()) {
    const auto [begin, end] = column.ListRange(row);
    for (size_t i = begin; i < end; ++i) {
      if (IsUnheld(column.child(), i)) {
        return true;
      }
    }
    return false;
  }
  if (column.type().kind == TypeKind::kDecimal) {
    return IsNaN(column, row);
  }
  const auto value = column.Value<Interval>(row);
  return value == kIntervalInfinity || value == kIntervalMinusInfinity;
}

void AppendHeld(const Column& from, size_t row, OutOfRange out_of_range, Column& to) {
  if (!IsUnheld(from, row)) {
    to.AppendFrom(from, row);
  } else if (from.type().is_list()) {
    const auto [begin, end] = from.ListRange(row);
    for (size_t i = begin; i < end; ++i) {
      AppendHeld(from.child(), i, out_of_range, to.child());
    }
    to.AppendListEnd();
  } else if (out_of_range == OutOfRange::kNull) {
    to.AppendNull();
  } else if (from.type().kind == TypeKind::kInterval) {
    Interval nearest = from.Value<Interval>(row);
    nearest.micros -= nearest.micros > 0 ? 1 : -1;
    to.AppendFixed(&nearest);
  } else {
    to.AppendFrom(from, row);
  }
}

}  // namespace

bool HasUnheld(const Column& column, const uint32_t* rows, size_t n) {
  if (!MayHaveUnheld(column.type())) {
    return false;
  }
  for (size_t i = 0; i < n; ++i) {
    const size_t row = rows == nullptr ? i : rows[i];
    if (row != kNoMatch && IsUnheld(column, row)) {
      return true;
    }
  }
  return false;
}

Column ReplaceUnheld(const Column& column, OutOfRange out_of_range) {
  MR_CHECK(out_of_range != OutOfRange::kError);
  Column made(column.type());
  for (size_t row = 0; row < column.size(); ++row) {
    AppendHeld(column, row, out_of_range, made);
  }
  return made;
}

}  // namespace millrace::sql
