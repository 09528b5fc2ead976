// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/stream.h"

namespace millrace {

int Stream::FindColumn(const std::string& column) const {
  for (size_t i = 0; i < columns->size(); ++i) {
    if ((*columns)[i].name == column) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

}  // namespace millrace
