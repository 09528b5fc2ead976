// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <utility>

#include "millrace/common/check.h"
#include "millrace/model/change_batch.h"

namespace millrace::pipeline {

// Where capture gives change batches to the engine: one place, so that capture reads the next batch
// while the engine works on the last one, and no further.
//
// Threads: one producer, one consumer; the questions from any thread.
class HandOver {
 public:
  // Nothing is waiting: Give() may be called.
  bool IsFree() const {
    std::unique_lock lock(mu_);
    return waiting_ == nullptr;
  }
  // The engine has nothing to do: a batch given now starts at once.
  bool IsIdle() const {
    std::unique_lock lock(mu_);
    return waiting_ == nullptr && !working_;
  }

  // The engine has seen all rows of its batch, those of its state too, and none is large.
  void NoteSmall() {
    std::unique_lock lock(mu_);
    is_small_ = waiting_ == nullptr;  // otherwise another has been given meanwhile
    changed_.notify_all();
  }

  // What waits for the engine.
  size_t WaitingBytes() const {
    std::unique_lock lock(mu_);
    return waiting_ == nullptr ? 0 : waiting_->byte_size;
  }

  // REQUIRES: IsFree().
  void Give(std::unique_ptr<ChangeBatch> batch) {
    std::unique_lock lock(mu_);
    MR_CHECK(waiting_ == nullptr);
    waiting_ = std::move(batch);
    is_small_ = false;
    changed_.notify_all();
  }

  // Has Take() return without a batch, soon.
  void Wake() {
    std::unique_lock lock(mu_);
    is_woken_ = true;
    changed_.notify_all();
  }

  // The engine's next batch, or null behind a Wake(); the last one is finished by this call. False
  // once `stop` is requested and nothing is waiting.
  bool Take(std::stop_token stop, std::unique_ptr<ChangeBatch>& batch) {
    std::unique_lock lock(mu_);
    working_ = false;
    changed_.notify_all();
    changed_.wait(lock, stop, [&] { return waiting_ != nullptr || is_woken_; });
    working_ = waiting_ != nullptr || is_woken_;
    is_woken_ = false;
    batch = std::move(waiting_);
    changed_.notify_all();
    return working_;
  }

  // Blocks until Give() may be called, for at most `time`.
  void WaitFree(std::chrono::milliseconds time, std::stop_token stop) {
    std::unique_lock lock(mu_);
    changed_.wait_for(lock, stop, time, [&] { return waiting_ == nullptr; });
  }

  // Blocks for at most `time` until the engine has finished all that was given or knows that it is
  // small. True if so.
  bool WaitMemory(std::chrono::milliseconds time, std::stop_token stop) {
    std::unique_lock lock(mu_);
    return changed_.wait_for(lock, stop, time,
                             [&] { return is_small_ || (waiting_ == nullptr && !working_); });
  }

  // Blocks until the engine has finished all that was given. False if `stop` came first.
  bool WaitIdle(std::stop_token stop) {
    std::unique_lock lock(mu_);
    return changed_.wait(lock, stop, [&] { return waiting_ == nullptr && !working_; });
  }

 private:
  mutable std::mutex mu_;
  std::condition_variable_any changed_;
  // Guarded by mu_.
  std::unique_ptr<ChangeBatch> waiting_;
  bool working_ = false;
  bool is_woken_ = false;
  bool is_small_ = false;  // the batch that was given last
};

}  // namespace millrace::pipeline
