// SPDX-License-Identifier: Apache-2.0
#include "millrace/common/utf8.h"

#include <string>

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Utf8, TakesWhatIsValid) {
  for (const std::string text : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80",
                                 "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80",
                                 "\xf4\x8f\xbf\xbf", "na\xc3\xafve \xf0\x9f\x98\x80 end"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
  }
  EXPECT_TRUE(IsValidUtf8(std::string(3, '\0')));
}

TEST(Utf8, StopsAtTheFirstByteThatIsNot) {
  const std::string bad[] = {"\x80",
                             "\xbf",
                             "\xc0\xaf",
                             "\xc1\xbf",
                             "\xc2",
                             "\xc2 ",
                             "\xe0\x9f\xbf",
                             "\xe0\xa0",
                             "\xed\xa0\x80",
                             "\xef\xbf",
                             "\xf0\x8f\xbf\xbf",
                             "\xf0\x90\x80",
                             "\xf5\x80\x80",
                             "\xf4\x90\x80\x80",
                             "\xff",
                             "\xfe"};
  // In front of, within and behind the run that is looked at by words.
  const size_t places[] = {0, 1, 7, 31, 32, 33, 64, 100};
  for (const std::string& bytes : bad) {
    for (const size_t before : places) {
      const std::string text = std::string(before, 'a') + bytes + std::string(40, 'z');
      EXPECT_EQ(ValidUtf8Prefix(text), before) << before;
      EXPECT_EQ(ValidUtf8Prefix(text.substr(0, before + bytes.size())), before) << before;
    }
  }
}

TEST(Utf8, ReadsNoFurtherThanTheText) {
  const std::string whole = "\xf0\x9f\x98\x80";
  for (size_t n = 1; n < whole.size(); ++n) {
    // A copy of its own, so that a sanitizer sees a read behind it.
    const std::string cut = whole.substr(0, n);
    EXPECT_FALSE(IsValidUtf8(cut)) << n;
  }
}

}  // namespace
}  // namespace millrace
