// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "millrace/config/section.h"
#include "millrace/config/yaml_tree.h"

namespace millrace::config {

// One field of a Section.
struct SectionField {
  FieldType type = FieldType::kString;
  bool present = false;
  bool unknown = false;
  Location location;

  // By type; what the others hold is meaningless.
  std::string text;
  int64_t integer = 0;
  bool boolean = false;
  std::chrono::milliseconds duration{0};
  uint64_t bytes = 0;
  std::vector<std::string> list;
  std::vector<std::pair<std::string, std::string>> map;
  std::vector<Section> sections;   // of kSection: one
  std::vector<std::string> names;  // of kSectionMap: those of `sections`
  std::vector<Location> item_locations;
};

struct Section::Rep {
  std::string path;
  Location location;
  std::map<std::string, SectionField, std::less<>> fields;
};

// Reads a tree against `fields`. Unlike ReadSection() it gives a Section whatever was found, so
// that further rules can be checked: values with a finding are unknown there.
Section ReadTree(const YamlNode& root, const std::string& file,
                 const std::vector<FieldSpec>& fields, Findings& findings,
                 const ReadOptions& options);

}  // namespace millrace::config
