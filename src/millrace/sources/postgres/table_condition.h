// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "millrace/config/table_name.h"

namespace millrace::sources::postgres {

// Conditions on n.nspname and c.relname that find what `pattern` names.
std::string TableCondition(const config::TablePattern& pattern);

}  // namespace millrace::sources::postgres
