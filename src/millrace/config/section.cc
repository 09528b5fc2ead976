// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/section.h"

#include <algorithm>

#include "millrace/common/check.h"
#include "millrace/config/section_reader.h"
#include "millrace/config/yaml_tree.h"

namespace millrace::config {

namespace {

const SectionField& FindField(const Section::Rep& rep, std::string_view field) {
  const auto found = rep.fields.find(field);
  MR_CHECK(found != rep.fields.end());
  return found->second;
}

const SectionField& FindField(const Section::Rep& rep, std::string_view field, FieldType type) {
  const SectionField& found = FindField(rep, field);
  MR_CHECK(found.type == type);
  return found;
}

}  // namespace

std::string Finding::ToString() const {
  std::string line = location.file;
  if (location.line > 0) {
    line += ":" + std::to_string(location.line) + ":" + std::to_string(location.column);
  }
  line += level == Level::kError ? ": error: " : ": warning: ";
  line += text + " [" + code + "]";
  // A finding is one line, whatever the file holds.
  std::replace_if(
      line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return line;
}

void Findings::Error(Location location, std::string text, std::string code) {
  Add({Finding::Level::kError, std::move(location), std::move(text), std::move(code)});
}

void Findings::Warning(Location location, std::string text, std::string code) {
  Add({Finding::Level::kWarning, std::move(location), std::move(text), std::move(code)});
}

void Findings::Add(Finding finding) { findings_.push_back(std::move(finding)); }

bool Findings::has_errors() const {
  return std::any_of(findings_.begin(), findings_.end(), [](const Finding& finding) {
    return finding.level == Finding::Level::kError;
  });
}

bool Section::Has(std::string_view field) const { return FindField(*rep_, field).present; }

bool Section::Knows(std::string_view field) const {
  return rep_->fields.find(field) != rep_->fields.end();
}

bool Section::IsUnknown(std::string_view field) const { return FindField(*rep_, field).unknown; }

Location Section::LocationOf(std::string_view field) const {
  const SectionField& found = FindField(*rep_, field);
  return found.present ? found.location : rep_->location;
}

Location Section::LocationOf(std::string_view field, size_t item) const {
  const SectionField& found = FindField(*rep_, field);
  return item < found.item_locations.size() ? found.item_locations[item] : LocationOf(field);
}

const Location& Section::location() const { return rep_->location; }

std::string Section::PathOf(std::string_view field) const {
  return rep_->path.empty() ? std::string(field) : rep_->path + "." + std::string(field);
}

const std::string& Section::path() const { return rep_->path; }

std::string Section::GetString(std::string_view field) const {
  const SectionField& found = FindField(*rep_, field);
  MR_CHECK(found.type == FieldType::kString || found.type == FieldType::kPath);
  return found.text;
}

int64_t Section::GetInteger(std::string_view field) const {
  return FindField(*rep_, field, FieldType::kInteger).integer;
}

bool Section::GetBoolean(std::string_view field) const {
  return FindField(*rep_, field, FieldType::kBoolean).boolean;
}

std::chrono::milliseconds Section::GetDuration(std::string_view field) const {
  return FindField(*rep_, field, FieldType::kDuration).duration;
}

uint64_t Section::GetBytes(std::string_view field) const {
  return FindField(*rep_, field, FieldType::kBytes).bytes;
}

std::vector<std::string> Section::GetStringList(std::string_view field) const {
  return FindField(*rep_, field, FieldType::kStringList).list;
}

std::vector<std::pair<std::string, std::string>> Section::GetStringMap(
    std::string_view field) const {
  return FindField(*rep_, field, FieldType::kStringMap).map;
}

Section Section::GetSection(std::string_view field) const {
  return FindField(*rep_, field, FieldType::kSection).sections.at(0);
}

std::vector<Section> Section::GetSectionList(std::string_view field) const {
  return FindField(*rep_, field, FieldType::kSectionList).sections;
}

std::vector<std::pair<std::string, Section>> Section::GetSectionMap(std::string_view field) const {
  const SectionField& found = FindField(*rep_, field, FieldType::kSectionMap);
  std::vector<std::pair<std::string, Section>> named;
  for (size_t i = 0; i < found.sections.size(); ++i) {
    named.emplace_back(found.names[i], found.sections[i]);
  }
  return named;
}

std::optional<Section> ReadSection(std::string_view yaml, const std::string& file,
                                   const std::vector<FieldSpec>& fields, Findings& findings,
                                   const ReadOptions& options) {
  Findings found;
  std::optional<Section> section;
  if (const YamlNodePtr root = ParseYaml(yaml, file, options, found)) {
    section = ReadTree(*root, file, fields, found, options);
  }
  for (const Finding& finding : found.all()) {
    findings.Add(finding);
  }
  return found.has_errors() ? std::nullopt : section;
}

}  // namespace millrace::config
