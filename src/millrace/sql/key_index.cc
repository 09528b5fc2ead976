// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/key_index.h"

#include <bit>
#include <functional>
#include <optional>
#include <utility>

namespace millrace::sql {
namespace {

uint64_t Mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93U;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93U;
  return x ^ (x >> 32);
}

std::string_view Bytes(const Column& column, size_t row) {
  const size_t width = column.type().width();
  return width == 0 ? column.Text(row) : std::string_view(column.ValueBytes(row), width);
}

// The values of the integer types that two key columns may differ in; nothing for others.
std::optional<int64_t> Integer(const Column& column, size_t row) {
  switch (column.type().kind) {
    case TypeKind::kInt8:
      return column.Value<int8_t>(row);
    case TypeKind::kInt16:
      return column.Value<int16_t>(row);
    case TypeKind::kInt32:
      return column.Value<int32_t>(row);
    case TypeKind::kInt64:
      return column.Value<int64_t>(row);
    default:
      return std::nullopt;
  }
}

// The hash of the key in `row`; false if a part of it is NULL.
bool HashOf(const RowBatch& rows, std::span<const uint32_t> columns, size_t row, uint64_t* hash) {
  uint64_t h = 0;
  for (const uint32_t index : columns) {
    const Column& column = rows.column(index);
    if (column.IsNull(row)) {
      return false;
    }
    const std::optional<int64_t> integer = Integer(column, row);
    h = Mix(h ^ (integer ? static_cast<uint64_t>(*integer)
                         : std::hash<std::string_view>()(Bytes(column, row))));
  }
  *hash = h;
  return true;
}

bool Equal(const RowBatch& a, std::span<const uint32_t> a_columns, size_t a_row, const RowBatch& b,
           std::span<const uint32_t> b_columns, size_t b_row) {
  for (size_t i = 0; i < a_columns.size(); ++i) {
    const Column& left = a.column(a_columns[i]);
    const Column& right = b.column(b_columns[i]);
    const std::optional<int64_t> integer = Integer(left, a_row);
    if (integer ? integer != Integer(right, b_row) : Bytes(left, a_row) != Bytes(right, b_row)) {
      return false;
    }
  }
  return true;
}

}  // namespace

KeyIndex::KeyIndex(const RowBatch& rows, std::vector<uint32_t> columns)
    : rows_(&rows),
      columns_(std::move(columns)),
      hashes_(rows.row_count()),
      slots_(std::bit_ceil(rows.row_count() * 2 + 1), kNoMatch) {}

Result<KeyIndex> KeyIndex::Build(const RowBatch& rows, std::vector<uint32_t> columns) {
  KeyIndex index(rows, std::move(columns));
  const size_t mask = index.slots_.size() - 1;
  for (size_t row = 0; row < rows.row_count(); ++row) {
    uint64_t hash = 0;
    if (!HashOf(rows, index.columns_, row, &hash)) {
      continue;
    }
    index.hashes_[row] = hash;
    size_t slot = hash & mask;
    for (; index.slots_[slot] != kNoMatch; slot = (slot + 1) & mask) {
      const uint32_t other = index.slots_[slot];
      if (index.hashes_[other] == hash &&
          Equal(rows, index.columns_, other, rows, index.columns_, row)) {
        return Internal("join a lookup: one of its keys was handed over twice");
      }
    }
    index.slots_[slot] = static_cast<uint32_t>(row);
  }
  return index;
}

std::vector<uint32_t> KeyIndex::Find(const RowBatch& driving,
                                     std::span<const uint32_t> columns) const {
  std::vector<uint32_t> matches(driving.row_count(), kNoMatch);
  const size_t mask = slots_.size() - 1;
  for (size_t row = 0; row < matches.size(); ++row) {
    uint64_t hash = 0;
    if (!HashOf(driving, columns, row, &hash)) {
      continue;
    }
    for (size_t slot = hash & mask; slots_[slot] != kNoMatch; slot = (slot + 1) & mask) {
      const uint32_t candidate = slots_[slot];
      if (hashes_[candidate] == hash && Equal(*rows_, columns_, candidate, driving, columns, row)) {
        matches[row] = candidate;
        break;
      }
    }
  }
  return matches;
}

}  // namespace millrace::sql
