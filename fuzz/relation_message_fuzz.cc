// SPDX-License-Identifier: Apache-2.0
// The body of a Relation message of pgoutput. Input: the bytes behind its 'R'.
#include "input.h"
#include "millrace/common/check.h"
#include "millrace/sources/postgres/relation_message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using millrace::sources::postgres::ParseRelationMessage;
  const std::string body(reinterpret_cast<const char*>(data), size);
  const auto relation = ParseRelationMessage(body);
  MR_CHECK(relation.ok() || relation.status().code() == millrace::Code::kCorruption);
  // A column takes ten bytes or more.
  MR_CHECK(!relation.ok() || relation.value().columns.size() <= size / 10);
  return 0;
}
