// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/clients/redis/redis_client.h"
#include "millrace/common/result.h"
#include "millrace/config/section.h"
#include "millrace/sinks/redis/key_template.h"
#include "millrace/sinks/sink.h"

namespace millrace::sinks {

enum class RedisCommand { kXadd, kHset, kSet, kPublish };

// One entry of `writes:`.
struct RedisWrite {
  std::string stream;
  RedisCommand command = RedisCommand::kXadd;
  KeyTemplate key;
  uint64_t maxlen = 0;               // xadd; 0: no trimming
  std::chrono::milliseconds ttl{0};  // 0: none
  bool snapshot = true;              // false: rows of the snapshot are left out
};

struct RedisOptions {
  redis::RedisClientOptions client;
  std::vector<RedisWrite> writes;
};

// The fields of `type: redis`.
std::vector<config::FieldSpec> RedisFields();

std::vector<StreamUse> RedisUses(const config::Section& section);

void LintRedis(const config::Section& section, config::Findings& findings);

// kInvalidArgument or kUnsupported with the sentence that LintRedis() says.
Result<RedisOptions> ParseRedisOptions(const config::Section& section);

}  // namespace millrace::sinks
