// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "millrace/common/result.h"
#include "millrace/common/strong_id.h"

namespace millrace {

// A position in PostgreSQL's WAL: a byte offset, printed as two hexadecimal halves, `16/B374D848`.
using Lsn = StrongId<uint64_t, struct LsnTag>;

std::string FormatLsn(Lsn lsn);
// kInvalidArgument if `text` is not of the printed form.
Result<Lsn> ParseLsn(std::string_view text);

}  // namespace millrace
