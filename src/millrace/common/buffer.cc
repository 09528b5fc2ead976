// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/buffer.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

namespace millrace {

Buffer::Buffer(const Buffer& other) { Append(other.data_, other.size_); }

Buffer& Buffer::operator=(const Buffer& other) {
  if (this != &other) {
    Clear();
    Append(other.data_, other.size_);
  }
  return *this;
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      capacity_(std::exchange(other.capacity_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(capacity_, other.capacity_);
  return *this;
}

Buffer::~Buffer() { std::free(data_); }

void Buffer::Grow(size_t needed) {
  // malloc aligns to 16 bytes on the platforms that are supported.
  const size_t capacity = std::max({needed, capacity_ * 2, size_t{64}});
  auto* grown = static_cast<char*>(std::realloc(data_, capacity));
  if (grown == nullptr) {
    throw std::bad_alloc();
  }
  data_ = grown;
  capacity_ = capacity;
}

}  // namespace millrace
