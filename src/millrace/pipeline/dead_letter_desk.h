// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "millrace/common/result.h"
#include "millrace/config/pipeline_config.h"
#include "millrace/pipeline/dead_letters.h"

namespace millrace::pipeline {

// DeadLetterDesk answers what an operator asks of the dead letters, as JSON:
//
//   {"do": "list", "after": ID, "limit": N, "stream": NAME}   letters behind an id, at most N of
//       them: {"letters": [{"id", "time", "state", "stream", "sink", "table", "reason"}, ...],
//       "last": ID}. `last` is where the next page begins, or 0 if there is none
//   {"do": "show", "ids": [ID, ...]}   the same with "offset" and "row", the row as JSON
//   {"do": "retry" or "drop", "ids": [ID, ...]}, or with "stream": NAME, or "all": true
//       {"changed": N, "superseded": N}
//
// Rows are told by "show" only. Threads: any.
class DeadLetterDesk {
 public:
  struct Names {
    std::set<std::string> sinks;                // that there are
    std::map<std::string, std::string> tables;  // of each stream
  };

  // `retry_asked` is called when there is something to send again; may be empty. `letters` outlives
  // the desk.
  DeadLetterDesk(DeadLetters& letters, Names names, std::function<void()> retry_asked)
      : letters_(letters), names_(std::move(names)), retry_asked_(std::move(retry_asked)) {}

  // kInvalidArgument for what is not such a request, kNotFound for an id that is not there.
  Result<std::string> Answer(std::string_view request);

 private:
  DeadLetters& letters_;
  const Names names_;
  const std::function<void()> retry_asked_;
};

// The names of a configuration.
DeadLetterDesk::Names DeskNames(const config::PipelineConfig& config);

}  // namespace millrace::pipeline
