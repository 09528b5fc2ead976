// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/clock.h"
#include "millrace/common/result.h"
#include "millrace/model/position.h"

namespace millrace::sinks::clickhouse {

// One INSERT of a delivery.
struct TablePlan {
  std::string database;
  std::string table;
  uint32_t stream_id = 0;
  uint32_t schema_version = 0;
  uint64_t row_count = 0;
  uint64_t byte_count = 0;
  uint64_t layout = 0;    // a checksum of the block's column names and types
  uint64_t checksum = 0;  // of the block
  std::string token;

  bool operator==(const TablePlan&) const = default;
};

// What is delivered, written down durably before the first try: a delivery whose outcome is unknown
// is tried again exactly as its plan says, or not at all. Its text is JSON with a version from the
// first day; a version that is not known is refused.
struct DeliveryPlan {
  Offset first;
  Offset end;
  SourcePosition position;
  uint32_t encoder_version = 0;
  Moment planned_at;  // how old the tokens are
  std::vector<TablePlan> tables;

  std::string Format() const;
  // kUnsupported for another version, kCorruption for anything else that is not a plan.
  static Result<DeliveryPlan> Parse(std::string_view text);

  bool operator==(const DeliveryPlan&) const = default;
};

// 64 bits that tell other bytes apart, however they are cut into pieces; not against an adversary.
// Fixed: stands in plans.
uint64_t Checksum(std::span<const std::string_view> pieces);
inline uint64_t Checksum(std::string_view bytes) { return Checksum(std::span(&bytes, 1)); }

// Holds `rebuilt`, made from the rows that are offered again, against the open plan. kInternal if
// it is of other offsets, kFailedPrecondition if the configuration of the sink has changed
// meanwhile, kCorruption if the rows are not those that were planned.
Status CheckSamePlan(const DeliveryPlan& open, const DeliveryPlan& rebuilt);

}  // namespace millrace::sinks::clickhouse
