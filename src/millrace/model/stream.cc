// SPDX-License-Identifier: Apache-2.0
#include "millrace/model/stream.h"

#include <algorithm>

namespace millrace {

int Stream::FindColumn(const std::string& column) const {
  for (size_t i = 0; i < columns->size(); ++i) {
    if ((*columns)[i].name == column) {
      return static_cast<int>(i);
    }
  }
  for (const std::vector<std::string>& names : former_names) {
    const auto found = std::find(names.begin(), names.end(), column);
    if (found != names.end()) {
      return static_cast<int>(found - names.begin());
    }
  }
  return -1;
}

int Stream::FindInEarlier(const Stream& earlier, size_t column) const {
  if (table.empty() || earlier.table != table) {
    const std::string& wanted = (*columns)[column].name;
    const auto found = std::find_if(earlier.columns->begin(), earlier.columns->end(),
                                    [&](const Field& field) { return field.name == wanted; });
    return found == earlier.columns->end() ? -1
                                           : static_cast<int>(found - earlier.columns->begin());
  }
  return column < earlier.columns->size() ? static_cast<int>(column) : -1;
}

}  // namespace millrace
