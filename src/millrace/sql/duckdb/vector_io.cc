// SPDX-License-Identifier: Apache-2.0
#include "millrace/sql/duckdb/vector_io.h"

#include <cstring>
#include <vector>

#include "millrace/common/check.h"
#include "millrace/sql/duckdb/duckdb_types.h"
#include "millrace/sql/key_index.h"

namespace millrace::sql {
namespace {

struct Bytes16 {
  char bytes[16];
};

// Which row of the column is value `i` of the vector.
struct RowMap {
  size_t begin;
  const uint32_t* rows;

  size_t operator[](size_t i) const { return rows == nullptr ? begin + i : rows[i]; }
};

bool IsAbsent(const Column& column, size_t row) { return row == kNoMatch || column.IsNull(row); }

void FillValidity(duckdb_vector vector, const Column& column, RowMap map, size_t n) {
  if (map.rows == nullptr) {
    if (column.has_nulls()) {
      duckdb_vector_ensure_validity_writable(vector);
      std::memcpy(duckdb_vector_get_validity(vector), column.validity().data() + map.begin / 64,
                  (n + 63) / 64 * sizeof(uint64_t));
    }
    return;
  }
  uint64_t* validity = nullptr;
  for (size_t i = 0; i < n; ++i) {
    if (IsAbsent(column, map[i])) {
      if (validity == nullptr) {
        duckdb_vector_ensure_validity_writable(vector);
        validity = duckdb_vector_get_validity(vector);
      }
      validity[i / 64] &= ~(uint64_t{1} << (i % 64));
    }
  }
}

template <typename T>
void GatherFixed(void* data, const Column& column, RowMap map, size_t n) {
  T* out = static_cast<T*>(data);
  const char* values = column.fixed().data();
  for (size_t i = 0; i < n; ++i) {
    if (map[i] == kNoMatch) {
      out[i] = T();
    } else {
      std::memcpy(out + i, values + map[i] * sizeof(T), sizeof(T));
    }
  }
}

void FillFixed(duckdb_vector vector, const Column& column, RowMap map, size_t n) {
  void* data = duckdb_vector_get_data(vector);
  const size_t width = column.type().width();
  if (map.rows == nullptr) {
    std::memcpy(data, column.ValueBytes(map.begin), n * width);
  } else if (width == 1) {
    GatherFixed<uint8_t>(data, column, map, n);
  } else if (width == 2) {
    GatherFixed<uint16_t>(data, column, map, n);
  } else if (width == 4) {
    GatherFixed<uint32_t>(data, column, map, n);
  } else if (width == 8) {
    GatherFixed<uint64_t>(data, column, map, n);
  } else {
    GatherFixed<Bytes16>(data, column, map, n);
  }
  if (column.type().kind == TypeKind::kUuid) {
    auto* uuids = static_cast<Bytes16*>(data);
    for (size_t i = 0; i < n; ++i) {
      UuidToDuck(uuids[i].bytes, uuids[i].bytes);
    }
  }
}

void FillText(duckdb_vector vector, const Column& column, RowMap map, size_t n) {
  auto* out = static_cast<duckdb_string_t*>(duckdb_vector_get_data(vector));
  for (size_t i = 0; i < n; ++i) {
    const size_t row = map[i];
    const std::string_view text = row == kNoMatch ? std::string_view() : column.Text(row);
    duckdb_string_t value = {};
    value.value.inlined.length = static_cast<uint32_t>(text.size());
    if (text.size() <= sizeof(value.value.inlined.inlined)) {
      if (!text.empty()) {
        std::memcpy(value.value.inlined.inlined, text.data(), text.size());
      }
    } else {
      std::memcpy(value.value.pointer.prefix, text.data(), sizeof(value.value.pointer.prefix));
      // DuckDB reads only.
      value.value.pointer.ptr = const_cast<char*>(text.data());
    }
    out[i] = value;
  }
}

void FillList(duckdb_vector vector, const Column& column, RowMap map, size_t n) {
  auto* entries = static_cast<duckdb_list_entry*>(duckdb_vector_get_data(vector));
  std::vector<uint32_t> children;
  for (size_t i = 0; i < n; ++i) {
    const size_t row = map[i];
    const auto [first, last] =
        row == kNoMatch ? std::pair<size_t, size_t>(0, 0) : column.ListRange(row);
    entries[i] = {children.size(), last - first};
    for (size_t child = first; child < last; ++child) {
      children.push_back(static_cast<uint32_t>(child));
    }
  }
  MR_CHECK(duckdb_list_vector_reserve(vector, children.size()) == DuckDBSuccess);
  MR_CHECK(duckdb_list_vector_set_size(vector, children.size()) == DuckDBSuccess);
  if (!children.empty()) {
    FillVector(duckdb_list_vector_get_child(vector), column.child(), 0, children.data(),
               children.size());
  }
}

bool IsValid(const uint64_t* validity, size_t i) {
  return validity == nullptr || (validity[i / 64] >> (i % 64) & 1) != 0;
}

// Values [begin, end) of a fixed-size vector.
void AppendFixed(duckdb_vector vector, size_t begin, size_t end, Column& column) {
  const size_t width = column.type().width();
  char* data = static_cast<char*>(duckdb_vector_get_data(vector));
  const uint64_t* validity = duckdb_vector_get_validity(vector);
  if (column.type().kind == TypeKind::kUuid) {
    for (size_t i = begin; i < end; ++i) {
      if (IsValid(validity, i)) {
        char uuid[16];
        UuidFromDuck(data + i * 16, uuid);
        column.AppendFixed(uuid);
      } else {
        column.AppendNull();
      }
    }
    return;
  }
  const size_t base = column.size();
  if (validity != nullptr) {
    for (size_t i = begin; i < end; ++i) {
      if (!IsValid(validity, i)) {
        std::memset(data + i * width, 0, width);
      }
    }
  }
  column.AppendFixedRun(data + begin * width, end - begin);
  if (validity != nullptr) {
    for (size_t i = begin; i < end; ++i) {
      if (!IsValid(validity, i)) {
        column.SetNull(base + i - begin);
      }
    }
  }
}

void AppendTexts(duckdb_vector vector, size_t begin, size_t end, Column& column) {
  auto* texts = static_cast<duckdb_string_t*>(duckdb_vector_get_data(vector));
  const uint64_t* validity = duckdb_vector_get_validity(vector);
  for (size_t i = begin; i < end; ++i) {
    if (!IsValid(validity, i)) {
      column.AppendNull();
      continue;
    }
    const uint32_t length = texts[i].value.inlined.length;
    column.AppendText({length <= sizeof(texts[i].value.inlined.inlined)
                           ? texts[i].value.inlined.inlined
                           : texts[i].value.pointer.ptr,
                       length});
  }
}

void AppendValues(duckdb_vector vector, size_t begin, size_t end, Column& column) {
  if (begin == end) {
    return;
  }
  if (column.type().is_varlen()) {
    AppendTexts(vector, begin, end, column);
    return;
  }
  if (!column.type().is_list()) {
    AppendFixed(vector, begin, end, column);
    return;
  }
  const auto* entries = static_cast<const duckdb_list_entry*>(duckdb_vector_get_data(vector));
  const uint64_t* validity = duckdb_vector_get_validity(vector);
  const duckdb_vector child = duckdb_list_vector_get_child(vector);
  for (size_t i = begin; i < end; ++i) {
    if (!IsValid(validity, i)) {
      column.AppendNull();
      continue;
    }
    AppendValues(child, entries[i].offset, entries[i].offset + entries[i].length, column.child());
    column.AppendListEnd();
  }
}

}  // namespace

void FillVector(duckdb_vector vector, const Column& column, size_t begin, const uint32_t* rows,
                size_t n) {
  const RowMap map{begin, rows};
  FillValidity(vector, column, map, n);
  if (column.type().is_list()) {
    FillList(vector, column, map, n);
  } else if (column.type().is_varlen()) {
    FillText(vector, column, map, n);
  } else {
    FillFixed(vector, column, map, n);
  }
}

void AppendVector(duckdb_vector vector, size_t n, Column& column) {
  AppendValues(vector, 0, n, column);
}

}  // namespace millrace::sql
