// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/section_reader.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "millrace/common/check.h"
#include "millrace/config/references.h"
#include "millrace/config/scalar_text.h"

namespace millrace::config {

namespace {

// More than any configuration; an alias of an alias of lists can ask for any number.
constexpr size_t kValuesMax = 100'000;

std::string Join(const std::string& path, std::string_view field) {
  return path.empty() ? std::string(field) : path + "." + std::string(field);
}

// The fields of a section of the type that `node` has, and those of every type while it has none.
struct EffectiveFields {
  std::vector<const FieldSpec*> fields;
  std::unique_ptr<FieldSpec> type;  // `type` with the variants as its choices
  bool type_is_open = false;  // the type is missing or wrong: fields of a type cannot be judged
};

class Reader {
 public:
  Reader(const std::string& file, const ReadOptions& options, Findings& findings)
      : file_(file), options_(options), findings_(findings) {}

  // `node` may be null: the section is absent and gives its defaults.
  Section ReadFields(const YamlNode* node, const Location& location, const std::string& path,
                     const std::vector<FieldSpec>& specs, const std::vector<FieldSpec>& variants) {
    if (node != nullptr && !CountValues(node->entries.size(), location)) {
      node = nullptr;
    }
    const EffectiveFields effective = ChooseFields(node, specs, variants);
    auto rep = std::make_shared<Section::Rep>();
    rep->path = path;
    rep->location = location;
    std::vector<std::string> suggested;
    if (node != nullptr && !effective.type_is_open) {
      suggested = ReportUnknownFields(*node, path, effective.fields);
    }
    for (const FieldSpec* field_spec : effective.fields) {
      const FieldSpec& spec = *field_spec;
      const YamlNode::Entry* entry = FindEntry(node, spec.name);
      const std::string field_path = Join(path, spec.name);
      SectionField field = entry != nullptr ? ReadField(*entry, field_path, spec)
                                            : MakeDefault(location, path, spec);
      const bool was_misspelled =
          std::find(suggested.begin(), suggested.end(), spec.name) != suggested.end();
      if (spec.required && entry == nullptr) {
        field.unknown = true;
        if (node != nullptr && !was_misspelled) {
          findings_.Error(location, field_path + ": required, but missing", "missing-field");
        }
      }
      field.unknown = field.unknown || was_misspelled;
      rep->fields.emplace(spec.name, std::move(field));
    }
    return Section(std::move(rep));
  }

 private:
  static const YamlNode::Entry* FindEntry(const YamlNode* node, std::string_view name) {
    if (node == nullptr) {
      return nullptr;
    }
    const auto found =
        std::find_if(node->entries.begin(), node->entries.end(),
                     [&](const YamlNode::Entry& entry) { return entry.key == name; });
    return found != node->entries.end() ? &*found : nullptr;
  }

  EffectiveFields ChooseFields(const YamlNode* node, const std::vector<FieldSpec>& specs,
                               const std::vector<FieldSpec>& variants) const {
    EffectiveFields effective;
    for (const FieldSpec& spec : specs) {
      effective.fields.push_back(&spec);
    }
    if (variants.empty()) {
      return effective;
    }
    const auto type_spec = std::find_if(effective.fields.begin(), effective.fields.end(),
                                        [](const FieldSpec* spec) { return spec->name == "type"; });
    MR_CHECK(type_spec != effective.fields.end());
    effective.type = std::make_unique<FieldSpec>(**type_spec);
    for (const FieldSpec& variant : variants) {
      effective.type->one_of.push_back(variant.name);
    }
    *type_spec = effective.type.get();
    const YamlNode::Entry* entry = FindEntry(node, "type");
    std::string type = effective.type->default_value;
    if (entry != nullptr) {
      type = ExpandReferences(entry->value->text, file_, options_).text;
    }
    for (const FieldSpec& variant : variants) {
      if (variant.name == type) {
        AddVariant(variant, specs, effective);
        return effective;
      }
    }
    effective.type_is_open = true;
    return effective;
  }

