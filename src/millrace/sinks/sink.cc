// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/sink.h"

namespace millrace::sinks {

size_t DeliveryBatch::row_count() const {
  size_t rows = 0;
  for (const OutputSlice& slice : slices) {
    rows += slice.row_count();
  }
  return rows;
}

}  // namespace millrace::sinks
