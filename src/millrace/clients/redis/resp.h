// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "millrace/common/buffer.h"

namespace millrace::redis {

// Commands in Redis' protocol (RESP): `*<arguments>\r\n`, then each argument as
// `$<bytes>\r\n<bytes>\r\n`. Binary safe. Pure.

// The longest argument that a server takes by default (proto-max-bulk-len).
inline constexpr size_t kArgumentBytesMax = size_t{512} << 20;

// Begins a command; `arguments` arguments follow, its name included.
void AppendCommandHeader(Buffer& to, size_t arguments);
void AppendArgument(Buffer& to, std::string_view argument);
void AppendUnsignedArgument(Buffer& to, uint64_t argument);
void AppendCommand(Buffer& to, std::initializer_list<std::string_view> arguments);

}  // namespace millrace::redis
