// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/clickhouse/native_encoder.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "millrace/common/coding.h"
#include "millrace/model/evolution.h"
#include "millrace/model/json_text.h"
#include "millrace/sinks/clickhouse/clickhouse_schema.h"
#include "millrace/sinks/clickhouse/value_range.h"

namespace millrace::sinks::clickhouse {

namespace {

constexpr size_t kLargeText = size_t{1} << 20;

// Rows [begin, end) of a column.
struct ColumnRun {
  const Column* column = nullptr;
  size_t begin = 0;
  size_t end = 0;
  bool outlives_block = false;  // it is not made for the block

  size_t size() const { return end - begin; }
};
using Runs = std::span<const ColumnRun>;

size_t RowCount(Runs runs) {
  size_t rows = 0;
  for (const ColumnRun& run : runs) {
    rows += run.size();
  }
  return rows;
}

void EncodeNullMap(Runs runs, Buffer& to) {
  for (const ColumnRun& run : runs) {
    char* at = to.Extend(run.size());
    if (!run.column->has_nulls()) {
      std::memset(at, 0, run.size());
      continue;
    }
    const std::span<const uint64_t> validity = run.column->validity();
    for (size_t row = run.begin; row < run.end; ++row) {
      *at++ = static_cast<char>(~(validity[row / 64] >> (row % 64)) & 1);
    }
  }
}

// Values whose bytes are ClickHouse's. What stands behind a NULL is not looked at: zero is sent.
void EncodeCopied(Runs runs, size_t width, Buffer& to) {
  for (const ColumnRun& run : runs) {
    if (run.size() == 0) {
      continue;
    }
    char* at = to.Extend(run.size() * width);
    std::memcpy(at, run.column->ValueBytes(run.begin), run.size() * width);
    if (!run.column->has_nulls()) {
      continue;
    }
    for (size_t row = run.begin; row < run.end; ++row) {
      if (run.column->IsNull(row)) {
        std::memset(at + (row - run.begin) * width, 0, width);
      }
    }
  }
}

// Each half is a little-endian number.
void EncodeUuid(Runs runs, Buffer& to) {
  for (const ColumnRun& run : runs) {
    char* at = to.Extend(run.size() * 16);
    for (size_t row = run.begin; row < run.end; ++row, at += 16) {
      uint64_t halves[2] = {0, 0};
      if (!run.column->IsNull(row)) {
        const char* from = run.column->ValueBytes(row);
        halves[0] = LoadBigEndian<uint64_t>(from);
        halves[1] = LoadBigEndian<uint64_t>(from + 8);
      }
      std::memcpy(at, halves, 16);
    }
  }
}

// ClickHouse has no decimal of 2 bytes.
void EncodeSmallDecimal(Runs runs, Buffer& to) {
  for (const ColumnRun& run : runs) {
    char* at = to.Extend(run.size() * 4);
    for (size_t row = run.begin; row < run.end; ++row, at += 4) {
      const int32_t value = run.column->IsNull(row) ? 0 : run.column->Value<int16_t>(row);
      std::memcpy(at, &value, 4);
    }
  }
}

char* PutVarint(uint64_t v, char* to) {
  while (v >= 0x80) {
    *to++ = static_cast<char>(v | 0x80);
    v >>= 7;
  }
  *to++ = static_cast<char>(v);
  return to;
}

// Room for the texts that are copied is taken at once, so that each is appended without a check.
size_t CopiedBytes(const ColumnRun& run) {
  const std::span<const uint64_t> ends = run.column->ends();
  const uint64_t begin = run.begin == 0 ? 0 : ends[run.begin - 1];
  uint64_t bytes = ends[run.end - 1] - begin;
  if (bytes < kLargeText) [[likely]] {
    return bytes;
  }
  for (size_t row = run.begin; row < run.end && run.outlives_block; ++row) {
    const size_t size = run.column->Text(row).size();
    bytes -= size >= kLargeText ? size : 0;
  }
  return bytes;
}

void EncodeTexts(Runs runs, NativeBlock& block) {
  constexpr size_t kVarintMax = 10;
  Buffer& to = block.rest;
  for (const ColumnRun& run : runs) {
    if (run.size() == 0) {
      continue;
    }
    const Column& column = *run.column;
    const std::span<const uint64_t> ends = column.ends();
    uint64_t from = run.begin == 0 ? 0 : ends[run.begin - 1];
    const size_t before = to.size();
    char* const start = to.Extend(CopiedBytes(run) + run.size() * kVarintMax);
    char* at = start;
    const char* bytes = column.bytes().data();
    const bool has_nulls = column.has_nulls();
    for (size_t row = run.begin; row < run.end; ++row) {
      const uint64_t length = has_nulls && column.IsNull(row) ? 0 : ends[row] - from;
      at = PutVarint(length, at);
      if (length >= kLargeText && run.outlives_block) [[unlikely]] {
        block.texts.push_back({before + static_cast<size_t>(at - start), {bytes + from, length}});
      } else if (length != 0) {
        std::memcpy(at, bytes + from, length);
        at += length;
      }
      from = ends[row];
    }
    to.Truncate(before + static_cast<size_t>(at - start));
  }
}

// As text; bytes stay what they are.
void EncodeFormatted(Runs runs, Buffer& to) {
  Buffer text;
  for (const ColumnRun& run : runs) {
    const DataType& type = run.column->type();
    const ValueWriter write = TextWriterOf(type);
    for (size_t row = run.begin; row < run.end; ++row) {
      text.Clear();
      if (run.column->IsNull(row)) {
        // An empty text stands behind a NULL.
      } else if (type.is_varlen()) {
        text.Append(run.column->Text(row));
      } else {
        write(*run.column, row, text);
      }
      AppendLengthPrefixed(to, text.view());
    }
  }
}

template <typename T>
void AppendIndexes(const std::vector<uint32_t>& indexes, Buffer& to) {
  for (const uint32_t index : indexes) {
    to.AppendValue(static_cast<T>(index));
  }
}

// LowCardinality(String) or LowCardinality(Nullable(String)). In the dictionary of the latter the
// first entry stands for NULL. The rest is in order of first appearance.
void EncodeLowCardinality(Runs runs, bool nullable, Buffer& to) {
  constexpr uint64_t kHasAdditionalKeys = 1 << 9;
  constexpr uint64_t kNeedsUpdateDictionary = 1 << 10;
  std::unordered_map<std::string_view, uint32_t> numbers;
  std::vector<std::string_view> keys;
  std::vector<uint32_t> indexes;
  if (nullable) {
    keys.emplace_back();
  }
  indexes.reserve(RowCount(runs));
  for (const ColumnRun& run : runs) {
    for (size_t row = run.begin; row < run.end; ++row) {
      const bool is_null = run.column->IsNull(row);
      if (is_null && nullable) {
        indexes.push_back(0);
        continue;
      }
      const std::string_view text = is_null ? std::string_view() : run.column->Text(row);
      const auto [found, is_new] = numbers.try_emplace(text, static_cast<uint32_t>(keys.size()));
      if (is_new) {
        keys.push_back(text);
      }
      indexes.push_back(found->second);
    }
  }
  const uint64_t width = keys.size() <= 0x100 ? 0 : keys.size() <= 0x10000 ? 1 : 2;
  to.AppendValue(width | kHasAdditionalKeys | kNeedsUpdateDictionary);
  to.AppendValue<uint64_t>(keys.size());
  for (const std::string_view key : keys) {
    AppendLengthPrefixed(to, key);
  }
  to.AppendValue<uint64_t>(indexes.size());
  if (width == 0) {
    AppendIndexes<uint8_t>(indexes, to);
  } else if (width == 1) {
    AppendIndexes<uint16_t>(indexes, to);
  } else {
    AppendIndexes<uint32_t>(indexes, to);
  }
}

void EncodeValues(const DataType& type, Runs runs, NativeBlock& block);

// Array(Nullable(T)); a NULL list is empty.
void EncodeLists(const DataType& type, Runs runs, NativeBlock& block) {
  Buffer& to = block.rest;
  std::vector<ColumnRun> children;
  uint64_t end = 0;
  for (const ColumnRun& run : runs) {
    for (size_t row = run.begin; row < run.end; ++row) {
      if (!run.column->IsNull(row)) {
        const auto [first, last] = run.column->ListRange(row);
        end += last - first;
        if (!children.empty() && children.back().column == &run.column->child() &&
            children.back().end == first) {
          children.back().end = last;
        } else if (first != last) {
          children.push_back({&run.column->child(), first, last, run.outlives_block});
        }
      }
      to.AppendValue(end);
    }
  }
  EncodeNullMap(children, to);
  EncodeValues(*type.element, children, block);
}

void EncodeValues(const DataType& type, Runs runs, NativeBlock& block) {
  Buffer& to = block.rest;
  switch (type.kind) {
    case TypeKind::kDecimal:
      return type.width() == 2 ? EncodeSmallDecimal(runs, to)
                               : EncodeCopied(runs, type.width(), to);
    case TypeKind::kUuid:
      return EncodeUuid(runs, to);
    case TypeKind::kText:
    case TypeKind::kEnum:
    case TypeKind::kJson:
    case TypeKind::kBytes:
      return EncodeTexts(runs, block);
    case TypeKind::kTime:
    case TypeKind::kInterval:
      return EncodeFormatted(runs, to);
    case TypeKind::kList:
      return EncodeLists(type, runs, block);
    default:
      return EncodeCopied(runs, type.width(), to);
  }
}

bool IsTombstone(OutputOp op) { return op == OutputOp::kDelete || op == OutputOp::kMovedAway; }

}  // namespace

std::vector<std::string_view> NativeBlock::Pieces() const {
  std::vector<std::string_view> pieces;
  size_t at = 0;
  for (const LargeText& text : texts) {
    pieces.push_back(rest.view().substr(at, text.at - at));
    pieces.push_back(text.bytes);
    at = text.at;
  }
  pieces.push_back(rest.view().substr(at));
  return pieces;
}

size_t NativeBlock::size() const {
  size_t bytes = rest.size();
  for (const LargeText& text : texts) {
    bytes += text.bytes.size();
  }
  return bytes;
}

NativeEncoder::NativeEncoder(StreamPtr stream, const std::set<std::string>& as_string,
                             OutOfRange out_of_range)
    : stream_(std::move(stream)), out_of_range_(out_of_range) {
  const auto add = [this](std::string_view name, std::string_view type) {
    column_list_ += column_list_.empty() ? "" : ", ";
    column_list_ += QuoteIdentifier(name);
    layout_ += fmt::format("{} {},", QuoteIdentifier(name), type);
  };
  for (size_t i = 0; i < stream_->columns->size(); ++i) {
    const Field& field = (*stream_->columns)[i];
    BlockColumn column;
    column.name = field.name;
    column.as_string = as_string.count(field.name) != 0;
    column.may_be_null =
        field.nullable || (!column.as_string && ReplacesWithNull(*stream_, i, out_of_range));
    column.replaces = out_of_range != OutOfRange::kError && !column.as_string &&
                      HasLimits(field.type) && !IsKeyColumn(*stream_, i);
    column.nullable = column.may_be_null && (column.as_string || !field.type.is_list());
    column.type = ColumnType(field.type, column.may_be_null, column.as_string, "");
    add(column.name, column.type);
    columns_.push_back(std::move(column));
  }
  add(kVersionColumn, "UInt128");
  add(kCommitTimeColumn, "DateTime64(6, 'UTC')");
  if (!stream_->append_only) {
    add(kDeletedColumn, "UInt8");
  }
  if (out_of_range != OutOfRange::kError) {
    layout_ += out_of_range == OutOfRange::kClamp ? "clamp" : "null";
  }
}

Status NativeEncoder::Encode(std::span<const OutputSlice> slices, NativeBlock& block) const {
  Buffer& to = block.rest;
  size_t rows = 0;
  size_t bytes = 0;
  for (const OutputSlice& slice : slices) {
    rows += slice.row_count();
    const size_t whole = std::max<size_t>(slice.batch->row_count(), 1);
    bytes += slice.batch->rows.byte_size() / whole * slice.row_count();
    bytes += slice.row_count() * (columns_.size() * 2 + 26);
  }
  to.Reserve(to.size() + bytes);
  AppendVarint(to, columns_.size() + (stream_->append_only ? 2 : 3));
  AppendVarint(to, rows);
  for (size_t i = 0; i < columns_.size(); ++i) {
    AppendLengthPrefixed(to, columns_[i].name);
    AppendLengthPrefixed(to, columns_[i].type);
    MR_RETURN_IF_ERROR(EncodeColumn(i, slices, block));
  }
  EncodeMetadata(slices, to);
  return Status::Ok();
}

Result<NativeEncoder::SliceColumn> NativeEncoder::FindSliceColumn(size_t index,
                                                                  const OutputSlice& slice) const {
  const BlockColumn& column = columns_[index];
  const DataType& type = (*stream_->columns)[index].type;
  const OutputBatch& batch = *slice.batch;
  int at = static_cast<int>(index);
  if (batch.stream != stream_) {
    at = stream_->FindInEarlier(*batch.stream, index);
  }
  SliceColumn found;
  if (at < 0) {
    found.converted = std::make_unique<Column>(type);
    AppendFill(stream_->fill.get(), index, slice.row_count(), *found.converted);
    found.may_be_null = true;
  } else if (const Column& values = batch.rows.column(static_cast<size_t>(at));
             values.type() == type || column.as_string) {
    found.column = &values;
    found.begin = slice.begin;
  } else if (Widens(values.type(), type)) {
    found.converted = std::make_unique<Column>(type);
    AppendWidened(values, slice.begin, slice.end, *found.converted);
  } else if (!stream_->table.empty()) {
    // The table was made anew, and is read again: rows that hold the new type follow.
    found.converted = std::make_unique<Column>(type);
    AppendFill(nullptr, index, slice.row_count(), *found.converted);
    found.may_be_null = true;
  } else {
    return FailedPrecondition(fmt::format(
        "stream '{}', column '{}': rows of an older version of the stream hold {}, which does not "
        "widen to {}; rebuild what the sink holds in a new data_dir",
        stream_->name, column.name, values.type().ToString(), type.ToString()));
  }
  if (found.converted) {
    found.column = found.converted.get();
  }
  const size_t end = found.begin + slice.row_count();
  if (column.replaces && FindOutOfRange(*found.column, found.begin, end)) [[unlikely]] {
    found.converted =
        std::make_unique<Column>(ReplaceOutOfRange(*found.column, found.begin, end, out_of_range_));
    found.column = found.converted.get();
    found.begin = 0;
  }
  return found;
}

std::optional<NativeEncoder::BadValue> NativeEncoder::FindBadValue(size_t index,
                                                                   const OutputSlice& slice,
                                                                   const SliceColumn& values,
                                                                   size_t begin) const {
  const BlockColumn& column = columns_[index];
  const OutputBatch& batch = *slice.batch;
  const size_t first = values.begin + (begin - slice.begin);
  const size_t end = values.begin + slice.row_count();
  const auto row_of = [&](size_t at) { return slice.begin + (at - values.begin); };
  const auto describe = [&](size_t at, std::string_view what) {
    return BadValue{row_of(at), fmt::format("stream '{}', column '{}': the value at output offset "
                                            "{} {}",
                                            stream_->name, column.name,
                                            batch.first_offset.value() + row_of(at), what)};
  };
  std::optional<BadValue> bad;
  if (const auto at =
          column.as_string ? std::nullopt : FindOutOfRange(*values.column, first, end)) {
    bad = describe(*at, fmt::format("{}; set out_of_range on the stream or `as: {{{}: string}}` on "
                                    "the table",
                                    OutOfRangeReason(values.column->type()), column.name));
  }
  if (column.may_be_null || values.may_be_null || !values.column->has_nulls()) {
    return bad;
  }
  for (size_t at = first; at < end && (!bad || row_of(at) < bad->row); ++at) {
    if (values.column->IsNull(at) && !IsTombstone(batch.ops[row_of(at)])) {
      return describe(at, "is NULL in a column that holds no NULL");
    }
  }
  return bad;
}

std::map<Offset, std::string> NativeEncoder::FindRefused(
    std::span<const OutputSlice> slices) const {
  std::map<Offset, std::string> refused;
  for (size_t i = 0; i < columns_.size(); ++i) {
    for (const OutputSlice& slice : slices) {
      const Result<SliceColumn> values = FindSliceColumn(i, slice);
      for (size_t begin = slice.begin; values.ok() && begin < slice.end;) {
        std::optional<BadValue> bad = FindBadValue(i, slice, *values, begin);
        if (!bad) {
          break;
        }
        begin = bad->row + 1;
        refused.emplace(Offset(slice.batch->first_offset.value() + bad->row),
                        std::move(bad->reason));
      }
    }
  }
  return refused;
}

Status NativeEncoder::EncodeColumn(size_t index, std::span<const OutputSlice> slices,
                                   NativeBlock& block) const {
  Buffer& to = block.rest;
  const BlockColumn& column = columns_[index];
  const DataType& type = (*stream_->columns)[index].type;
  std::vector<SliceColumn> values;
  std::vector<ColumnRun> runs;
  values.reserve(slices.size());
  runs.reserve(slices.size());
  bool is_all_text = true;
  for (const OutputSlice& slice : slices) {
    MR_ASSIGN_OR_RETURN(SliceColumn found, FindSliceColumn(index, slice));
    if (std::optional<BadValue> bad = FindBadValue(index, slice, found, slice.begin)) [[unlikely]] {
      return InvalidArgument(std::move(bad->reason));
    }
    is_all_text = is_all_text && found.column->type().is_varlen();
    runs.push_back({found.column, found.begin, found.begin + slice.row_count(),
                    /*outlives_block=*/found.converted == nullptr});
    values.push_back(std::move(found));
  }
  if (type.kind == TypeKind::kEnum && !column.as_string) {
    to.AppendValue<uint64_t>(1);  // the version of LowCardinality's serialisation
    EncodeLowCardinality(runs, column.nullable, to);
    return Status::Ok();
  }
  if (column.nullable) {
    EncodeNullMap(runs, to);
  }
  if (!column.as_string) {
    EncodeValues(type, runs, block);
  } else if (is_all_text) {
    EncodeTexts(runs, block);
  } else {
    EncodeFormatted(runs, to);
  }
  return Status::Ok();
}

void NativeEncoder::EncodeMetadata(std::span<const OutputSlice> slices, Buffer& to) const {
  AppendLengthPrefixed(to, kVersionColumn);
  AppendLengthPrefixed(to, "UInt128");
  for (const OutputSlice& slice : slices) {
    char* at = to.Extend(slice.row_count() * sizeof(UInt128));
    for (size_t row = slice.begin; row < slice.end; ++row, at += sizeof(UInt128)) {
      const UInt128 version = slice.batch->VersionOf(row).Encode();
      std::memcpy(at, &version, sizeof(version));
    }
  }
  AppendLengthPrefixed(to, kCommitTimeColumn);
  AppendLengthPrefixed(to, "DateTime64(6, 'UTC')");
  for (const OutputSlice& slice : slices) {
    char* at = to.Extend(slice.row_count() * sizeof(int64_t));
    for (size_t row = slice.begin; row < slice.end; ++row, at += sizeof(int64_t)) {
      const int64_t micros = slice.batch->CommitTimeOf(row);
      std::memcpy(at, &micros, sizeof(micros));
    }
  }
  if (stream_->append_only) {
    return;
  }
  AppendLengthPrefixed(to, kDeletedColumn);
  AppendLengthPrefixed(to, "UInt8");
  for (const OutputSlice& slice : slices) {
    char* at = to.Extend(slice.row_count());
    for (size_t row = slice.begin; row < slice.end; ++row) {
      *at++ = IsTombstone(slice.batch->ops[row]) ? 1 : 0;
    }
  }
}

}  // namespace millrace::sinks::clickhouse
