// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/scalar_text.h"

#include <limits>

#include <gtest/gtest.h>

namespace millrace::config {
namespace {

TEST(ScalarTextTest, Durations) {
  using std::chrono::milliseconds;
  EXPECT_EQ(ParseDuration("0"), milliseconds(0));
  EXPECT_EQ(ParseDuration("0s"), milliseconds(0));
  EXPECT_EQ(ParseDuration("500ms"), milliseconds(500));
  EXPECT_EQ(ParseDuration("10s"), milliseconds(10'000));
  EXPECT_EQ(ParseDuration("5m"), milliseconds(300'000));
  EXPECT_EQ(ParseDuration("24h"), milliseconds(86'400'000));
  EXPECT_EQ(ParseDuration("30d"), milliseconds(2'592'000'000));
  EXPECT_EQ(ParseDuration("9223372036854775807ms"),
            milliseconds(std::numeric_limits<int64_t>::max()));
  for (const char* bad : {"", "10", "s", "-1s", "+1s", "1.5s", "10 s", "10S", "1h30m", "1w", "0x1s",
                          "9223372036854775807s", "99999999999999999999ms"}) {
    EXPECT_FALSE(ParseDuration(bad)) << bad;
  }
}

TEST(ScalarTextTest, Bytes) {
  EXPECT_EQ(ParseBytes("0"), 0U);
  EXPECT_EQ(ParseBytes("4096"), 4096U);
  EXPECT_EQ(ParseBytes("4096B"), 4096U);
  EXPECT_EQ(ParseBytes("64KiB"), 65536U);
  EXPECT_EQ(ParseBytes("8MiB"), 8388608U);
  EXPECT_EQ(ParseBytes("50GiB"), 53687091200U);
  EXPECT_EQ(ParseBytes("1TiB"), 1099511627776U);
  EXPECT_EQ(ParseBytes("1kB"), 1000U);
  EXPECT_EQ(ParseBytes("2MB"), 2000000U);
  EXPECT_EQ(ParseBytes("3GB"), 3000000000U);
  for (const char* bad : {"", "KiB", "-1", "8 MiB", "8mib", "8M", "1.5GiB", "9000000TiB"}) {
    EXPECT_FALSE(ParseBytes(bad)) << bad;
  }
}

TEST(ScalarTextTest, FormatsAreRead) {
  for (const int64_t ms : {0LL, 1LL, 999LL, 1000LL, 90'000LL, 3'600'000LL, 86'400'000LL}) {
    const std::chrono::milliseconds duration(ms);
    EXPECT_EQ(ParseDuration(FormatDuration(duration)), duration);
  }
  for (const uint64_t bytes : {0ULL, 1ULL, 1000ULL, 1024ULL, 8388608ULL, 53687091200ULL}) {
    EXPECT_EQ(ParseBytes(FormatBytes(bytes)), bytes);
  }
  EXPECT_EQ(FormatBytes(8388608), "8MiB");
  EXPECT_EQ(FormatDuration(std::chrono::minutes(90)), "90m");
}

TEST(ScalarTextTest, IntegersAndBooleans) {
  EXPECT_EQ(ParseInteger("-5"), -5);
  for (const char* bad : {"", "1e3", "1.0", "0x10", " 1", "1 ", "9223372036854775808"}) {
    EXPECT_FALSE(ParseInteger(bad)) << bad;
  }
  EXPECT_EQ(ParseBoolean("true"), true);
  EXPECT_EQ(ParseBoolean("false"), false);
  EXPECT_FALSE(ParseBoolean("True"));
}

TEST(ScalarTextTest, SimilarWords) {
  const std::vector<std::string> words = {"table", "tables", "stream", "order_by", "xadd"};
  EXPECT_EQ(FindSimilar("tabel", words), "table");
  EXPECT_EQ(FindSimilar("tabels", words), "tables");
  EXPECT_EQ(FindSimilar("steam", words), "stream");
  EXPECT_EQ(FindSimilar("orderby", words), "order_by");
  EXPECT_EQ(FindSimilar("add", words), "xadd");
  EXPECT_FALSE(FindSimilar("q", words));
  EXPECT_FALSE(FindSimilar("completely_else", words));
  EXPECT_FALSE(FindSimilar(std::string(100'000, 'x'), words));
}

TEST(ScalarTextTest, OnlyPlainWordsAreQuoted) {
  EXPECT_EQ(QuoteIfPlain("max_rows"), " 'max_rows'");
  for (const std::string& bad :
       {std::string("http://u:p@h"), std::string("a b"), std::string(), std::string(65, 'a')}) {
    EXPECT_EQ(QuoteIfPlain(bad), "");
  }
  EXPECT_EQ(JoinChoices({"a", "b", "c"}), "a, b or c");
  EXPECT_EQ(JoinChoices({"a"}), "a");
}

}  // namespace
}  // namespace millrace::config