  static void AddVariant(const FieldSpec& variant, const std::vector<FieldSpec>& specs,
                         EffectiveFields& effective) {
    for (const FieldSpec& field : variant.fields) {
      const bool is_shared = std::any_of(specs.begin(), specs.end(), [&](const FieldSpec& spec) {
        return spec.name == field.name;
      });
      if (!is_shared) {
        effective.fields.push_back(&field);
      }
    }
  }

  // Returns the fields that were probably meant.
  std::vector<std::string> ReportUnknownFields(const YamlNode& node, const std::string& path,
                                               const std::vector<const FieldSpec*>& specs) {
    // Only fields that are not there yet can have been meant.
    std::vector<std::string> candidates;
    for (const FieldSpec* spec : specs) {
      if (FindEntry(&node, spec->name) == nullptr) {
        candidates.push_back(spec->name);
      }
    }
    std::vector<std::string> suggested;
    constexpr int kReportedMax = 50;  // of one section; the rest is seen when these are gone
    int reported = 0;
    for (const YamlNode::Entry& entry : node.entries) {
      const bool is_known = std::any_of(specs.begin(), specs.end(), [&](const FieldSpec* spec) {
        return spec->name == entry.key;
      });
      if (is_known) {
        continue;
      }
      if (++reported > kReportedMax) {
        break;
      }
      std::string text = IsPlainWord(entry.key) ? Join(path, entry.key) + ": unknown field"
                         : path.empty()         ? "unknown field"
                                                : path + ": unknown field";
      if (const auto similar = FindSimilar(entry.key, candidates)) {
        text += ", did you mean '" + *similar + "'?";
        suggested.push_back(*similar);
      }
      findings_.Error(entry.key_location, text, "unknown-field");
    }
    return suggested;
  }

  SectionField MakeDefault(const Location& location, const std::string& path,
                           const FieldSpec& spec) {
    SectionField field;
    field.type = spec.type;
    field.location = location;
    if (spec.type == FieldType::kSection) {
      field.sections.push_back(
          ReadFields(nullptr, location, Join(path, spec.name), spec.fields, spec.variants));
    } else if (!spec.default_value.empty()) {
      MR_CHECK(ConvertText(spec.default_value, spec.type, field));
    }
    return field;
  }

  SectionField ReadField(const YamlNode::Entry& entry, const std::string& path,
                         const FieldSpec& spec) {
    SectionField field;
    field.type = spec.type;
    field.present = true;
    field.location = entry.value->location;
    if (entry.value->kind == YamlNode::Kind::kNull) {
      field.location = entry.key_location;  // the parser's is that of what comes next
    }
    const YamlNode& node = *entry.value;
    switch (spec.type) {
      case FieldType::kSection:
        ReadSectionField(node, path, spec, field);
        break;
      case FieldType::kSectionList:
        ReadSectionList(node, path, spec, field);
        break;
      case FieldType::kSectionMap:
        ReadSectionMap(node, path, spec, field);
        break;
      case FieldType::kStringList:
        ReadStringList(node, path, spec, field);
        break;
      case FieldType::kStringMap:
        ReadStringMap(node, path, spec, field);
        break;
      default:
        ReadScalar(node, path, spec, field);
    }
    return field;
  }

  // False once there are more values than may be; said once.
  bool CountValues(size_t count, const Location& location) {
    const bool was_exceeded = values_ > kValuesMax;
    values_ += count;
    if (values_ > kValuesMax && !was_exceeded) {
      findings_.Error(location, "more than 100000 values", "too-large");
    }
    return values_ <= kValuesMax;
  }

  void WrongType(SectionField& field, const std::string& path, const std::string& expected) {
    findings_.Error(field.location, path + ": expected " + expected, "wrong-type");
    field.unknown = true;
  }

