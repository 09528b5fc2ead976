// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>

namespace millrace {

// A queue between two threads, bounded by items and by bytes. A full queue blocks the producer:
// that is backpressure. One item larger than the byte bound passes when the queue is empty.
//
// Threads: any number on each side.
template <typename T>
class BoundedQueue {
 public:
  BoundedQueue(size_t items_max, size_t bytes_max) : items_max_(items_max), bytes_max_(bytes_max) {}

  // Blocks while full. False if `stop` was requested first; the item is then dropped.
  bool Push(T item, size_t bytes, std::stop_token stop) {
    std::unique_lock lock(mu_);
    if (!not_full_.wait(lock, stop, [&] { return HasRoom(bytes); })) {
      return false;
    }
    bytes_ += bytes;
    items_.emplace_back(std::move(item), bytes);
    not_empty_.notify_one();
    return true;
  }

  // Blocks while empty. Nothing if `stop` was requested first.
  std::optional<T> Pop(std::stop_token stop) {
    std::unique_lock lock(mu_);
    if (!not_empty_.wait(lock, stop, [&] { return !items_.empty(); })) {
      return std::nullopt;
    }
    std::pair<T, size_t> front = std::move(items_.front());
    items_.pop_front();
    bytes_ -= front.second;
    not_full_.notify_one();
    return std::move(front.first);
  }

  bool empty() const {
    std::unique_lock lock(mu_);
    return items_.empty();
  }
  size_t bytes() const {
    std::unique_lock lock(mu_);
    return bytes_;
  }

 private:
  bool HasRoom(size_t bytes) const {
    return items_.empty() || (items_.size() < items_max_ && bytes_ + bytes <= bytes_max_);
  }

  // Constant after construction.
  const size_t items_max_;
  const size_t bytes_max_;

  mutable std::mutex mu_;
  std::condition_variable_any not_full_;
  std::condition_variable_any not_empty_;
  // Guarded by mu_.
  std::deque<std::pair<T, size_t>> items_;
  size_t bytes_ = 0;
};

}  // namespace millrace
