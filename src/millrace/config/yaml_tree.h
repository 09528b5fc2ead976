// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/config/section.h"

namespace millrace::config {

struct YamlNode;
using YamlNodePtr = std::shared_ptr<const YamlNode>;

// A value of a YAML document and where it stands. An alias is the node that its anchor names, so
// that a node may be met more than once, but never inside itself.
struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMapping } kind = Kind::kNull;

  struct Entry {
    std::string key;
    Location key_location;
    YamlNodePtr value;
  };

  Location location;
  // Of a scalar. Of a null that is written `null` or `~`: "null"; of one that is left out: empty.
  std::string text;
  std::vector<YamlNodePtr> items;  // of a sequence
  std::vector<Entry> entries;      // of a mapping, in the file's order, each key once
  int depth = 1;
};

// Parses one YAML document. Null with an error in `findings` if it is none. A key that stands twice
// is an error too, and the first one counts.
YamlNodePtr ParseYaml(std::string_view yaml, const std::string& file, const ReadOptions& options,
                      Findings& findings);

}  // namespace millrace::config
