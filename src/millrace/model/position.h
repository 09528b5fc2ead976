// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>

#include "millrace/common/coding.h"
#include "millrace/common/strong_id.h"
#include "millrace/model/lsn.h"

namespace millrace {

// Counts how often LSNs went back because the database moved. It stands above the LSN in every
// comparison. At most 127.
using Epoch = StrongId<uint8_t, struct EpochTag>;

// The number of a delivered row in the output log: dense, from 0, over all streams.
using Offset = StrongId<uint64_t, struct OffsetTag>;

// A transaction id of PostgreSQL, 32 bits, as pgoutput sends it.
using Xid = StrongId<uint32_t, struct XidTag>;

// Microseconds since 1970-01-01 UTC.
using TimestampMicros = int64_t;

// The total order of source transactions: where the source goes on after a restart.
struct SourcePosition {
  Epoch epoch;
  Lsn end_lsn;  // just behind the commit record; everything before it is included

  auto operator<=>(const SourcePosition&) const = default;
};

// The total order of changes, and the version of the row that a change left: see
// docs/formats/position.md.
struct RowVersion {
  Epoch epoch;
  Lsn end_lsn;
  uint64_t ordinal = 0;  // from 1 in its transaction; from 2^63 for snapshot rows

  auto operator<=>(const RowVersion&) const = default;

  // The `_version` that sinks show: ((epoch << 56 | end_lsn) << 64) | ordinal.
  UInt128 Encode() const {
    const uint64_t high = (uint64_t{epoch.value()} << 56) | end_lsn.value();
    return (UInt128{high} << 64) | ordinal;
  }
};

// The ordinal of the first snapshot row that joins the stream at an LSN.
inline constexpr uint64_t kSnapshotOrdinalBase = uint64_t{1} << 63;

}  // namespace millrace
