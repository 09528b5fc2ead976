// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "millrace/common/status.h"
#include "millrace/storage/store.h"

namespace millrace::storage::testing {

// Micro-batches whose every detail follows from their number, so that what a crash left can be
// checked. Commit n appends n % 7 * 40 + 1 outputs, puts 20 rows, deletes others, and sets position
// n. Every third comes in parts.

// Begins and completes a snapshot if there is none, then commits from the number after the newest.
// Between commits it delivers and truncates. Returns the first failure.
Status CommitForEver(Store& store, const std::function<void(uint64_t)>& committed);

// Fails with the difference unless the store holds exactly what commits 1 to n leave, for one n of
// at least `acknowledged`. Sets `n`.
Status CheckCommits(Store& store, uint64_t acknowledged, uint64_t& n);

}  // namespace millrace::storage::testing
