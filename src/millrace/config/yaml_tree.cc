// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/yaml_tree.h"

#include <algorithm>
#include <exception>
#include <istream>
#include <map>
#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "millrace/common/check.h"
#include "millrace/config/scalar_text.h"

namespace millrace::config {

namespace {

// Deeper than any configuration; bounds the recursion over a tree.
constexpr int kDepthMax = 64;

struct TreeError {
  Location location;
  std::string text;
};

// Says whether the text at a mark is a written null, which the parser does not tell from nothing.
class NullText {
 public:
  explicit NullText(std::string_view yaml) : yaml_(yaml) {
    line_starts_.push_back(0);
    for (size_t i = 0; i < yaml.size(); ++i) {
      if (yaml[i] == '\n') {
        line_starts_.push_back(i + 1);
      }
    }
  }

  bool IsWrittenAt(const YAML::Mark& mark) const {
    if (mark.line < 0 || mark.column < 0 || static_cast<size_t>(mark.line) >= line_starts_.size()) {
      return false;
    }
    const size_t at =
        line_starts_[static_cast<size_t>(mark.line)] + static_cast<size_t>(mark.column);
    if (at >= yaml_.size()) {
      return false;
    }
    const std::string_view rest = yaml_.substr(at, 4);
    return rest[0] == '~' || rest == "null" || rest == "Null" || rest == "NULL";
  }

 private:
  std::string_view yaml_;
  std::vector<size_t> line_starts_;
};

// Makes the tree out of the parser's events.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view yaml, const std::string& file, const ReadOptions& options,
              Findings& findings)
      : null_text_(yaml), file_(file), options_(options), findings_(findings) {}

  YamlNodePtr TakeRoot() { return std::move(root_); }

  Location LocationOf(const YAML::Mark& mark) const {
    Location location{.file = file_};
    if (mark.line >= 0) {
      location.line = options_.first_line + mark.line;
      location.column = options_.first_column + mark.column;
    }
    return location;
  }

  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto node = MakeNode(YamlNode::Kind::kNull, mark);
    node->text = null_text_.IsWrittenAt(mark) ? "null" : "";
    Finish(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      throw TreeError{LocationOf(mark), "an alias stands inside of what it names"};
    }
    Place(found->second);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                const std::string& value) override {
    auto node = MakeNode(YamlNode::Kind::kScalar, mark);
    node->text = value;
    Finish(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    open_.push_back({MakeNode(YamlNode::Kind::kSequence, mark), anchor, nullptr, {}});
  }
  void OnSequenceEnd() override { FinishOpen(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    open_.push_back({MakeNode(YamlNode::Kind::kMapping, mark), anchor, nullptr, {}});
  }
  void OnMapEnd() override { FinishOpen(); }

 private:
  struct Open {
    std::shared_ptr<YamlNode> node;
    YAML::anchor_t anchor;
    YamlNodePtr key;                   // of a mapping: the key whose value comes next
    std::map<std::string, int> lines;  // of a mapping: its keys and the line of each
  };

  std::shared_ptr<YamlNode> MakeNode(YamlNode::Kind kind, const YAML::Mark& mark) const {
    auto node = std::make_shared<YamlNode>();
    node->kind = kind;
    node->location = LocationOf(mark);
    return node;
  }

  void FinishOpen() {
    MR_CHECK(!open_.empty());
    Open open = std::move(open_.back());
    open_.pop_back();
    Finish(std::move(open.node), open.anchor);
  }

  void Finish(std::shared_ptr<YamlNode> node, YAML::anchor_t anchor) {
    if (node->depth > kDepthMax) {
      throw TreeError{node->location, "nested too deeply"};
    }
    YamlNodePtr finished = std::move(node);
    if (anchor != YAML::NullAnchor) {
      anchors_[anchor] = finished;
    }
    Place(std::move(finished));
  }

  // Puts a finished node where the document has it.
  void Place(YamlNodePtr node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    parent.node->depth = std::max(parent.node->depth, node->depth + 1);
    if (parent.node->kind == YamlNode::Kind::kSequence) {
      parent.node->items.push_back(std::move(node));
    } else if (parent.key == nullptr) {
      if (node->kind != YamlNode::Kind::kScalar && node->kind != YamlNode::Kind::kNull) {
        throw TreeError{node->location, "a name must be a word, not a list or a mapping"};
      }
      parent.key = std::move(node);
    } else {
      PlaceEntry(parent, std::move(node));
    }
  }

  void PlaceEntry(Open& parent, YamlNodePtr value) {
    const YamlNodePtr key = std::move(parent.key);
    parent.key = nullptr;
    auto [first, is_new] = parent.lines.try_emplace(key->text, key->location.line);
    if (!is_new) {
      findings_.Error(key->location,
                      "the field" + QuoteIfPlain(key->text) + " stands twice, first on line " +
                          std::to_string(first->second),
                      "duplicate-key");
      return;
    }
    parent.node->entries.push_back({key->text, key->location, std::move(value)});
  }

  // Constant after construction.
  const NullText null_text_;
  const std::string& file_;
  const ReadOptions& options_;

  Findings& findings_;
  YamlNodePtr root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNodePtr> anchors_;
};

}  // namespace

YamlNodePtr ParseYaml(std::string_view yaml, const std::string& file, const ReadOptions& options,
                      Findings& findings) {
  TreeBuilder builder(yaml, file, options, findings);
  try {
    std::istringstream stream{std::string(yaml)};
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      findings.Error({file, options.first_line, options.first_column}, "nothing is in this file",
                     "yaml-syntax");
      return nullptr;
    }
    YamlNodePtr root = builder.TakeRoot();
    TreeBuilder rest(yaml, file, options, findings);
    if (parser.HandleNextDocument(rest)) {
      const YamlNodePtr second = rest.TakeRoot();
      findings.Error(second->location, "a second YAML document begins, only one is read",
                     "yaml-syntax");
      return nullptr;
    }
    return root;
  } catch (const TreeError& error) {
    findings.Error(error.location, error.text, "yaml-syntax");
  } catch (const YAML::Exception& error) {
    findings.Error(builder.LocationOf(error.mark), "not YAML: " + error.msg, "yaml-syntax");
  } catch (const std::exception& error) {
    findings.Error({file, 0, 0}, std::string("not YAML: ") + error.what(), "yaml-syntax");
  }
  return nullptr;
}

}  // namespace millrace::config
