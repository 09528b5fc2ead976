// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/markdown.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

namespace millrace::config {

namespace {

struct Fence {
  size_t indent = 0;
  char mark = '`';
  size_t length = 0;
  std::string_view info;  // the word after it
};

std::optional<Fence> ParseFence(std::string_view line) {
  Fence fence;
  // Lists and quotes may stand before a fence; only blanks are understood.
  fence.indent = std::min(line.find_first_not_of(' '), line.size());
  line.remove_prefix(fence.indent);
  if (line.empty() || (line[0] != '`' && line[0] != '~')) {
    return std::nullopt;
  }
  fence.mark = line[0];
  fence.length = std::min(line.find_first_not_of(fence.mark), line.size());
  if (fence.length < 3) {
    return std::nullopt;
  }
  line.remove_prefix(fence.length);
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  fence.info = line.substr(0, line.find_first_of(" \t\r{"));
  return fence;
}

bool IsConfig(std::string_view text) {
  return text.starts_with("pipeline:") || text.find("\npipeline:") != std::string_view::npos;
}

}  // namespace

std::vector<MarkdownBlock> FindConfigBlocks(std::string_view markdown) {
  std::vector<MarkdownBlock> blocks;
  std::optional<Fence> open;
  MarkdownBlock block;
  int line_number = 0;
  const auto close = [&] {
    if ((open->info == "yaml" || open->info == "yml") && IsConfig(block.text)) {
      blocks.push_back(std::move(block));
    }
    open.reset();
  };
  for (size_t at = 0; at < markdown.size();) {
    const size_t end = std::min(markdown.find('\n', at), markdown.size());
    std::string_view line = markdown.substr(at, end - at);
    at = end + 1;
    ++line_number;
    const std::optional<Fence> fence = ParseFence(line);
    if (!open) {
      if (fence) {
        open = fence;
        block = {"", line_number + 1, static_cast<int>(fence->indent) + 1};
      }
      continue;
    }
    if (fence && fence->mark == open->mark && fence->length >= open->length &&
        fence->info.empty()) {
      close();
      continue;
    }
    const size_t blanks = std::min(line.find_first_not_of(' '), line.size());
    line.remove_prefix(std::min(blanks, open->indent));
    block.text += line;
    block.text += '\n';
  }
  if (open) {
    close();
  }
  return blocks;
}

}  // namespace millrace::config
