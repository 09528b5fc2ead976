// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/postgres/quoting.h"

#include <gtest/gtest.h>

namespace millrace::pg {
namespace {

TEST(Quoting, IdentifiersDoubleTheirQuotes) {
  EXPECT_EQ(QuoteIdentifier("content"), "\"content\"");
  EXPECT_EQ(QuoteIdentifier("odd\"name"), "\"odd\"\"name\"");
  EXPECT_EQ(QuoteIdentifier(""), "\"\"");
  EXPECT_EQ(QuoteQualified("my.schema", "T"), "\"my.schema\".\"T\"");
}

TEST(Quoting, LiteralsDoubleQuotesAndBackslashes) {
  EXPECT_EQ(QuoteLiteral("plain"), "'plain'");
  EXPECT_EQ(QuoteLiteral("it's"), "'it''s'");
  EXPECT_EQ(QuoteLiteral("a\\b'c"), " E'a\\\\b''c'");
}

}  // namespace
}  // namespace millrace::pg
