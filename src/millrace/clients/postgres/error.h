// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "millrace/common/status.h"

namespace millrace::pg {

// The Code of a server's SQLSTATE: the one table from which retries follow. An empty or unknown
// state (the connection broke before the server could say one) is kUnavailable.
Code CodeOfSqlState(std::string_view sqlstate);

}  // namespace millrace::pg
