// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "millrace/common/result.h"

namespace millrace::admin {

// Asks the pipeline whose admin server listens on `host` (without brackets) and `port` for
// /api/v1/status and returns the JSON. Where it listens on all interfaces, loopback is asked.
// Blocks for 5 s at most. kUnavailable if nobody answers, kPermissionDenied if the token is wrong,
// kCorruption if the answer is another program's.
Result<std::string> FetchStatus(std::string host, int port, const std::string& token);

// Has the pipeline there read `table` again. Its refusal is kFailedPrecondition; the rest as above.
Status RequestSnapshot(std::string host, int port, const std::string& token,
                       const std::string& table);

// What the pipeline there answers to a request about dead letters, which is JSON. Its refusal is
// kFailedPrecondition; the rest as above.
Result<std::string> RequestDeadLetters(std::string host, int port, const std::string& token,
                                       const std::string& request);

}  // namespace millrace::admin
