// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/markdown.h"

#include <gtest/gtest.h>

namespace millrace::config {
namespace {

TEST(MarkdownTest, ConfigBlocksAreFoundWithTheirPlace) {
  const auto blocks = FindConfigBlocks(
      "# Title\n\n```yaml\npipeline: a\nx: 1\n```\n"                            // lines 3 to 6
      "```yaml\nsinks: {}\n```\n"                                               // no pipeline
      "```sh\npipeline: no\n```\n"                                              // no YAML
      "1. a list\n\n   ```yml\n   # c\n   pipeline: b\n     deep: 1\n   ```\n"  // lines 15 to 19
      "~~~yaml title\npipeline: c\n```\nstill\n~~~\n"                           //
      "````yaml\n  pipeline: nested\n````\n"  // not at the top level
      "```yaml\npipeline: open");
  ASSERT_EQ(blocks.size(), 4U);
  EXPECT_EQ(blocks[0].text, "pipeline: a\nx: 1\n");
  EXPECT_EQ(blocks[0].first_line, 4);
  EXPECT_EQ(blocks[0].first_column, 1);
  EXPECT_EQ(blocks[1].text, "# c\npipeline: b\n  deep: 1\n");
  EXPECT_EQ(blocks[1].first_line, 16);
  EXPECT_EQ(blocks[1].first_column, 4);
  EXPECT_EQ(blocks[2].text, "pipeline: c\n```\nstill\n");
  EXPECT_EQ(blocks[3].text, "pipeline: open\n");
}

TEST(MarkdownTest, TextWithoutBlocksHasNone) {
  EXPECT_TRUE(FindConfigBlocks("").empty());
  EXPECT_TRUE(FindConfigBlocks("pipeline: x\n`` ` ``\n").empty());
  EXPECT_TRUE(FindConfigBlocks("```yaml").empty());
}

}  // namespace
}  // namespace millrace::config
