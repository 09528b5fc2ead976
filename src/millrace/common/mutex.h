// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

// Attributes of clang's thread safety analysis; nothing under other compilers.
#if defined(__clang__)
#define MR_ATTRIBUTE(x) __attribute__((x))
#else
#define MR_ATTRIBUTE(x)
#endif
#define MR_GUARDED_BY(x) MR_ATTRIBUTE(guarded_by(x))
#define MR_REQUIRES(...) MR_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define MR_EXCLUDES(...) MR_ATTRIBUTE(locks_excluded(__VA_ARGS__))

namespace millrace {

// std::mutex with the attributes that let clang prove that guarded data is read under it.
class MR_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void Lock() MR_ATTRIBUTE(acquire_capability()) { mu_.lock(); }
  void Unlock() MR_ATTRIBUTE(release_capability()) { mu_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mu_;
};

class MR_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mu) MR_ATTRIBUTE(acquire_capability(mu)) : mu_(mu) { mu_.Lock(); }
  ~MutexLock() MR_ATTRIBUTE(release_capability()) { mu_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mu_;
};

// Waits may end without a notification: test the condition in a loop.
class CondVar {
 public:
  void Wait(Mutex& mu) MR_REQUIRES(mu) {
    std::unique_lock<std::mutex> lock(mu.mu_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
  }
  // False if `deadline` passed.
  bool WaitUntil(Mutex& mu, std::chrono::steady_clock::time_point deadline) MR_REQUIRES(mu) {
    std::unique_lock<std::mutex> lock(mu.mu_, std::adopt_lock);
    const bool notified = cv_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return notified;
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace millrace
