// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/postgres/error.h"

namespace millrace::pg {
namespace {

struct Entry {
  std::string_view prefix;  // of a SQLSTATE: a class, or one state
  Code code;
};

// The first match counts: single states stand before their class.
constexpr Entry kCodes[] = {
    {"08", Code::kUnavailable},            // connection exceptions
    {"0A", Code::kUnsupported},            // feature not supported
    {"22", Code::kInvalidArgument},        // data exceptions
    {"23505", Code::kUnavailable},         // another session makes the same object at this moment
    {"25006", Code::kFailedPrecondition},  // read-only transaction
    {"25P03", Code::kUnavailable},         // idle in transaction for too long
    {"28", Code::kPermissionDenied},       // wrong role or password, pg_hba.conf
    {"3D", Code::kNotFound},               // no such database
    {"3F", Code::kNotFound},               // no such schema
    {"40", Code::kUnavailable},            // serialization failure, deadlock
    {"42501", Code::kPermissionDenied},
    {"42704", Code::kNotFound},       // no such object: slot, publication
    {"42P01", Code::kNotFound},       // no such table
    {"42703", Code::kNotFound},       // no such column
    {"42710", Code::kAlreadyExists},  // slot or publication exists
    {"42P07", Code::kAlreadyExists},
    {"53100", Code::kResourceExhausted},  // the server's disk is full
    {"53400", Code::kResourceExhausted},  // all slots or walsenders are taken
    {"53", Code::kUnavailable},           // too many connections, out of memory
    {"55000", Code::kFailedPrecondition},
    {"55006", Code::kUnavailable},         // slot active for another process
    {"55P03", Code::kUnavailable},         // lock not available in time
    {"57014", Code::kTimedOut},            // statement timeout, cancel
    {"57", Code::kUnavailable},            // shutdown, crash, starting up
    {"58P01", Code::kFailedPrecondition},  // a WAL segment is gone
    {"58", Code::kUnavailable},            // the server's own I/O
    {"XX001", Code::kCorruption},
    {"XX002", Code::kCorruption},
    {"XX", Code::kUnavailable},         // internal errors of the server
    {"P0", Code::kFailedPrecondition},  // raised by the user's own functions and triggers
};

}  // namespace

Code CodeOfSqlState(std::string_view sqlstate) {
  if (sqlstate.empty()) {
    return Code::kUnavailable;
  }
  for (const Entry& entry : kCodes) {
    if (sqlstate.starts_with(entry.prefix)) {
      return entry.code;
    }
  }
  return Code::kInternal;
}

}  // namespace millrace::pg
