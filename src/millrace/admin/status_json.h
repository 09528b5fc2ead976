// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "millrace/common/result.h"
#include "millrace/pipeline/status_snapshot.h"

namespace millrace::admin {

// What /api/v1/status and `millrace status --json` give: one JSON object, indented, with the names
// of StatusSnapshot. LSNs are text as PostgreSQL prints them.
std::string ToJson(const pipeline::StatusSnapshot& status);

// The way back, but for published_at. Names that are missing leave their defaults, unknown ones are
// passed over, so that a client may be older or newer than the server. kCorruption if `json` is not
// a JSON object or a value has another type.
Result<pipeline::StatusSnapshot> ParseStatusJson(std::string_view json);

}  // namespace millrace::admin
