// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <utility>
#include <vector>

#include "millrace/common/check.h"
#include "millrace/sources/postgres/table_registry.h"

namespace millrace::sources::postgres::testing {

// A registry of tables that a test gives, with a catalog of its own.
class FixedTables : public TableRegistry {
 public:
  explicit FixedTables(std::vector<SourceTable> tables, const SourceState& state = {})
      : TableRegistry([this](const auto&) -> Result<CatalogMoment> { return catalog; }, {},
                      std::chrono::milliseconds(0)) {
    MR_CHECK(Load(std::move(tables), state).ok());
  }

  // What the server answers; at first that it has no tables, and that every transaction is visible.
  CatalogMoment catalog = {.snapshot = {.xmin = 1'000'000'000, .xmax = 1'000'000'000}};
};

}  // namespace millrace::sources::postgres::testing
