// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/model/position.h"

namespace millrace::sources::postgres {

// A transaction id widened to 64 bits, as pg_current_xact_id() gives it: it never wraps.
using FullXid = uint64_t;

// Which transactions a snapshot of the server sees: pg_current_snapshot().
//
// It answers for transactions that committed. Among those, the ones that it does not see are those
// that ran when it was taken, a commit that waits for a synchronous standby included: its record is
// in the WAL, and decoded, before anybody sees its rows.
struct XidSnapshot {
  FullXid xmin = 0;              // everything below had ended
  FullXid xmax = 0;              // nothing from here on had begun
  std::vector<FullXid> running;  // between the two, ascending

  // PostgreSQL's text form, `xmin:xmax:xid,xid`.
  static Result<XidSnapshot> Parse(std::string_view text);
  std::string Format() const;

  bool Sees(FullXid xid) const;
  // `xid`, which is less than 2^31 transactions away from this snapshot, as 64 bits.
  FullXid Widen(Xid xid) const;

  bool operator==(const XidSnapshot&) const = default;
};

}  // namespace millrace::sources::postgres
