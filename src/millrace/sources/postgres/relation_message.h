// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"

namespace millrace::sources::postgres {

// pgoutput's Relation message: a table as it was when the changes that follow were made.
struct RelationMessage {
  struct Column {
    bool is_key = false;  // part of the replica identity
    std::string name;
    uint32_t type_oid = 0;
    int32_t typmod = -1;

    bool operator==(const Column&) const = default;
  };
  uint32_t oid = 0;
  std::string schema;
  std::string name;
  char replica_identity = 'd';
  std::vector<Column> columns;

  bool operator==(const RelationMessage&) const = default;
};

// Reads the message behind its type byte. kCorruption if it is cut or longer than it says.
Result<RelationMessage> ParseRelationMessage(std::string_view body);

}  // namespace millrace::sources::postgres
