// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/table_condition.h"

#include <gtest/gtest.h>

namespace millrace::sources::postgres {
namespace {

TEST(TableCondition, NamesAndStarsAreEscaped) {
  const struct {
    const char* text;
    const char* condition;
  } cases[] = {
      {"content", "n.nspname::text = 'public' AND c.relname::text = 'content'"},
      {"Shop.Items", "n.nspname::text = 'shop' AND c.relname::text = 'items'"},
      {"\"Shop\".\"it.em\"\"s*\"", "n.nspname::text = 'Shop' AND c.relname::text = 'it.em\"s*'"},
      {"shop.*", "n.nspname::text = 'shop' AND c.relname::text LIKE '%'"},
      {"a_b*.x*y", "n.nspname::text LIKE  E'a\\\\_b%' AND c.relname::text LIKE 'x%y'"},
      {"\"it's\".t", "n.nspname::text = 'it''s' AND c.relname::text = 't'"},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(TableCondition(config::TablePattern::Parse(c.text).value()), c.condition) << c.text;
  }
}

}  // namespace
}  // namespace millrace::sources::postgres
