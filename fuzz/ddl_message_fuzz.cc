// SPDX-License-Identifier: Apache-2.0
// The content of a message that the event triggers of source.capture_ddl write.
#include "input.h"
#include "millrace/common/check.h"
#include "millrace/sources/postgres/ddl_message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using millrace::Code;
  const std::string content(reinterpret_cast<const char*>(data), size);
  const auto message = millrace::sources::postgres::ParseDdlMessage(content, "k", {"p"});
  const Code code = message.status().code();
  MR_CHECK(message.ok() || code == Code::kCorruption || code == Code::kPermissionDenied ||
           code == Code::kUnsupported || code == Code::kUnavailable);
  // One of the two, and nothing that the input does not hold.
  MR_CHECK(!message.ok() || message->rewrite.has_value() != message->table.has_value());
  MR_CHECK(!message.ok() || !message->table || message->table->all_columns.size() <= size / 8);
  return 0;
}
