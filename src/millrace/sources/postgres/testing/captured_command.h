// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "millrace/sources/postgres/testing/model_table.h"

namespace millrace::sources::postgres::testing {

inline constexpr const char* kTestKey = "the key";

// The content of the message that the event triggers write behind a command that leaves `model`.
nlohmann::json CapturedCommand(const ModelTable& model);

// The one before a command that writes tables anew.
nlohmann::json CapturedRewrite(const std::vector<uint32_t>& oids, int reason, bool may_convert);

}  // namespace millrace::sources::postgres::testing
