// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "millrace/common/status.h"

namespace millrace::pipeline {

// Where a failure came from.
enum class Stage { kSource, kEngine, kSink };

// What happens next.
enum class Reaction {
  kRetry,  // soon, with growing waits; the peer or the network will come back
  kPause,  // seldom: a person must act first, and others go on meanwhile
  kStop,   // the run ends with exit 1; nothing that is durable is lost
};

// The one place that decides what a failure leads to.
Reaction ReactionTo(Stage stage, Code code);

// docs/reference/errors.md: the table of the above.
std::string RenderErrorsReference();

}  // namespace millrace::pipeline
