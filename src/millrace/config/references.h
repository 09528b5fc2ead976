// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "millrace/config/section.h"

namespace millrace::config {

// A string of the file after `${env:NAME}` and `${file:PATH}` were replaced; `$${` is a literal
// `${`.
struct ExpandedText {
  std::string text;
  bool has_reference = false;  // the text must not be printed
  // Sentences about references that have no value; such a reference stays in `text` as it was
  // written.
  std::vector<std::string> missing;
  // Sentences about what is no reference: `${NAME}`, a missing brace.
  std::vector<std::string> malformed;
};

// Blocking: reads files, each up to 1 MiB, relative to the directory of `file`; one line end at a
// file's end is left out.
ExpandedText ExpandReferences(std::string_view text, const std::string& file,
                              const ReadOptions& options);

// `path`, or the one relative to the directory of `file`.
std::string ResolvePath(const std::string& path, const std::string& file);

}  // namespace millrace::config
