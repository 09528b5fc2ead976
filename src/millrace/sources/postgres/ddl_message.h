// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/sources/postgres/catalog.h"

namespace millrace::sources::postgres {

// The prefix of the logical messages that the event triggers of ddl_capture.h write.
inline constexpr std::string_view kDdlPrefix = "millrace.ddl";
// The triggers write no longer ones; what is longer is of others.
inline constexpr size_t kDdlMessageMax = size_t{4} << 20;

// What an ALTER did, as its transaction's WAL says between the rows before and behind it. A message
// is of one of two kinds.
struct DdlMessage {
  // A table's file is about to be written anew, and this is why; the next message of the table says
  // what it looks like then.
  struct Rewrite {
    // With the partitioned tables above it.
    std::vector<uint32_t> oids;
    // Values are converted, and by more than their type: there is, or may be, a USING.
    bool may_convert = false;
  };
  std::optional<Rewrite> rewrite;
  // A table behind a command. What it says of partitions and row filters is empty.
  std::optional<CatalogTable> table;
};

// Reads a message's content. Anybody who may connect to the database can write one, so that it
// holds a key that only the triggers and the pipelines can read.
// kPermissionDenied if it has another key, kUnsupported for what no source can read, or for a
// newer format, kCorruption for everything else. `publications` are those of the pipeline.
Result<DdlMessage> ParseDdlMessage(std::string_view content, std::string_view key,
                                   const std::vector<std::string>& publications);

}  // namespace millrace::sources::postgres
