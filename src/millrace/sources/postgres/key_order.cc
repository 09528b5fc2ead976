// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/key_order.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "millrace/common/coding.h"
#include "millrace/model/value_text.h"
#include "millrace/sources/postgres/value_parser.h"

namespace millrace::sources::postgres {
namespace {

// The first byte of a number's key; what follows tells those of one class apart.
enum NumberClass : char { kMinusInfinity, kNegative, kZero, kPositive, kInfinity, kNaN };

template <typename Unsigned>
void AppendSigned(const Column& column, size_t row, std::string& to) {
  const auto value = column.Value<Unsigned>(row);
  constexpr Unsigned kSign = static_cast<Unsigned>(Unsigned{1} << (sizeof(Unsigned) * 8 - 1));
  AppendBigEndian(to, static_cast<Unsigned>(value ^ kSign));
}

void AppendInteger(const Column& column, size_t row, std::string& to) {
  switch (column.type().width()) {
    case 1:
      to.push_back(*column.ValueBytes(row));  // bool
      break;
    case 2:
      AppendSigned<uint16_t>(column, row, to);
      break;
    case 4:
      AppendSigned<uint32_t>(column, row, to);
      break;
    case 8:
      AppendSigned<uint64_t>(column, row, to);
      break;
    default: {
      const auto value = column.Value<UInt128>(row) ^ (UInt128{1} << 127);
      AppendBigEndian(to, static_cast<uint64_t>(value >> 64));
      AppendBigEndian(to, static_cast<uint64_t>(value));
    }
  }
}

// NaN is equal to itself and above all others; the zeros are equal.
void AppendFloat(double value, std::string& to) {
  constexpr uint64_t kSign = uint64_t{1} << 63;
  const auto bits = std::isnan(value) ? kSign - 1 : std::bit_cast<uint64_t>(value + 0.0);
  AppendBigEndian(to, (bits & kSign) != 0 ? ~bits : bits | kSign);
}

// Bytes of any length, so that what follows compares only between equal ones.
void AppendBytes(std::string_view bytes, std::string& to) {
  for (size_t at = bytes.find('\0'); at != std::string_view::npos; at = bytes.find('\0')) {
    to.append(bytes.substr(0, at + 1));
    to.push_back('\xff');
    bytes.remove_prefix(at + 1);
  }
  to.append(bytes);
  to.append(2, '\0');
}

// PostgreSQL's text of a numeric: its power of ten, then its digits. 1.0 and 1.00 are one key.
void AppendNumber(std::string_view text, std::string& to) {
  const bool is_negative = text.starts_with('-');
  text.remove_prefix(is_negative ? 1 : 0);
  if (text == "NaN" || text == "Infinity") {
    to.push_back(text == "NaN" ? kNaN : is_negative ? kMinusInfinity : kInfinity);
    return;
  }
  std::string digits;
  size_t whole = 0;  // digits in front of the point
  bool in_fraction = false;
  for (const char c : text) {
    if (c == '.') {
      in_fraction = true;
      continue;
    }
    digits.push_back(c);
    whole += !in_fraction;
  }
  const size_t first = digits.find_first_not_of('0');
  if (first == std::string::npos) {
    to.push_back(kZero);
    return;
  }
  digits.erase(digits.find_last_not_of('0') + 1);
  to.push_back(is_negative ? kNegative : kPositive);
  const size_t begin = to.size();
  const auto power = static_cast<int64_t>(whole) - static_cast<int64_t>(first);
  AppendBigEndian(to, static_cast<uint64_t>(power) ^ (uint64_t{1} << 63));
  to.append(digits, first);
  to.push_back('\0');
  if (is_negative) {
    std::transform(to.begin() + static_cast<ptrdiff_t>(begin), to.end(),
                   to.begin() + static_cast<ptrdiff_t>(begin),
                   [](char c) { return static_cast<char>(~c); });
  }
}

// Finite, and in years that are printed with four digits: others PostgreSQL prints differently.
bool IsPlainDate(int64_t days) { return days > -719'162 && days < 2'932'896; }

// PostgreSQL's text of a value of a key.
bool AppendText(const Column& column, size_t row, Buffer& to) {
  constexpr int64_t kMicrosPerDay = 86'400'000'000;
  switch (column.type().kind) {
    case TypeKind::kBool:
      to.Append(*column.ValueBytes(row) != 0 ? "t" : "f");
      return true;
    case TypeKind::kInt16:
      millrace::AppendInteger<int64_t>(to, column.Value<int16_t>(row));
      return true;
    case TypeKind::kInt32:
      millrace::AppendInteger<int64_t>(to, column.Value<int32_t>(row));
      return true;
    case TypeKind::kInt64:
      millrace::AppendInteger<int64_t>(to, column.Value<int64_t>(row));
      return true;
    case TypeKind::kFloat32:
      millrace::AppendFloat<float>(to, column.Value<float>(row));
      return true;
    case TypeKind::kFloat64:
      millrace::AppendFloat<double>(to, column.Value<double>(row));
      return true;
    case TypeKind::kDecimal: {
      const size_t width = column.type().width();
      const Int128 value = width == 2   ? column.Value<int16_t>(row)
                           : width == 4 ? column.Value<int32_t>(row)
                           : width == 8 ? column.Value<int64_t>(row)
                                        : column.Value<Int128>(row);
      const Int128 nan = width == 2   ? kDecimalNaN<int16_t>
                         : width == 4 ? kDecimalNaN<int32_t>
                         : width == 8 ? kDecimalNaN<int64_t>
                                      : kDecimalNaN<Int128>;
      AppendDecimal(to, value, column.type().scale);
      return value != nan;
    }
    case TypeKind::kUuid:
      AppendUuid(to, column.ValueBytes(row));
      return true;
    case TypeKind::kDate: {
      const auto days = column.Value<int32_t>(row);
      AppendDate(to, days);
      return IsPlainDate(days);
    }
    case TypeKind::kTime:
      AppendTime(to, column.Value<int64_t>(row));
      return true;
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz: {
      const auto micros = column.Value<int64_t>(row);
      AppendTimestamp(to, micros, column.type().kind == TypeKind::kTimestamp ? "" : "Z");
      return IsPlainDate(micros / kMicrosPerDay);
    }
    case TypeKind::kBytes:
      to.Append("\\x");
      for (const char c : column.Text(row)) {
        to.Append(fmt::format("{:02x}", static_cast<uint8_t>(c)));
      }
      return true;
    default:
      to.Append(column.Text(row));
      return true;
  }
}

}  // namespace

Result<KeyOrder> KeyOrder::Make(const SourceTable& table, const std::vector<bool>& byte_ordered) {
  KeyOrder order;
  order.schema_ = table.table->columns;
  order.columns_ = table.row_key();
  if (order.columns_.empty()) {
    return Unsupported("has no primary key");
  }
  MR_CHECK(byte_ordered.size() == order.columns_.size());
  for (size_t i = 0; i < order.columns_.size(); ++i) {
    const Field& field = (*order.schema_)[order.columns_[i]];
    const ColumnTypeFacts& facts = table.types[order.columns_[i]];
    const auto refuse = [&](std::string_view why) {
      return Unsupported(fmt::format("has column '{}' in its key, {}", field.name, why));
    };
    switch (field.type.kind) {
      case TypeKind::kBool:
      case TypeKind::kInt16:
      case TypeKind::kInt32:
      case TypeKind::kInt64:
      case TypeKind::kDecimal:
      case TypeKind::kDate:
      case TypeKind::kTime:
      case TypeKind::kTimestamp:
      case TypeKind::kTimestampTz:
        order.forms_.push_back(Form::kInteger);
        break;
      case TypeKind::kFloat32:
      case TypeKind::kFloat64:
        order.forms_.push_back(Form::kFloat);
        break;
      case TypeKind::kUuid:
        order.forms_.push_back(Form::kUuid);
        break;
      case TypeKind::kBytes:
        order.forms_.push_back(Form::kBytes);
        break;
      default: {
        const uint32_t oid = facts.type.oid;
        if (!facts.is_array && oid == kNumericOid) {
          order.forms_.push_back(Form::kNumericText);
          break;
        }
        if (facts.is_array ||
            (oid != kTextOid && oid != kVarcharOid && oid != kNameOid && oid != kBpcharOid)) {
          return refuse("whose type has an order of its own");
        }
        if (!byte_ordered[i]) {
          return refuse("whose collation is not C");
        }
        order.forms_.push_back(oid == kBpcharOid ? Form::kPaddedText : Form::kBytes);
      }
    }
  }
  return order;
}

void KeyOrder::Encode(const RowBatch& rows, size_t row, std::string& to) const {
  to.clear();
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Column& column = rows.column(columns_[i]);
    switch (forms_[i]) {
      case Form::kInteger:
        AppendInteger(column, row, to);
        break;
      case Form::kFloat:
        AppendFloat(column.type().kind == TypeKind::kFloat32 ? double{column.Value<float>(row)}
                                                             : column.Value<double>(row),
                    to);
        break;
      case Form::kUuid:
        to.append(column.ValueBytes(row), column.type().width());
        break;
      case Form::kBytes:
        AppendBytes(column.Text(row), to);
        break;
      case Form::kPaddedText: {
        const std::string_view text = column.Text(row);
        AppendBytes(text.substr(0, text.find_last_not_of(' ') + 1), to);
        break;
      }
      case Form::kNumericText:
        AppendNumber(column.Text(row), to);
        break;
    }
  }
}

Result<KeyBound> KeyOrder::FromText(std::vector<std::string> text) const {
  if (text.size() != columns_.size()) {
    return Corruption("a key does not have the columns of its table");
  }
  RowBatch row(schema_);
  for (size_t i = 0; i < columns_.size(); ++i) {
    Column& column = row.column(columns_[i]);
    if (const ValueError* error = ValueParserFor(column.type())(text[i], column)) {
      return Status(error->code, fmt::format("key column '{}': {}", (*schema_)[columns_[i]].name,
                                             error->reason));
    }
  }
  KeyBound bound;
  Encode(row, 0, bound.encoded);
  bound.text = std::move(text);
  return bound;
}

std::optional<KeyBound> KeyOrder::FromRow(const RowBatch& rows, size_t row) const {
  KeyBound bound;
  Encode(rows, row, bound.encoded);
  for (const uint32_t column : columns_) {
    Buffer text;
    if (!AppendText(rows.column(column), row, text)) {
      return std::nullopt;
    }
    bound.text.emplace_back(text.view());
  }
  return bound;
}

Result<std::vector<Result<KeyOrder>>> LoadKeyOrders(pg::Connection& connection,
                                                    const std::vector<SourceTable>& tables) {
  std::vector<uint32_t> oids;
  for (const SourceTable& table : tables) {
    oids.push_back(table.table->oid);
  }
  std::map<std::pair<uint32_t, bool>, std::vector<bool>> byte_ordered;  // of table, is primary key
  if (!oids.empty()) {
    // What only newer servers have is asked for by name in JSON. Every locale of the builtin
    // provider ('b') compares code points, and UTF-8 keeps their order.
    MR_ASSIGN_OR_RETURN(
        const pg::QueryResult rows,
        connection.Exec(fmt::format(
            "SELECT i.indrelid, i.indisprimary, coalesce(co.collisdeterministic AND "
            "getdatabaseencoding() IN "
            "('UTF8', 'LATIN1') AND CASE WHEN co.collprovider = 'd' "
            "THEN coalesce(to_jsonb(d)->>'datlocprovider', 'c') ELSE co.collprovider::text END IN "
            "('b', 'c') AND (CASE WHEN co.collprovider = 'd' THEN to_jsonb(d)->>'datlocprovider' "
            "ELSE co.collprovider::text END = 'b' OR CASE WHEN co.collprovider = 'd' THEN "
            "d.datcollate ELSE co.collcollate END IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8')), false) "
            "FROM pg_index i CROSS JOIN unnest(i.indcollation::oid[]) WITH ORDINALITY AS u(c, o) "
            "LEFT JOIN pg_collation co ON co.oid = u.c "
            "JOIN pg_database d ON d.datname = current_database() "
            "WHERE (i.indisprimary OR i.indisreplident) AND u.o <= i.indnkeyatts AND i.indrelid IN "
            "({}) ORDER BY i.indrelid, u.o",
            fmt::join(oids, ", "))));
    for (size_t i = 0; i < rows.row_count(); ++i) {
      const std::string_view text = rows.Text(i, 0);
      uint32_t oid = 0;
      std::from_chars(text.data(), text.data() + text.size(), oid);
      byte_ordered[{oid, rows.Text(i, 1) == "t"}].push_back(rows.Text(i, 2) == "t");
    }
  }
  std::vector<Result<KeyOrder>> orders;
  for (const SourceTable& table : tables) {
    std::vector<bool>& facts = byte_ordered[{table.table->oid, !table.table->OldImagesLackKey()}];
    facts.resize(table.row_key().size(), false);
    orders.push_back(KeyOrder::Make(table, facts));
  }
  return orders;
}

}  // namespace millrace::sources::postgres
