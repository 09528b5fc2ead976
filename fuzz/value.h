// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "millrace/model/data_type.h"

namespace millrace::fuzz {

// Parses `text` as a value of `type` and, where it is one, writes it in every form: what was read
// as a row comes back from its state row as it was, and no writer runs past an end.
void CheckValue(const DataType& type, std::string_view text);

}  // namespace millrace::fuzz