  // A mapping as a null is: one with nothing in it. Nothing if it is neither.
  static const YamlNode* AsMapping(const YamlNode& node) {
    static const YamlNode kEmpty{.kind = YamlNode::Kind::kMapping};
    if (node.kind == YamlNode::Kind::kNull) {
      return &kEmpty;
    }
    return node.kind == YamlNode::Kind::kMapping ? &node : nullptr;
  }

  void ReadSectionField(const YamlNode& node, const std::string& path, const FieldSpec& spec,
                        SectionField& field) {
    const YamlNode* mapping = AsMapping(node);
    if (mapping == nullptr) {
      WrongType(field, path, "a mapping of fields");
    }
    field.sections.push_back(ReadFields(mapping, field.location, path, spec.fields, spec.variants));
  }

  void ReadSectionMap(const YamlNode& node, const std::string& path, const FieldSpec& spec,
                      SectionField& field) {
    const YamlNode* mapping = AsMapping(node);
    if (mapping == nullptr) {
      WrongType(field, path, "a mapping of names to mappings");
      return;
    }
    if (!CountValues(mapping->entries.size(), node.location)) {
      field.unknown = true;
      return;
    }
    for (const YamlNode::Entry& entry : mapping->entries) {
      const std::string entry_path =
          IsPlainWord(entry.key) ? Join(path, entry.key) : Join(path, "?");
      const YamlNode* section = AsMapping(*entry.value);
      if (section == nullptr) {
        findings_.Error(entry.value->location, entry_path + ": expected a mapping of fields",
                        "wrong-type");
        field.unknown = true;
        continue;
      }
      field.names.push_back(entry.key);
      field.item_locations.push_back(entry.key_location);
      field.sections.push_back(
          ReadFields(section, entry.key_location, entry_path, spec.fields, spec.variants));
    }
    CheckNotEmpty(field.names.empty(), path, spec, field);
  }

  void ReadSectionList(const YamlNode& node, const std::string& path, const FieldSpec& spec,
                       SectionField& field) {
    if (node.kind != YamlNode::Kind::kSequence && node.kind != YamlNode::Kind::kNull) {
      WrongType(field, path, "a list of mappings");
      return;
    }
    if (!CountValues(node.items.size(), node.location)) {
      field.unknown = true;
      return;
    }
    for (const YamlNodePtr& item : node.items) {
      const std::string item_path = path + "[" + std::to_string(field.sections.size()) + "]";
      const YamlNode* mapping = item->kind == YamlNode::Kind::kMapping ? item.get() : nullptr;
      if (mapping == nullptr) {
        findings_.Error(item->location, item_path + ": expected a mapping of fields", "wrong-type");
        field.unknown = true;
      }
      field.item_locations.push_back(item->location);
      field.sections.push_back(
          ReadFields(mapping, item->location, item_path, spec.fields, spec.variants));
    }
    CheckNotEmpty(field.sections.empty(), path, spec, field);
  }

  void CheckNotEmpty(bool is_empty, const std::string& path, const FieldSpec& spec,
                     SectionField& field) {
    if (is_empty && spec.required && !field.unknown) {
      findings_.Error(field.location, path + ": required, but empty", "missing-field");
      field.unknown = true;
    }
  }

  // The text of a scalar with its references replaced; nothing, with a finding, if it has none.
  std::optional<std::string> ReadText(const YamlNode& node, const Location& location,
                                      const std::string& path, bool& unknown, bool& is_secret) {
    const ExpandedText expanded = ExpandReferences(node.text, file_, options_);
    is_secret = is_secret || expanded.has_reference;
    for (const std::string& sentence : expanded.malformed) {
      findings_.Error(location, path + ": " + sentence, "bad-reference");
      unknown = true;
    }
    for (const std::string& sentence : expanded.missing) {
      unknown = true;
      if (options_.lenient_references) {
        findings_.Warning(location, path + ": " + sentence, "undefined-reference");
      } else {
        findings_.Error(location, path + ": " + sentence, "undefined-reference");
      }
    }
    return expanded.text;
  }

