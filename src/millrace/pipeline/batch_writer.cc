// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/batch_writer.h"

#include <algorithm>
#include <utility>
namespace millrace::pipeline {

namespace {

size_t ValueBytes(const Column& column, size_t row) {
  const DataType& type = column.type();
  if (type.is_list()) {
    const auto [begin, end] = column.ListRange(row);
    size_t bytes = sizeof(uint64_t);
    for (size_t element = begin; element < end; ++element) {
      bytes += ValueBytes(column.child(), element);
    }
    return bytes;
  }
  return type.is_varlen() ? sizeof(uint64_t) + column.Text(row).size() : type.width();
}

size_t RowBytes(const RowBatch& rows, size_t row) {
  size_t bytes = 0;
  for (size_t i = 0; i < rows.column_count(); ++i) {
    bytes += ValueBytes(rows.column(i), row);
  }
  return bytes;
}

// Rows [begin, end) of an output batch, as one of its own.
OutputBatch CutOutput(const OutputBatch& from, size_t begin, size_t end) {
  OutputBatch part(from.stream);
  part.epoch = from.epoch;
  part.rows.AppendRange(from.rows, begin, end);
  const auto cut = [&](const auto& all, auto& some) {
    some.assign(all.begin() + static_cast<ptrdiff_t>(begin),
                all.begin() + static_cast<ptrdiff_t>(end));
  };
  cut(from.ops, part.ops);
  cut(from.ordinals, part.ordinals);
  cut(from.transaction, part.transaction);
  const uint32_t first = part.transaction.front();
  part.transactions.assign(from.transactions.begin() + first,
                           from.transactions.begin() + part.transaction.back() + 1);
  for (uint32_t& transaction : part.transaction) {
    transaction -= first;
  }
  return part;
}

}  // namespace

struct BatchWriter::Size {
  size_t rows = 0;
  size_t bytes = 0;

  Size operator+(const Size& other) const { return {rows + other.rows, bytes + other.bytes}; }
};

BatchWriter::BatchWriter(storage::Store& store, const Limits& limits, SourcePosition position,
                         bool is_part, Outputs outputs)
    : store_(store),
      limits_(limits),
      position_(position),
      mode_(outputs),
      is_part_(is_part),
      batch_(store.NewBatch()) {
  if (is_part_) {
    batch_->SetPart(false);
  }
}

bool BatchWriter::Fits(const Size& size) const {
  return size.rows <= limits_.record_rows && size.bytes <= limits_.record_bytes;
}

Status BatchWriter::AddOutput(OutputBatch output) {
  if (output.row_count() == 0) {
    return Status::Ok();
  }
  const size_t bytes = output.rows.byte_size();
  if (mode_ == Outputs::kBounded && !outputs_.empty() &&
      output_bytes_ + bytes + batch_->byte_size() > limits_.gathered_bytes) {
    MR_RETURN_IF_ERROR(Cut());
  }
  output.epoch = position_.epoch;
  outputs_.push_back(std::move(output));
  output_bytes_ += bytes;
  return Status::Ok();
}

Status BatchWriter::CutOutputsIfLarge() {
  return mode_ == Outputs::kBounded ? CutIfLarge() : Status::Ok();
}

Status BatchWriter::CutIfLarge() {
  return output_bytes_ + batch_->byte_size() > limits_.gathered_bytes ? Cut() : Status::Ok();
}

// If the process dies behind it, opening data_dir drops all parts, and the source sends what they
// were made of again.
Status BatchWriter::Cut() {
  batch_->SetPart(false);
  AppendRecords();
  MR_RETURN_IF_ERROR(store_.Commit(std::move(batch_)));
  is_part_ = true;
  batch_ = store_.NewBatch();
  batch_->SetPart(false);
  return Status::Ok();
}

Status BatchWriter::Commit(bool is_last) {
  AppendRecords();
  if (is_part_) {
    batch_->SetPart(is_last);
  }
  return store_.Commit(std::move(batch_));
}

void BatchWriter::AppendRecords() {
  next_ = store_.AppendEnd();
  Size all{.bytes = output_bytes_};
  for (const OutputBatch& output : outputs_) {
    all.rows += output.row_count();
  }
  if (!Fits(all)) {
    AppendGroups();
  } else if (!outputs_.empty()) {
    OutputRecord record{.first = next_, .end = next_, .position = position_, .batches = {}};
    for (OutputBatch& output : outputs_) {
      output.first_offset = record.end;
      record.end = Offset(record.end.value() + output.row_count());
      record.batches.push_back(std::make_shared<const OutputBatch>(std::move(output)));
    }
    batch_->AppendOutput(std::move(record));
  }
  outputs_.clear();
  output_bytes_ = 0;
}

// Several records, each of as many whole transactions as it takes.
void BatchWriter::AppendGroups() {
  std::vector<Size> transactions(outputs_.front().transactions.size());
  std::vector<std::vector<size_t>> row_bytes(outputs_.size());
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const OutputBatch& output = outputs_[i];
    row_bytes[i].resize(output.row_count());
    for (size_t row = 0; row < output.row_count(); ++row) {
      row_bytes[i][row] = RowBytes(output.rows, row);
      Size& size = transactions[output.transaction[row]];
      size = size + Size{1, row_bytes[i][row]};
    }
  }
  std::vector<RowRange> ranges(outputs_.size());
  for (size_t begin = 0; begin < transactions.size();) {
    Size size = transactions[begin];
    size_t end = begin + 1;
    while (end < transactions.size() && Fits(size + transactions[end])) {
      size = size + transactions[end++];
    }
    begin = end;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      ranges[i].begin = ranges[i].end;
      while (ranges[i].end < outputs_[i].row_count() &&
             outputs_[i].transaction[ranges[i].end] < end) {
        ++ranges[i].end;
      }
    }
    if (Fits(size)) {
      AppendRecord(ranges);
      continue;
    }
    // A transaction beyond the bound: records of their own for each piece of each stream.
    for (size_t i = 0; i < outputs_.size(); ++i) {
      std::vector<RowRange> piece(outputs_.size());
      for (size_t row = ranges[i].begin; row < ranges[i].end;) {
        Size of_piece{1, row_bytes[i][row]};
        piece[i] = {row, row + 1};
        while (++row < ranges[i].end && Fits(of_piece + Size{1, row_bytes[i][row]})) {
          of_piece = of_piece + Size{1, row_bytes[i][row]};
          ++piece[i].end;
        }
        AppendRecord(piece);
      }
    }
  }
}

void BatchWriter::AppendRecord(const std::vector<RowRange>& ranges) {
  OutputRecord record{.first = next_, .end = next_, .position = position_, .batches = {}};
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (ranges[i].begin == ranges[i].end) {
      continue;
    }
    const bool whole = ranges[i].begin == 0 && ranges[i].end == outputs_[i].row_count();
    OutputBatch output =
        whole ? std::move(outputs_[i]) : CutOutput(outputs_[i], ranges[i].begin, ranges[i].end);
    output.first_offset = record.end;
    record.end = Offset(record.end.value() + ranges[i].end - ranges[i].begin);
    record.batches.push_back(std::make_shared<const OutputBatch>(std::move(output)));
  }
  if (!record.batches.empty()) {
    next_ = record.end;
    batch_->AppendOutput(std::move(record));
  }
}

}  // namespace millrace::pipeline
