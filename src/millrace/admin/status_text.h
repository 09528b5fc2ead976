// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "millrace/pipeline/status_snapshot.h"

namespace millrace::admin {

// What `millrace status` prints. The first line is one sentence that says how things are; below it
// stand source, streams and sinks in aligned columns, then the errors in full. ASCII but for what
// peers say; what could move a terminal's cursor is escaped.
std::string RenderStatusText(const pipeline::StatusSnapshot& status);

// The first line alone, without a line end.
std::string RenderStatusSentence(const pipeline::StatusSnapshot& status);

std::string FormatCount(uint64_t count);     // 16,240
std::string FormatByteSize(uint64_t bytes);  // 24.0 MiB
std::string FormatSeconds(double seconds);   // 0.2 s, 4 min 10 s, 3 h 12 min

}  // namespace millrace::admin
