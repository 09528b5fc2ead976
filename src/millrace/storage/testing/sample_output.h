// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "millrace/model/stream.h"

namespace millrace::storage::testing {

// An enriched engagement event: 17 columns of the common types, with NULLs.
StreamPtr MakeEngagementStream();
// One column of every type, decimals of each width and lists included.
StreamPtr MakeEveryTypeStream();

// A record of one batch of `stream` at offsets [first, first + rows). Everything in it follows from
// `seed`; ten rows make a transaction.
OutputRecord MakeRecord(const StreamPtr& stream, Offset first, size_t rows, uint64_t seed);

// One with a text of so many bytes in each row.
OutputRecord MakeLargeRecord(const StreamPtr& stream, Offset first, size_t rows, uint64_t seed,
                             size_t bytes);

std::shared_ptr<OutputBatch> CopyBatch(const OutputBatch& batch);

// True if both hold the same; reads every value.
bool SameRows(const RowBatch& a, const RowBatch& b);
bool SameRecord(const OutputRecord& a, const OutputRecord& b);

}  // namespace millrace::storage::testing
