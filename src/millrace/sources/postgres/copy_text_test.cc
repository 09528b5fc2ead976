// SPDX-License-Identifier: Apache-2.0
#include "millrace/sources/postgres/copy_text.h"

#include <vector>

#include <gtest/gtest.h>

namespace millrace::sources::postgres {
namespace {

std::vector<std::string> Split(std::string_view line) {
  std::vector<std::string> fields;
  CopyLine copy(line);
  while (!copy.AtEnd()) {
    std::string_view text;
    switch (copy.Next(text)) {
      case CopyLine::Field::kText:
        fields.emplace_back(text);
        break;
      case CopyLine::Field::kNull:
        fields.emplace_back("<null>");
        break;
      case CopyLine::Field::kMalformed:
        return {"<malformed>"};
    }
  }
  return fields;
}

TEST(CopyLine, SplitsAndUnescapes) {
  using Fields = std::vector<std::string>;
  EXPECT_EQ(Split("a\tb\n"), (Fields{"a", "b"}));
  EXPECT_EQ(Split("\n"), (Fields{""}));
  EXPECT_EQ(Split("\t\n"), (Fields{"", ""}));
  EXPECT_EQ(Split("\\N\t\\N"), (Fields{"<null>", "<null>"}));
  EXPECT_EQ(Split("\\\\N\tx\\\\"), (Fields{"\\N", "x\\"}));
  EXPECT_EQ(Split("a\\tb\\nc\\rd\\be\\ff\\vg\\\\"), (Fields{"a\tb\nc\rd\be\ff\vg\\"}));
  EXPECT_EQ(Split("\\\\x00ff"), (Fields{"\\x00ff"}));
  EXPECT_EQ(Split("a\\"), (Fields{"<malformed>"}));
  EXPECT_EQ(Split("a\\q"), (Fields{"<malformed>"}));
}

}  // namespace
}  // namespace millrace::sources::postgres
