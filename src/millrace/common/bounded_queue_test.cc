// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/bounded_queue.h"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(BoundedQueue, BlocksTheProducerAtTheByteBound) {
  BoundedQueue<int> queue(10, 100);
  std::stop_source stop;
  ASSERT_TRUE(queue.Push(1, 60, stop.get_token()));
  std::atomic<bool> pushed = false;
  std::jthread producer([&] {
    EXPECT_TRUE(queue.Push(2, 60, stop.get_token()));
    pushed = true;
  });
  EXPECT_EQ(queue.bytes(), 60U);
  EXPECT_FALSE(pushed);
  EXPECT_EQ(queue.Pop(stop.get_token()), 1);
  EXPECT_EQ(queue.Pop(stop.get_token()), 2);
  producer.join();
  EXPECT_TRUE(pushed);
  EXPECT_EQ(queue.bytes(), 0U);
}

TEST(BoundedQueue, LetsOneOversizeItemThroughWhenEmpty) {
  BoundedQueue<int> queue(10, 100);
  std::stop_source stop;
  EXPECT_TRUE(queue.Push(1, 1000, stop.get_token()));
  EXPECT_EQ(queue.Pop(stop.get_token()), 1);
}

TEST(BoundedQueue, StopWakesBothSides) {
  BoundedQueue<int> queue(1, 100);
  std::stop_source stop;
  ASSERT_TRUE(queue.Push(1, 1, stop.get_token()));
  std::jthread producer([&] { EXPECT_FALSE(queue.Push(2, 1, stop.get_token())); });
  BoundedQueue<int> empty(1, 100);
  std::jthread consumer([&] { EXPECT_EQ(empty.Pop(stop.get_token()), std::nullopt); });
  stop.request_stop();
}

}  // namespace
}  // namespace millrace
