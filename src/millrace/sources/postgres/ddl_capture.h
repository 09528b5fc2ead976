// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "millrace/clients/postgres/connection.h"
#include "millrace/common/result.h"

// The event triggers by which the server itself says what an ALTER TABLE did
// (`source.capture_ddl`).
//
// They stand in schema `millrace` of the database, once for all pipelines, and write the messages
// of ddl_message.h, transactional, so that each stands in the WAL between the rows before and
// behind the change. They never make the application's statement fail: whatever goes wrong within
// leaves the message out, and the table is followed as without them. The key in the messages is
// that of the materialized view millrace.ddl_key (which no pattern of tables matches): others may
// write messages, and cannot read it.
namespace millrace::sources::postgres {

// What removes all of it.
inline constexpr const char* kDropDdlCapture = "DROP SCHEMA millrace CASCADE";

struct DdlCaptureState {
  bool has_triggers = false;  // some of them, whoever asked for them
  bool is_complete = false;   // all of them, and they are enabled
  bool can_read_key = false;
  bool is_current = false;  // the function is as this version writes it
  // Schema, function and key, as far as they are there, are a superuser's or ours.
  bool is_trusted = true;
  bool has_schema = false;
  bool has_key = false;
  bool is_superuser = false;
  std::string role;
};

// Changes nothing.
Result<DdlCaptureState> LookAtDdlCapture(pg::Connection& connection);

// What a DBA has to do before a pipeline of this role can use the triggers; empty: nothing.
std::string DdlCaptureRemedy(const DdlCaptureState& state);

// Installs what is missing, in one transaction that others wait for, and returns the key.
// kPermissionDenied with the remedy if the role may not, kFailedPrecondition if schema `millrace`
// is somebody else's.
Result<std::string> EnsureDdlCapture(pg::Connection& connection);

// kFailedPrecondition if there is none. REQUIRES: DdlCaptureState::can_read_key.
Result<std::string> ReadDdlKey(pg::Connection& connection);

// The statements that install all of it, for a DBA: `millrace docs capture-ddl`.
std::string DdlCaptureScript();

}  // namespace millrace::sources::postgres
