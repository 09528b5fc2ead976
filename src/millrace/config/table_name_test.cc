// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/table_name.h"

#include <gtest/gtest.h>

namespace millrace::config {
namespace {

TEST(TableNameTest, NamesAreReadAsPostgresReadsThem) {
  EXPECT_EQ(ParseTableName("content"), (TableName{"public", "content"}));
  EXPECT_EQ(ParseTableName("shop.orders"), (TableName{"shop", "orders"}));
  EXPECT_EQ(ParseTableName("Shop.Orders"), (TableName{"shop", "orders"}));
  EXPECT_EQ(ParseTableName(R"("My Shop"."Order.Lines")"), (TableName{"My Shop", "Order.Lines"}));
  EXPECT_EQ(ParseTableName(R"(shop."a""b*")"), (TableName{"shop", "a\"b*"}));
  EXPECT_EQ(ParseTableName("a$1"), (TableName{"public", "a$1"}));
  EXPECT_EQ(ParseTableName("\xc3\xa9t\xc3\xa9"), (TableName{"public", "\xc3\xa9t\xc3\xa9"}));
  for (const char* bad : {"", ".", "a.", ".a", "a.b.c", "a b", "a-b", "1a", "\"", "\"\"", "\"a",
                          "\"a\"b", "a\"b\"", "...", "a.*", "*"}) {
    EXPECT_FALSE(ParseTableName(bad)) << bad;
  }
}

TEST(TableNameTest, QuotesStandWhereTheyMust) {
  EXPECT_EQ((TableName{"public", "content"}).ToString(), "public.content");
  EXPECT_EQ((TableName{"My Shop", "a\"b"}).ToString(), R"("My Shop"."a""b")");
  EXPECT_EQ((TableName{"s", "Upper"}).ToString(), R"(s."Upper")");
}

TEST(TableNameTest, PatternsMatch) {
  const auto matches = [](const char* pattern, const char* schema, const char* name) {
    return TablePattern::Parse(pattern).value().Matches({schema, name});
  };
  EXPECT_TRUE(matches("shop.*", "shop", "orders"));
  EXPECT_FALSE(matches("shop.*", "shop2", "orders"));
  EXPECT_TRUE(matches("shop.ev_*", "shop", "ev_1"));
  EXPECT_TRUE(matches("shop.ev_*", "shop", "ev_"));
  EXPECT_FALSE(matches("shop.ev_*", "shop", "ev"));
  EXPECT_TRUE(matches("*.*", "a", "b"));
  EXPECT_TRUE(matches("*", "public", "b"));
  EXPECT_FALSE(matches("*", "a", "b"));
  EXPECT_TRUE(matches("shop.a*b*c", "shop", "a1b2c"));
  EXPECT_TRUE(matches("shop.a*b*c", "shop", "abc"));
  EXPECT_FALSE(matches("shop.a*b*c", "shop", "acb"));
  EXPECT_FALSE(matches("shop.ab*ba", "shop", "aba"));
  EXPECT_TRUE(matches(R"(shop."a*")", "shop", "a*"));
  EXPECT_FALSE(matches(R"(shop."a*")", "shop", "ab"));
  EXPECT_FALSE(TablePattern::Parse("shop.*").value().exact());
  EXPECT_TRUE(TablePattern::Parse(R"(shop."*")").value().exact());
}

}  // namespace
}  // namespace millrace::config
