// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/evolution.h"

#include <utility>

namespace millrace {

namespace {

bool IsInteger(TypeKind kind) { return kind >= TypeKind::kInt8 && kind <= TypeKind::kInt128; }

bool IsPlainText(TypeKind kind) { return kind == TypeKind::kText || kind == TypeKind::kEnum; }

// An integer or decimal of any width.
Int128 IntegerOf(const Column& column, size_t row) {
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

Int128 NaNOf(const DataType& decimal) {
  switch (decimal.width()) {
    case 2:
      return kDecimalNaN<int16_t>;
    case 4:
      return kDecimalNaN<int32_t>;
    case 8:
      return kDecimalNaN<int64_t>;
    default:
      return kDecimalNaN<Int128>;
  }
}

Int128 PowerOfTen(int exponent) {
  Int128 power = 1;
  for (int i = 0; i < exponent; ++i) {
    power *= 10;
  }
  return power;
}

}  // namespace

bool Widens(const DataType& from, const DataType& to) {
  if (from == to) {
    return true;
  }
  if (IsInteger(from.kind) && IsInteger(to.kind)) {
    return from.width() <= to.width();
  }
  if (from.kind == TypeKind::kDecimal && to.kind == TypeKind::kDecimal) {
    return from.scale <= to.scale && from.precision - from.scale <= to.precision - to.scale;
  }
  return (from.kind == TypeKind::kFloat32 && to.kind == TypeKind::kFloat64) ||
         (IsPlainText(from.kind) && IsPlainText(to.kind));
}

void AppendWidened(const Column& from, size_t begin, size_t end, Column& to) {
  if (from.type() == to.type()) {
    to.AppendRange(from, begin, end);
    return;
  }
  const bool is_decimal = to.type().kind == TypeKind::kDecimal;
  const Int128 factor = is_decimal ? PowerOfTen(to.type().scale - from.type().scale) : 1;
  for (size_t row = begin; row < end; ++row) {
    if (from.IsNull(row)) {
      to.AppendNull();
    } else if (to.type().is_varlen()) {
      to.AppendText(from.Text(row));
    } else if (to.type().kind == TypeKind::kFloat64) {
      to.Append<double>(from.Value<float>(row));
    } else {
      // Little-endian: the low bytes come first.
      Int128 value = IntegerOf(from, row);
      value = is_decimal && value == NaNOf(from.type()) ? NaNOf(to.type()) : value * factor;
      to.AppendFixed(&value);
    }
  }
}

void AppendFill(const RowBatch* fill, size_t place, size_t count, Column& to) {
  for (size_t i = 0; i < count; ++i) {
    if (fill != nullptr) {
      to.AppendFrom(fill->column(place), 0);
    } else {
      to.AppendNull();
    }
  }
}

void AppendEarlierColumn(const RowBatch& from, size_t begin, size_t end, size_t place,
                         const RowBatch* fill, Column& to) {
  if (place >= from.column_count()) {
    AppendFill(fill, place, end - begin, to);
  } else if (const Column& column = from.column(place); Widens(column.type(), to.type())) {
    AppendWidened(column, begin, end, to);
  } else {
    AppendFill(nullptr, place, end - begin, to);
  }
}

void AppendEarlierRows(const RowBatch& from, size_t begin, size_t end, const RowBatch* fill,
                       RowBatch& to) {
  for (size_t place = 0; place < to.column_count(); ++place) {
    AppendEarlierColumn(from, begin, end, place, fill, to.column(place));
  }
}

std::shared_ptr<const RowBatch> WidenFill(const RowBatch* fill, const SchemaPtr& columns) {
  auto widened = std::make_shared<RowBatch>(columns);
  if (fill == nullptr) {
    widened->AppendNullRow();
  } else {
    AppendEarlierRows(*fill, 0, 1, nullptr, *widened);
  }
  return widened;
}

void Evolve(TableChanges& changes, const TablePtr& newer) {
  const auto evolve = [&](RowBatch& rows, const RowBatch* fill) {
    const size_t count = rows.row_count();
    RowBatch evolved(newer->columns);
    for (size_t place = 0; place < evolved.column_count(); ++place) {
      Column& to = evolved.column(place);
      if (place < rows.column_count() && rows.column(place).type() == to.type()) {
        to = std::move(rows.column(place));
      } else {
        AppendEarlierColumn(rows, 0, count, place, fill, to);
      }
    }
    rows = std::move(evolved);
  };
  evolve(changes.new_rows, newer->fill.get());
  evolve(changes.old_rows, nullptr);
  changes.table = newer;
}

}  // namespace millrace
