// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "millrace/sinks/sink.h"

namespace millrace::sinks::testing {

// The stream of the engagement example.
StreamPtr EngagementStream();

// Delivers `rows` engagement rows in batches of `batch_rows`, and prints rows/s, and the CPU
// seconds of this process. Returns 0, or 1 after an error, which it prints.
int MeasureThroughput(Sink& sink, size_t rows, size_t batch_rows);

}  // namespace millrace::sinks::testing
