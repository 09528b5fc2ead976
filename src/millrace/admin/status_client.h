// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "millrace/common/result.h"

namespace millrace::admin {

// Asks the pipeline whose admin server listens on `listen` for /api/v1/status and returns the JSON.
// An address of all interfaces is asked on loopback. Blocks for 5 s at most. kUnavailable if nobody
// answers, kPermissionDenied if the token is wrong, kCorruption if the answer is another program's.
Result<std::string> FetchStatus(const std::string& listen, const std::string& token);

}  // namespace millrace::admin
