// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "millrace/common/buffer.h"
#include "millrace/common/check.h"
#include "millrace/model/data_type.h"

namespace millrace {

// The values of one column of a batch, typed, with validity: what DuckDB's vectors and ClickHouse's
// Native blocks are made from without a value in between.
//
//   fixed-size kinds   fixed(): size() values of type().width() bytes; the value of a NULL is zero
//   text, json, bytes  ends(): size() offsets into bytes(); value i is bytes()[ends[i-1], ends[i])
//   lists              ends(): the same, counting values of child()
//   validity()         one bit a row, least significant first, 1 = not NULL, as in DuckDB and
//   Arrow;
//                      empty while there are no NULLs
//
// Not thread-safe; const access from many threads is.
class Column {
 public:
  explicit Column(DataType type);

  const DataType& type() const { return type_; }
  size_t size() const { return size_; }
  size_t null_count() const { return null_count_; }
  bool has_nulls() const { return null_count_ != 0; }
  // Bytes held, for bounds.
  size_t byte_size() const;

  bool IsNull(size_t row) const {
    return null_count_ != 0 && (validity_[row / 64] >> (row % 64) & 1) == 0;
  }

  // Fixed-size kinds. REQUIRES: sizeof(T) == type().width().
  template <typename T>
  T Value(size_t row) const {
    MR_DCHECK(sizeof(T) == width_);
    T v;
    std::memcpy(&v, data_.data() + row * sizeof(T), sizeof(T));
    return v;
  }
  template <typename T>
  std::span<const T> Values() const {
    MR_DCHECK(sizeof(T) == width_);
    return data_.As<T>();
  }
  // The bytes of one fixed-size value.
  const char* ValueBytes(size_t row) const { return data_.data() + row * width_; }

  // Variable-size kinds; empty for a NULL.
  std::string_view Text(size_t row) const {
    const std::span<const uint64_t> end = ends_.As<uint64_t>();
    const uint64_t begin = row == 0 ? 0 : end[row - 1];
    return {data_.data() + begin, end[row] - begin};
  }

  // Lists: the rows of child() that belong to `row`.
  std::pair<size_t, size_t> ListRange(size_t row) const {
    const std::span<const uint64_t> end = ends_.As<uint64_t>();
    return {row == 0 ? 0 : end[row - 1], end[row]};
  }
  const Column& child() const { return *child_; }
  Column& child() { return *child_; }

  const Buffer& fixed() const { return data_; }
  std::span<const uint64_t> ends() const { return ends_.As<uint64_t>(); }
  std::string_view bytes() const { return data_.view(); }
  std::span<const uint64_t> validity() const { return validity_; }

  void AppendNull();
  template <typename T>
  void Append(T value) {
    MR_DCHECK(sizeof(T) == width_);
    data_.AppendValue(value);
    AddValid(1);
  }
  // `bytes` is the memory of one fixed-size value.
  void AppendFixed(const void* bytes) {
    data_.Append(bytes, width_);
    AddValid(1);
  }
  void AppendText(std::string_view text) {
    data_.Append(text);
    ends_.AppendValue<uint64_t>(data_.size());
    AddValid(1);
  }
  // Appends a value of `size` bytes and returns where they are to be written. The place is valid
  // until the next append.
  char* AppendTextOf(size_t size) {
    char* const at = data_.Extend(size);
    ends_.AppendValue<uint64_t>(data_.size());
    AddValid(1);
    return at;
  }
  // Ends a list whose values have been appended to child().
  void AppendListEnd() {
    ends_.AppendValue<uint64_t>(child_->size());
    AddValid(1);
  }

  // Appends row `row`, or rows [begin, end), of a column of the same type.
  void AppendFrom(const Column& other, size_t row);
  void AppendRange(const Column& other, size_t begin, size_t end);

  // Appends `n` values from memory of the layouts above, all valid; NULLs are set with SetNull().
  // For fixed-size kinds `bytes` has n * width; for the others use the appends by value.
  void AppendFixedRun(const void* bytes, size_t n) {
    data_.Append(bytes, n * width_);
    AddValid(n);
  }
  // Turns a valid row into NULL. Its bytes stay as they are.
  void SetNull(size_t row);

  // Rebuilds a column from stored parts; the caller has checked their sizes (see storage/).
  // `validity` is empty or has one word for each 64 rows.
  void Restore(size_t size, std::vector<uint64_t> validity, Buffer data, Buffer ends);

  // Drops the rows from `size` on.
  void Truncate(size_t size);
  void Reserve(size_t rows);

 private:
  void AddValid(size_t n) {
    size_ += n;
    if (!validity_.empty()) [[unlikely]] {
      ExtendValidity();
    }
  }
  void ExtendValidity();

  DataType type_;
  size_t width_;
  size_t size_ = 0;
  size_t null_count_ = 0;
  Buffer data_;  // fixed values, or the bytes of variable-size ones
  Buffer ends_;  // uint64_t
  std::vector<uint64_t> validity_;
  std::unique_ptr<Column> child_;
};

}  // namespace millrace
