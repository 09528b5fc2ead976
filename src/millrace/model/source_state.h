// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "millrace/model/position.h"

namespace millrace {

// Something that the source keeps in data_dir for itself, under a name of its own such as
// `snapshot/public.content`. Its text is the source's; a note without text is dropped.
struct SourceNote {
  std::string name;
  std::optional<std::string> text;
};

// What data_dir knows about the source from earlier runs. Empty before the first.
struct SourceState {
  // The system identifier of the server that data_dir belongs to; 0: none yet.
  uint64_t system_identifier = 0;
  uint32_t timeline = 0;
  // A slot was about to be made when an earlier run ended: one of our name is ours to drop and make
  // again.
  bool slot_pending = false;
  // Everything before it is durable here. Nothing before streaming began.
  std::optional<SourcePosition> position;
  std::map<std::string, std::string, std::less<>> notes;
};

}  // namespace millrace
