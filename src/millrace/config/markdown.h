// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace millrace::config {

// A fenced block of YAML, without its fence and the fence's indentation.
struct MarkdownBlock {
  std::string text;
  // Where the text begins in the Markdown file; both from 1.
  int first_line = 1;
  int first_column = 1;
};

// The `yaml` blocks of a Markdown text that are whole configuration files: those with `pipeline:`
// at the begin of a line.
std::vector<MarkdownBlock> FindConfigBlocks(std::string_view markdown);

}  // namespace millrace::config
