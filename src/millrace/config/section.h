// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/common/result.h"

namespace millrace::config {

// A place in a configuration file; both from 1, 0 when unknown.
struct Location {
  std::string file;
  int line = 0;
  int column = 0;
};

// Something that `millrace lint` says: `file:line:column: error: text [code]`.
struct Finding {
  enum class Level { kError, kWarning } level = Level::kError;
  Location location;
  std::string text;  // with the suggestion, if there is one
  std::string code;  // stable: "unknown-field"

  std::string ToString() const;
};

class Findings {
 public:
  void Error(Location location, std::string text, std::string code);
  void Warning(Location location, std::string text, std::string code);
  void Add(Finding finding);
  bool has_errors() const;
  const std::vector<Finding>& all() const { return findings_; }

 private:
  std::vector<Finding> findings_;
};

enum class FieldType {
  kString,
  kPath,  // a string; a relative path is made one of the file's directory
  kInteger,
  kBoolean,
  kDuration,     // 500ms, 10s, 5m, 24h, 30d; a bare 0
  kBytes,        // 4096, 64KiB, 8MiB, 1GiB
  kStringList,   // a list of strings, or one string
  kStringMap,    // names to strings
  kSection,      // a mapping with `fields`
  kSectionList,  // a list of mappings with `fields`
  kSectionMap,   // names to mappings with `fields`
};

// Declares one field of the configuration file, once: the reader, lint, the reference page and the
// defaults come from it.
struct FieldSpec {
  std::string name;
  FieldType type = FieldType::kString;
  std::string description;    // one or two sentences; units; the trade-off
  std::string default_value;  // as it would be written; empty: none
  bool required = false;
  bool secret = false;              // never printed
  std::vector<std::string> one_of;  // the allowed strings
  std::vector<FieldSpec> fields;    // of sections
  // Of a kSection or kSectionMap whose string field `type` chooses more fields: a kSection for each
  // type, named like it. `fields` holds `type` and what all types share.
  std::vector<FieldSpec> variants;
  // Bounds of integers, durations (in milliseconds) and byte sizes.
  std::optional<int64_t> min;
  std::optional<int64_t> max;
};

// A mapping of the configuration file that was checked against its FieldSpecs: what is there has
// its type, `${env:NAME}` and `${file:PATH}` are replaced, and defaults are filled in. A getter of
// a field that is not of the spec, or of another type, aborts: that is a bug.
//
// Cheap to copy; immutable.
class Section {
 public:
  // Present in the file.
  bool Has(std::string_view field) const;
  // True if the field is in the spec; the other getters then work.
  bool Knows(std::string_view field) const;
  // True if the value cannot be judged: lint met an undefined variable in it, or it has a finding.
  bool IsUnknown(std::string_view field) const;
  // Of the field where it is present, else of the section.
  Location LocationOf(std::string_view field) const;
  // Of an item of a list.
  Location LocationOf(std::string_view field, size_t item) const;
  const Location& location() const;
  // `sinks.warehouse.database`: findings about the field begin with it.
  std::string PathOf(std::string_view field) const;
  // `sinks.warehouse`; empty for the whole file.
  const std::string& path() const;

  // The value, or the default, or empty/zero where there is none.
  std::string GetString(std::string_view field) const;
  int64_t GetInteger(std::string_view field) const;
  bool GetBoolean(std::string_view field) const;
  std::chrono::milliseconds GetDuration(std::string_view field) const;
  uint64_t GetBytes(std::string_view field) const;
  std::vector<std::string> GetStringList(std::string_view field) const;
  std::vector<std::pair<std::string, std::string>> GetStringMap(std::string_view field) const;
  // Empty where absent; its fields then give their defaults.
  Section GetSection(std::string_view field) const;
  std::vector<Section> GetSectionList(std::string_view field) const;
  std::vector<std::pair<std::string, Section>> GetSectionMap(std::string_view field) const;

  struct Rep;
  explicit Section(std::shared_ptr<const Rep> rep) : rep_(std::move(rep)) {}

 private:
  std::shared_ptr<const Rep> rep_;
};

struct ReadOptions {
  // An undefined variable or an unreadable file is a warning, and the value counts as unknown. For
  // lint, which runs where secrets are not.
  bool lenient_references = false;
  // Where the text begins in its file; for YAML inside of Markdown.
  int first_line = 1;
  int first_column = 1;
  // The value of an environment variable, or nothing. Empty: the process's.
  std::function<std::optional<std::string>(const std::string& name)> environment;
};

// Reads YAML text against `fields`. Findings of every kind are added to `findings`; there is no
// Section if one of them is an error. `file` is for messages, and relative paths are relative to
// its directory. Values that come from a variable or a file, and those of secret fields, are in no
// finding.
std::optional<Section> ReadSection(std::string_view yaml, const std::string& file,
                                   const std::vector<FieldSpec>& fields, Findings& findings,
                                   const ReadOptions& options = {});

}  // namespace millrace::config
