// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/column.h"

#include <bit>
#include <utility>

namespace millrace {

Column::Column(DataType type) : type_(std::move(type)), width_(type_.width()) {
  if (type_.is_list()) {
    child_ = std::make_unique<Column>(*type_.element);
  }
}

size_t Column::byte_size() const {
  return data_.size() + ends_.size() + validity_.size() * sizeof(uint64_t) +
         (child_ ? child_->byte_size() : 0);
}

void Column::ExtendValidity() {
  // Bits behind the last row are kept set, so that appending a valid row touches words only.
  const size_t words = (size_ + 63) / 64;
  if (validity_.size() < words) {
    validity_.resize(words, ~uint64_t{0});
  }
}

void Column::SetNull(size_t row) {
  MR_DCHECK(row < size_);
  if (validity_.empty()) {
    validity_.assign((size_ + 63) / 64, ~uint64_t{0});
  }
  uint64_t& word = validity_[row / 64];
  const uint64_t bit = uint64_t{1} << (row % 64);
  if ((word & bit) != 0) {
    word &= ~bit;
    ++null_count_;
  }
}

void Column::AppendNull() {
  if (width_ != 0) {
    std::memset(data_.Extend(width_), 0, width_);
  } else {
    ends_.AppendValue<uint64_t>(child_ ? child_->size() : data_.size());
  }
  AddValid(1);
  SetNull(size_ - 1);
}

void Column::AppendFrom(const Column& other, size_t row) {
  if (other.IsNull(row)) {
    AppendNull();
  } else if (width_ != 0) {
    AppendFixed(other.ValueBytes(row));
  } else if (child_) {
    const auto [begin, end] = other.ListRange(row);
    child_->AppendRange(*other.child_, begin, end);
    AppendListEnd();
  } else {
    AppendText(other.Text(row));
  }
}

void Column::AppendRange(const Column& other, size_t begin, size_t end) {
  MR_DCHECK(begin <= end && end <= other.size_);
  if (other.has_nulls() || child_) {
    for (size_t row = begin; row < end; ++row) {
      AppendFrom(other, row);
    }
    return;
  }
  if (begin == end) {
    return;
  }
  if (width_ != 0) {
    AppendFixedRun(other.data_.data() + begin * width_, end - begin);
    return;
  }
  const std::span<const uint64_t> from = other.ends();
  const uint64_t first = begin == 0 ? 0 : from[begin - 1];
  const uint64_t base = data_.size();
  data_.Append(other.data_.data() + first, from[end - 1] - first);
  auto* to = reinterpret_cast<uint64_t*>(ends_.Extend((end - begin) * sizeof(uint64_t)));
  for (size_t row = begin; row < end; ++row) {
    *to++ = base + (from[row] - first);
  }
  AddValid(end - begin);
}

void Column::Restore(size_t size, std::vector<uint64_t> validity, Buffer data, Buffer ends) {
  size_ = size;
  data_ = std::move(data);
  ends_ = std::move(ends);
  validity_ = std::move(validity);
  null_count_ = 0;
  for (size_t row = 0; row < size && !validity_.empty(); row += 64) {
    uint64_t& word = validity_[row / 64];
    if (size - row < 64) {
      word |= ~uint64_t{0} << (size - row);
    }
    null_count_ += static_cast<size_t>(std::popcount(~word));
  }
}

void Column::Truncate(size_t size) {
  if (size >= size_) {
    return;
  }
  if (width_ != 0) {
    data_.Truncate(size * width_);
  } else {
    const uint64_t end = size == 0 ? 0 : ends()[size - 1];
    ends_.Truncate(size * sizeof(uint64_t));
    if (child_) {
      child_->Truncate(end);
    } else {
      data_.Truncate(end);
    }
  }
  std::vector<uint64_t> validity = std::move(validity_);
  if (!validity.empty()) {
    validity.resize((size + 63) / 64);
  }
  Restore(size, std::move(validity), std::move(data_), std::move(ends_));
}

void Column::Reserve(size_t rows) {
  if (width_ != 0) {
    data_.Reserve(rows * width_);
  } else {
    ends_.Reserve(rows * sizeof(uint64_t));
  }
}

}  // namespace millrace
