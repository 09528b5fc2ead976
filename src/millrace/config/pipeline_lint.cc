// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/pipeline_lint.h"

#include <algorithm>
#include <set>
#include <vector>

#include "millrace/config/lint_context.h"
#include "millrace/config/listen_address.h"
#include "millrace/config/scalar_text.h"

namespace millrace::config {

namespace {

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsLetter(char c) { return IsLower(c) || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// One character of `first`, then up to `rest_max` of `rest`.
template <typename First, typename Rest>
bool IsName(std::string_view text, size_t rest_max, First first, Rest rest) {
  return !text.empty() && text.size() <= rest_max + 1 && first(text[0]) &&
         std::all_of(text.begin() + 1, text.end(), rest);
}

void LintSource(LintContext& context) {
  const Section& section = context.config.source.section;
  std::set<std::string> seen;
  for (size_t i = 0; i < context.config.source.tables.size() && !section.IsUnknown("tables"); ++i) {
    const std::string& table = context.config.source.tables[i];
    const std::string path = section.PathOf("tables") + "[" + std::to_string(i) + "]: ";
    if (!TablePattern::Parse(table)) {
      context.findings.Error(
          section.LocationOf("tables", i),
          path +
              "is no table; write schema.table, with quotes around parts of other "
              "characters: '\"My Schema\".\"Table\"'",
          "bad-table-name");
    } else if (!seen.insert(table).second) {
      context.findings.Warning(section.LocationOf("tables", i), path + "is listed twice",
                               "duplicate-table");
    }
  }
  if (!section.Knows("slot")) {
    return;
  }
  if (IsGiven(section, "slot") && !IsSlotName(context.config.source.slot)) {
    context.Error(section, "slot", "must be 1 to 63 of a-z, 0-9 and _", "bad-name");
  }
  if (IsGiven(section, "publication") && (context.config.source.publication.empty() ||
                                          context.config.source.publication.size() > 63)) {
    context.Error(section, "publication", "must have 1 to 63 bytes", "bad-name");
  }
  if (context.config.source.confirm == ConfirmPolicy::kBackedUp &&
      !context.config.section.Has("backup")) {
    context.Error(section, "confirm", "'backed_up' needs a `backup` section", "backup-missing");
  }
}

void LintAdmin(LintContext& context) {
  const Section& admin = context.config.admin.section;
  if (admin.IsUnknown("listen")) {
    return;
  }
  if (!ParseListenAddress(admin.GetString("listen"))) {
    context.Error(admin, "listen", "expected host:port, such as 127.0.0.1:7070 or [::1]:7070",
                  "bad-address");
  } else if (!IsLoopback(context.config.admin.host) && !admin.IsUnknown("token") &&
             context.config.admin.token.empty()) {
    context.Error(admin, "token",
                  "required, because `listen` is not a loopback address; write token: "
                  "${env:MILLRACE_TOKEN}",
                  "token-missing");
  }
}

}  // namespace

bool IsPipelineName(std::string_view text) {
  return IsName(text, 39, IsLower, [](char c) { return IsLower(c) || IsDigit(c) || c == '_'; });
}

bool IsStreamName(std::string_view text) {
  return IsName(text, 62, IsLetter, [](char c) { return IsLetter(c) || IsDigit(c); });
}

bool IsSinkName(std::string_view text) {
  return IsName(text, 62, IsLetter, [](char c) { return IsLetter(c) || IsDigit(c) || c == '-'; });
}

bool IsSlotName(std::string_view text) {
  const auto is_slot_character = [](char c) { return IsLower(c) || IsDigit(c) || c == '_'; };
  return IsName(text, 62, is_slot_character, is_slot_character);
}

bool IsGiven(const Section& section, std::string_view field) {
  return section.Has(field) && !section.IsUnknown(field);
}

void LintContext::Error(const Section& section, std::string_view field, const std::string& text,
                        std::string code) {
  findings.Error(section.LocationOf(field), section.PathOf(field) + ": " + text, std::move(code));
}

void LintContext::Warning(const Section& section, std::string_view field, const std::string& text,
                          std::string code) {
  findings.Warning(section.LocationOf(field), section.PathOf(field) + ": " + text, std::move(code));
}

bool LintContext::HasErrorsUnder(const std::string& path) const {
  return std::any_of(findings.all().begin(), findings.all().end(), [&](const Finding& finding) {
    return finding.level == Finding::Level::kError && finding.text.starts_with(path) &&
           finding.text.size() > path.size() &&
           (finding.text[path.size()] == '.' || finding.text[path.size()] == ':' ||
            finding.text[path.size()] == '[');
  });
}

void LintContext::AddUnlessCaused(const std::string& path,
                                  const std::function<void(Findings&)>& lint) {
  std::set<std::pair<int, int>> judged;
  for (const Finding& finding : findings.all()) {
    judged.emplace(finding.location.line, finding.location.column);
  }
  Findings found;
  lint(found);
  for (Finding finding : found.all()) {
    if (judged.contains({finding.location.line, finding.location.column})) {
      continue;
    }
    if (!finding.text.starts_with(path)) {
      finding.text = path + ": " + finding.text;
    }
    findings.Add(std::move(finding));
  }
}

void LintPipeline(const PipelineConfig& config, const LoadOptions& options, Findings& findings) {
  LintContext context{config, options, findings};
  if (IsGiven(config.section, "pipeline") && !IsPipelineName(config.pipeline)) {
    context.Error(config.section, "pipeline", "must match [a-z][a-z0-9_]{0,39}", "bad-name");
  }
  LintSource(context);
  LintAdmin(context);
  LintStreams(context);
  LintSinks(context);
}

}  // namespace millrace::config
