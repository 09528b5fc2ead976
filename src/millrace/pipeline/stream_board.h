// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>

#include "millrace/common/mutex.h"
#include "millrace/model/stream.h"

namespace millrace::pipeline {

// The newest version of each stream: set by the engine once a batch that brought it is durable,
// read by the sinks, so that a target follows a table to which nobody writes. Threads: any.
class StreamBoard {
 public:
  void Set(const StreamPtr& stream) {
    MutexLock lock(mu_);
    newest_[stream->id] = stream;
  }
  // Null for a stream that nobody set.
  StreamPtr Newest(StreamId id) const {
    MutexLock lock(mu_);
    const auto found = newest_.find(id);
    return found == newest_.end() ? nullptr : found->second;
  }

 private:
  mutable Mutex mu_;
  // Guarded by mu_.
  std::map<StreamId, StreamPtr> newest_ MR_GUARDED_BY(mu_);
};

}  // namespace millrace::pipeline
