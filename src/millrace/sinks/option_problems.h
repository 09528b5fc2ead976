// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "millrace/common/status.h"
#include "millrace/config/section.h"

namespace millrace::sinks {

struct OptionProblem {
  config::Location location;
  std::string text;
  std::string code;
  bool is_unsupported = false;  // right, but not in this version
};

// What is wrong with the options of a sink, found by one pass for lint and for the run.
class OptionProblems {
 public:
  void Add(OptionProblem problem) { problems_.push_back(std::move(problem)); }

  // For lint, which takes what is right, also where this version does not run it.
  void AddTo(config::Findings& findings) const {
    for (const OptionProblem& problem : problems_) {
      if (!problem.is_unsupported) {
        findings.Error(problem.location, problem.text, problem.code);
      }
    }
  }

  // The first one, as kInvalidArgument or kUnsupported; OK if there is none.
  Status First() const {
    if (problems_.empty()) {
      return Status::Ok();
    }
    const OptionProblem& first = problems_.front();
    return first.is_unsupported ? Unsupported(first.text) : InvalidArgument(first.text);
  }

 private:
  std::vector<OptionProblem> problems_;
};

}  // namespace millrace::sinks
