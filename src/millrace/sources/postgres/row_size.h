// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "millrace/common/status.h"
#include "millrace/model/row_batch.h"
#include "millrace/model/table.h"

namespace millrace::sources::postgres {

// kInvalidArgument that names the table if the values of `row` take more than kRowBytesMax.
// `text_bytes` is the size of their text form, which is not smaller: small rows are not looked at.
Status CheckRowSize(const Table& table, const RowBatch& rows, size_t row, size_t text_bytes);

}  // namespace millrace::sources::postgres
