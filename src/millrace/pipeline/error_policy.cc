// SPDX-License-Identifier: Apache-2.0
#include "millrace/pipeline/error_policy.h"

namespace millrace::pipeline {

Reaction ReactionTo(Stage stage, Code code) {
  switch (code) {
    case Code::kUnavailable:
    case Code::kTimedOut:
      // The outcome of a delivery may be unknown: a sink settles that when it opens again.
      return stage == Stage::kEngine ? Reaction::kStop : Reaction::kRetry;
    case Code::kResourceExhausted:
      // A full disk of ours ends the run: nothing can be made durable. A peer's may empty.
      return stage == Stage::kEngine ? Reaction::kStop : Reaction::kRetry;
    case Code::kFailedPrecondition:
    case Code::kPermissionDenied:
    case Code::kNotFound:
    case Code::kAlreadyExists:
    case Code::kUnsupported:
      // Another sink must not wait for this one's operator. A source that is not as it must be
      // would start wrong.
      return stage == Stage::kSink ? Reaction::kPause : Reaction::kStop;
    case Code::kOk:
    case Code::kCancelled:
    case Code::kInvalidArgument:
    case Code::kCorruption:
    case Code::kInternal:
      return Reaction::kStop;
  }
  return Reaction::kStop;
}

}  // namespace millrace::pipeline
