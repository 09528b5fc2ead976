// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "millrace/common/buffer.h"
#include "millrace/model/json_text.h"
#include "millrace/model/stream.h"

namespace millrace::sinks {

// Output rows as JSON objects: every column in order, then `_version` (a string of decimal digits),
// `_commit_ts`, and on deletes `_deleted`: true. A delete has only the columns that it knows.
//
//   {"event_id":7,"device":null,"_version":"1844674407370955161601","_commit_ts":"2024-..Z"}
//
// Pure. Not thread-safe.
class JsonRowEncoder {
 public:
  // Appends row `row` of `batch`. What depends on the columns is prepared once for each stream
  // version; see Prepare().
  void Append(const OutputBatch& batch, size_t row, Buffer& to);

 private:
  void Prepare(const StreamPtr& stream);

  struct ColumnWriter {
    std::string prefix;  // `"name":`
    ValueWriter write;
  };

  StreamPtr stream_;
  std::vector<ColumnWriter> columns_;
};

}  // namespace millrace::sinks