  void ReadStringList(const YamlNode& node, const std::string& path, const FieldSpec& spec,
                      SectionField& field) {
    std::vector<const YamlNode*> items;
    if (node.kind == YamlNode::Kind::kScalar) {
      items.push_back(&node);
    } else if (node.kind == YamlNode::Kind::kSequence) {
      for (const YamlNodePtr& item : node.items) {
        items.push_back(item.get());
      }
    } else if (node.kind == YamlNode::Kind::kMapping) {
      WrongType(field, path, "a list of strings");
      return;
    }
    if (!CountValues(items.size(), node.location)) {
      field.unknown = true;
      return;
    }
    for (const YamlNode* item : items) {
      const bool is_list = node.kind == YamlNode::Kind::kSequence;
      const std::string item_path =
          is_list ? path + "[" + std::to_string(field.list.size()) + "]" : path;
      bool is_secret = spec.secret;
      std::string text;
      if (item->kind != YamlNode::Kind::kScalar) {
        findings_.Error(item->location, item_path + ": expected a string", "wrong-type");
        field.unknown = true;
      } else {
        text = *ReadText(*item, item->location, item_path, field.unknown, is_secret);
        if (!field.unknown) {
          CheckChoice(text, item->location, item_path, spec, is_secret, field);
        }
      }
      field.list.push_back(std::move(text));
      field.item_locations.push_back(item->location);
    }
    CheckNotEmpty(field.list.empty(), path, spec, field);
  }

  void ReadStringMap(const YamlNode& node, const std::string& path, const FieldSpec& spec,
                     SectionField& field) {
    const YamlNode* mapping = AsMapping(node);
    if (mapping == nullptr) {
      WrongType(field, path, "a mapping of names to strings");
      return;
    }
    if (!CountValues(mapping->entries.size(), node.location)) {
      field.unknown = true;
      return;
    }
    for (const YamlNode::Entry& entry : mapping->entries) {
      const std::string entry_path =
          IsPlainWord(entry.key) ? Join(path, entry.key) : Join(path, "?");
      if (entry.value->kind != YamlNode::Kind::kScalar) {
        findings_.Error(entry.key_location, entry_path + ": expected a string", "wrong-type");
        field.unknown = true;
        continue;
      }
      bool is_secret = spec.secret;
      field.map.emplace_back(entry.key, *ReadText(*entry.value, entry.value->location, entry_path,
                                                  field.unknown, is_secret));
      field.item_locations.push_back(entry.key_location);
    }
    CheckNotEmpty(field.map.empty(), path, spec, field);
  }

  void ReadScalar(const YamlNode& node, const std::string& path, const FieldSpec& spec,
                  SectionField& field) {
    const bool null_is_a_choice =
        std::find(spec.one_of.begin(), spec.one_of.end(), "null") != spec.one_of.end();
    if (node.kind == YamlNode::Kind::kNull && !(null_is_a_choice && node.text == "null")) {
      findings_.Error(field.location, path + ": has no value; give one or remove the field",
                      "missing-value");
      field.unknown = true;
      return;
    }
    if (node.kind != YamlNode::Kind::kScalar && node.kind != YamlNode::Kind::kNull) {
      WrongType(field, path, ExpectedText(spec.type));
      return;
    }
    bool is_secret = spec.secret;
    const std::string text = *ReadText(node, field.location, path, field.unknown, is_secret);
    if (field.unknown) {
      field.text = text;
      return;
    }
    if (!ConvertText(text, spec.type, field)) {
      const std::string found = is_secret ? "" : QuoteIfPlain(text);
      WrongType(field, path, ExpectedText(spec.type) + (found.empty() ? "" : ", found" + found));
      return;
    }
    if (spec.required && spec.type == FieldType::kString && text.empty()) {
      findings_.Error(field.location, path + ": required, but empty", "missing-field");
      field.unknown = true;
      return;
    }
    CheckChoice(text, field.location, path, spec, is_secret, field);
    CheckBounds(path, spec, field);
  }

