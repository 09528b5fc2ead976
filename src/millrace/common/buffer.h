// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace millrace {

// A growing run of bytes, aligned for 16-byte values, whose new bytes are not zeroed: what columns
// and encoders are made of. Growth is by doubling; std::bad_alloc is not handled.
//
// Not thread-safe. Pointers into it are valid until it grows.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer& other);
  Buffer& operator=(const Buffer& other);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }
  char* data() { return data_; }
  const char* data() const { return data_; }
  std::string_view view() const { return {data_, size_}; }

  // Makes room for `n` more bytes and returns where they are to be written.
  char* Extend(size_t n) {
    if (capacity_ - size_ < n) [[unlikely]] {
      Grow(size_ + n);
    }
    char* at = data_ + size_;
    size_ += n;
    return at;
  }

  void Append(const void* bytes, size_t n) {
    if (n != 0) {
      std::memcpy(Extend(n), bytes, n);
    }
  }
  void Append(std::string_view bytes) { Append(bytes.data(), bytes.size()); }

  template <typename T>
  void AppendValue(T value) {
    std::memcpy(Extend(sizeof(T)), &value, sizeof(T));
  }

  template <typename T>
  std::span<const T> As() const {
    return {reinterpret_cast<const T*>(data_), size_ / sizeof(T)};
  }
  template <typename T>
  std::span<T> As() {
    return {reinterpret_cast<T*>(data_), size_ / sizeof(T)};
  }

  void Reserve(size_t n) {
    if (capacity_ < n) {
      Grow(n);
    }
  }
  // REQUIRES: n <= size().
  void Truncate(size_t n) { size_ = n; }
  void Clear() { size_ = 0; }

 private:
  void Grow(size_t needed);

  char* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace millrace
