// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "millrace/common/result.h"
#include "millrace/model/position.h"
#include "millrace/sinks/sink.h"

namespace millrace::sinks {

// The position that a sink keeps in its target, in one transaction with the data, as JSON:
//
//   {"version":1,"instance_id":"...","epoch":0,"end_lsn":"16/B374D848","first":100,"end":250}
//
// `first` and `end` bound the newest delivery; everything before `end` is in the target.
struct PositionRecord {
  std::string instance_id;  // of the data_dir whose offsets these are
  SourcePosition source;
  Offset first;
  Offset end;

  bool operator==(const PositionRecord&) const = default;
};

// The record that a delivery of `batch` leaves.
PositionRecord PositionAfter(const DeliveryBatch& batch, std::string_view instance_id);

std::string FormatPositionRecord(const PositionRecord& record);

// kCorruption if `text` is no such record, kUnsupported if it is of a newer version.
Result<PositionRecord> ParsePositionRecord(std::string_view text);

// The same for a position found in a target: parses it and checks that it belongs to this data_dir.
// kFailedPrecondition with the choices if not. `place` names where it was found, for messages.
Result<PositionRecord> ReadOwnPosition(std::string_view text, std::string_view instance_id,
                                       std::string_view place);

}  // namespace millrace::sinks
