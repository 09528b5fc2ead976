// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/buffer.h"
#include "millrace/common/result.h"
#include "millrace/model/stream.h"
#include "millrace/sinks/sink.h"

namespace millrace::sinks::clickhouse {

// Raised when the same rows give other bytes than before; stands in delivery plans.
inline constexpr uint32_t kEncoderVersion = 1;

// The bytes of a block, but for texts of a megabyte and more: those are not copied, and the rows of
// which they are outlive it.
class NativeBlock {
 public:
  struct LargeText {
    size_t at = 0;  // in front of rest[at]
    std::string_view bytes;
  };

  Buffer rest;
  std::vector<LargeText> texts;  // ascending

  // All bytes, in order.
  std::vector<std::string_view> Pieces() const;
  size_t size() const;
};

// NativeEncoder turns output rows of one stream into one block of ClickHouse's format Native,
// column by column: a varint number of columns and of rows, then for each column its name, its type
// and its values. Integers are little-endian; a Nullable column has a byte a row first (1 = NULL);
// a string is a varint length and its bytes; an array column has the running ends of its rows
// first; an enum is LowCardinality: its distinct values, then a number a row.
//
// The columns are those of the newest version of the stream among the rows, then `_version`,
// `_commit_ts` and, for mutable streams, `_deleted`. Values that a tombstone lacks are NULL, or
// zero where the column is not nullable. The same rows give the same bytes, whatever lies behind
// NULLs.
//
// Immutable; any thread.
class NativeEncoder {
 public:
  // `as_string` names columns that are sent as their exact text; `out_of_range` says what becomes
  // of values that ClickHouse's type cannot hold, those of key columns apart.
  NativeEncoder(StreamPtr stream, const std::set<std::string>& as_string,
                OutOfRange out_of_range = OutOfRange::kError);

  // Makes one block of all rows of `slices`, in `to`, which is empty. kInvalidArgument names
  // stream, column and output offset of a value that ClickHouse cannot hold; kFailedPrecondition
  // where a row is of an older version of the stream whose type does not widen to the newer one.
  // After an error what is in `to` means nothing.
  Status Encode(std::span<const OutputSlice> slices, NativeBlock& to) const;

  // Every row of `slices` for which Encode() fails with kInvalidArgument.
  std::map<Offset, std::string> FindRefused(std::span<const OutputSlice> slices) const;

  // "`a`, `b`, ...": the columns of the block, for the INSERT statement.
  const std::string& column_list() const { return column_list_; }
  // Names and types of the columns: what the bytes depend on besides the rows.
  const std::string& layout() const { return layout_; }
  const StreamPtr& stream() const { return stream_; }

 private:
  struct BlockColumn {
    std::string name;
    std::string type;          // ClickHouse's
    bool nullable = false;     // has a byte a row for NULL
    bool may_be_null = false;  // a NULL in it is no error
    bool as_string = false;
    bool replaces = false;  // what ClickHouse cannot hold is replaced
  };
  // Where the values of a slice stand: rows from `begin` of `column`.
  struct SliceColumn {
    const Column* column = nullptr;
    size_t begin = 0;
    bool may_be_null = false;
    std::unique_ptr<Column> converted;  // of rows of an older version, or with values replaced
  };

  Result<SliceColumn> FindSliceColumn(size_t index, const OutputSlice& slice) const;
  // The first row of `slice`, from `begin` on, whose value ClickHouse cannot hold, and why.
  struct BadValue {
    size_t row;
    std::string reason;
  };
  std::optional<BadValue> FindBadValue(size_t index, const OutputSlice& slice,
                                       const SliceColumn& values, size_t begin) const;
  Status EncodeColumn(size_t index, std::span<const OutputSlice> slices, NativeBlock& to) const;
  void EncodeMetadata(std::span<const OutputSlice> slices, Buffer& to) const;

  StreamPtr stream_;
  OutOfRange out_of_range_;
  std::vector<BlockColumn> columns_;  // those of the stream, in order
  std::string column_list_;
  std::string layout_;
};

}  // namespace millrace::sinks::clickhouse
