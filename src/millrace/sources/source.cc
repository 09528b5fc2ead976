// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/source.h"

#include <fmt/format.h>

namespace millrace::sources {

std::string LeftOutSentence(const std::string& table, const Status& why, std::string_view until) {
  return fmt::format("table {} matches source.tables and is left out{}: {}", table, until,
                     why.message());
}

}  // namespace millrace::sources
