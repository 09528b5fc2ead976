// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace millrace::config {

// True if the words GROUP BY stand in `sql` outside of quotes and comments. No parser: enough to
// tell a total from a row-by-row stream without an SQL engine.
bool HasGroupBy(std::string_view sql);

}  // namespace millrace::config