  void CheckChoice(const std::string& text, const Location& location, const std::string& path,
                   const FieldSpec& spec, bool is_secret, SectionField& field) {
    if (spec.one_of.empty() ||
        std::find(spec.one_of.begin(), spec.one_of.end(), text) != spec.one_of.end()) {
      return;
    }
    field.unknown = true;
    const bool may_show = !is_secret && IsPlainWord(text);
    findings_.Error(location,
                    path + ": must be " + JoinChoices(spec.one_of) +
                        (may_show ? ", found '" + text + "'" + Suggest(text, spec.one_of) : ""),
                    "invalid-choice");
  }

  void CheckBounds(const std::string& path, const FieldSpec& spec, SectionField& field) {
    int64_t value = 0;
    const auto show = [&](int64_t bound) {
      switch (spec.type) {
        case FieldType::kDuration:
          return FormatDuration(std::chrono::milliseconds(bound));
        case FieldType::kBytes:
          return FormatBytes(static_cast<uint64_t>(bound));
        default:
          return std::to_string(bound);
      }
    };
    switch (spec.type) {
      case FieldType::kInteger:
        value = field.integer;
        break;
      case FieldType::kDuration:
        value = field.duration.count();
        break;
      case FieldType::kBytes:
        value = static_cast<int64_t>(field.bytes);
        break;
      default:
        return;
    }
    std::string text;
    if (spec.min && value < *spec.min) {
      text = ": must be at least " + show(*spec.min);
    } else if (spec.max && value > *spec.max) {
      text = ": must be at most " + show(*spec.max);
    } else {
      return;
    }
    findings_.Error(field.location, path + text, "out-of-range");
    field.unknown = true;
  }

  static std::string ExpectedText(FieldType type) {
    switch (type) {
      case FieldType::kInteger:
        return "a whole number";
      case FieldType::kBoolean:
        return "true or false";
      case FieldType::kDuration:
        return "a duration such as 500ms, 10s, 5m, 24h or 30d";
      case FieldType::kBytes:
        return "a size such as 4096, 64KiB, 8MiB or 1GiB";
      case FieldType::kPath:
        return "a path";
      default:
        return "a string";
    }
  }

  // False if `text` is not of `type`.
  bool ConvertText(const std::string& text, FieldType type, SectionField& field) const {
    switch (type) {
      case FieldType::kString:
        field.text = text;
        return true;
      case FieldType::kPath:
        field.text = text.empty() ? "" : ResolvePath(text, file_);
        return !text.empty();
      case FieldType::kInteger:
        return Store(ParseInteger(text), field.integer);
      case FieldType::kBoolean:
        return Store(ParseBoolean(text), field.boolean);
      case FieldType::kDuration:
        return Store(ParseDuration(text), field.duration);
      case FieldType::kBytes:
        return Store(ParseBytes(text), field.bytes);
      case FieldType::kStringList:
        field.list = {text};
        return true;
      default:
        return false;
    }
  }

  template <typename T>
  static bool Store(const std::optional<T>& value, T& target) {
    if (value) {
      target = *value;
    }
    return value.has_value();
  }

  const std::string& file_;
  const ReadOptions& options_;
  Findings& findings_;
  size_t values_ = 0;
};

}  // namespace

Section ReadTree(const YamlNode& root, const std::string& file,
                 const std::vector<FieldSpec>& fields, Findings& findings,
                 const ReadOptions& options) {
  Reader reader(file, options, findings);
  const bool is_mapping = root.kind == YamlNode::Kind::kMapping;
  if (!is_mapping) {
    findings.Error(root.location, "expected a mapping of fields", "wrong-type");
  }
  Location start{file, options.first_line, options.first_column};
  return reader.ReadFields(is_mapping ? &root : nullptr, start, "", fields, {});
}

}  // namespace millrace::config
