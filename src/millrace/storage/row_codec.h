// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/buffer.h"
#include "millrace/common/result.h"
#include "millrace/model/row_batch.h"
#include "millrace/model/stream.h"

namespace millrace::storage {

// Keys and rows of state as bytes; the format is docs/formats/state_row.md. Pure functions.

// The encodings of many rows in one run of memory. Views are valid until the next change.
class EncodedRows {
 public:
  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return bytes_.view().substr(begin, ends_[i] - begin);
  }
  size_t byte_size() const { return bytes_.size(); }
  // Keeps the memory.
  void Clear() {
    bytes_.Clear();
    ends_.clear();
  }

  // For encoders: append to bytes(), then end the row.
  Buffer& bytes() { return bytes_; }
  void EndRow() { ends_.push_back(bytes_.size()); }
  void Reserve(size_t rows) { ends_.reserve(ends_.size() + rows); }

 private:
  Buffer bytes_;
  std::vector<size_t> ends_;
};

// Appends the key of `row` that `columns`, indexes into `batch`, make. Equal values give equal
// bytes and unequal ones unequal bytes; bytes sort as the values do; the key of the first n columns
// is a prefix of the key. Equality is SQL's: -0.0 is 0.0, all NaNs are one, an interval of a month
// is one of 30 days, and a NULL is a value like any other.
void EncodeKey(const RowBatch& batch, size_t row, std::span<const uint32_t> columns,
               std::string& to);

// The keys of rows [begin, end), one after the other.
void EncodeKeys(const RowBatch& batch, size_t begin, size_t end, std::span<const uint32_t> columns,
                EncodedRows& to);

// Appends `row` with all columns, or with `columns` in their order.
void EncodeRow(const RowBatch& batch, size_t row, SchemaVersion version, std::string& to);
void EncodeRow(const RowBatch& batch, size_t row, SchemaVersion version,
               std::span<const uint32_t> columns, std::string& to);

// The rows [begin, end) of `batch`, one after the other. No allocation for a value.
void EncodeRows(const RowBatch& batch, size_t begin, size_t end, SchemaVersion version,
                std::span<const uint32_t> columns, EncodedRows& to);

// The version of the columns of an encoded row. kCorruption, or kUnsupported for a newer format.
Result<SchemaVersion> DecodeRowVersion(std::string_view bytes);

// Appends an encoded row to `to`, whose columns are those that it was encoded with. On failure `to`
// is as it was: kCorruption if the bytes are not a row of these columns, kUnsupported if the format
// is newer. The caller has compared DecodeRowVersion().
Status DecodeRow(std::string_view bytes, RowBatch& to);

}  // namespace millrace::storage
