// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/pipeline_lint.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <vector>

#include "millrace/config/scalar_text.h"
#include "millrace/config/sql_words.h"

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

// True if an error of this part, or of one inside of it, was found.
bool HasErrorsUnder(const Findings& findings, const std::string& path) {
  return std::any_of(findings.all().begin(), findings.all().end(), [&](const Finding& finding) {
    return finding.level == Finding::Level::kError && finding.text.starts_with(path) &&
           finding.text.size() > path.size() &&
           (finding.text[path.size()] == '.' || finding.text[path.size()] == ':' ||
            finding.text[path.size()] == '[');
  });
}

// Given, and of a known value.
bool IsGiven(const Section& section, std::string_view field) {
  return section.Has(field) && !section.IsUnknown(field);
}

// An entry of a sink: what it does with one stream.
struct SinkEntry {
  const SinkConfig* sink;
  Section section;
};

class Linter {
 public:
  Linter(const PipelineConfig& config, const LoadOptions& options, Findings& findings)
      : config_(config), options_(options), findings_(findings) {
    for (const StreamConfig& stream : config.streams) {
      streams_[stream.name] = &stream;
    }
    for (const SinkConfig& sink : config.sinks) {
      for (Section& section : EntriesOf(sink)) {
        entries_.push_back({&sink, std::move(section)});
      }
    }
  }

  void Lint() {
    LintNames();
    LintSource();
    LintAdmin();
    for (const StreamConfig& stream : config_.streams) {
      LintInputs(stream);
      LintKey(stream);
      LintWindow(stream);
    }
    LintCycles();
    LintEntries();
    LintTargets();
    LintUnusedStreams();
    LintRetries();
    // Last: what a callback says must not follow from what was said before.
    LintSql();
    LintSinkTypes();
  }

 private:
  void Error(const Section& section, std::string_view field, const std::string& text,
             std::string code) {
    findings_.Error(section.LocationOf(field), section.PathOf(field) + ": " + text,
                    std::move(code));
  }

  void Warning(const Section& section, std::string_view field, const std::string& text,
               std::string code) {
    findings_.Warning(section.LocationOf(field), section.PathOf(field) + ": " + text,
                      std::move(code));
  }

  std::vector<Section> EntriesOf(const SinkConfig& sink) const {
    std::vector<Section> entries;
    for (const SinkTypeSpec& type : options_.sink_types) {
      if (type.type != sink.type) {
        continue;
      }
      for (const FieldSpec& field : type.fields) {
        const bool names_streams =
            field.type == FieldType::kSectionList &&
            std::any_of(field.fields.begin(), field.fields.end(),
                        [](const FieldSpec& inner) { return inner.name == "stream"; });
        if (names_streams && sink.section.Knows(field.name)) {
          for (Section& entry : sink.section.GetSectionList(field.name)) {
            entries.push_back(std::move(entry));
          }
        }
      }
    }
    return entries;
  }

  void LintNames() {
    const Section& file = config_.section;
    if (IsGiven(file, "pipeline") && !IsPipelineName(config_.pipeline)) {
      Error(file, "pipeline", "must match [a-z][a-z0-9_]{0,39}", "bad-name");
    }
    for (size_t i = 0; i < config_.streams.size(); ++i) {
      if (!IsStreamName(config_.streams[i].name)) {
        findings_.Error(file.LocationOf("streams", i),
                        "streams: a stream's name must match [A-Za-z_][A-Za-z0-9_]{0,62}",
                        "bad-name");
      }
    }
    for (const SinkConfig& sink : config_.sinks) {
      if (!IsSinkName(sink.name)) {
        findings_.Error(sink.section.location(),
                        "sinks: a sink's name must match [A-Za-z_][A-Za-z0-9_-]{0,62}", "bad-name");
      }
    }
  }

  void LintSource() {
    const Section& section = config_.source.section;
    std::set<std::string> seen;
    for (size_t i = 0; i < config_.source.tables.size() && !section.IsUnknown("tables"); ++i) {
      const std::string& table = config_.source.tables[i];
      const std::string path = section.PathOf("tables") + "[" + std::to_string(i) + "]: ";
      if (!TablePattern::Parse(table)) {
        findings_.Error(section.LocationOf("tables", i),
                        path +
                            "is no table; write schema.table, with quotes around parts of other "
                            "characters: '\"My Schema\".\"Table\"'",
                        "bad-table-name");
      } else if (!seen.insert(table).second) {
        findings_.Warning(section.LocationOf("tables", i), path + "is listed twice",
                          "duplicate-table");
      }
    }
    if (!section.Knows("slot")) {
      return;
    }
    if (IsGiven(section, "slot") && !IsSlotName(config_.source.slot)) {
      Error(section, "slot", "must be 1 to 63 of a-z, 0-9 and _", "bad-name");
    }
    if (IsGiven(section, "publication") &&
        (config_.source.publication.empty() || config_.source.publication.size() > 63)) {
      Error(section, "publication", "must have 1 to 63 bytes", "bad-name");
    }
    if (config_.source.confirm == ConfirmPolicy::kBackedUp && !config_.section.Has("backup")) {
      Error(section, "confirm", "'backed_up' needs a `backup` section", "backup-missing");
    }
  }

  void LintAdmin() {
    const Section& admin = config_.admin.section;
    if (admin.IsUnknown("listen")) {
      return;
    }
    if (!ParseListenAddress(admin.GetString("listen"))) {
      Error(admin, "listen", "expected host:port, such as 127.0.0.1:7070 or [::1]:7070",
            "bad-address");
    } else if (!IsLoopback(config_.admin.host) && !admin.IsUnknown("token") &&
               config_.admin.token.empty()) {
      Error(admin, "token",
            "required, because `listen` is not a loopback address; write token: "
            "${env:MILLRACE_TOKEN}",
            "token-missing");
    }
  }

  void LintInputs(const StreamConfig& stream) {
    if (IsGiven(stream.section, "from")) {
      LintInput(stream, stream.from, stream.section.PathOf("from"));
    }
    if (!IsGiven(stream.section, "lookup")) {
      return;
    }
    std::set<std::string> seen;
    for (size_t i = 0; i < stream.lookups.size(); ++i) {
      const StreamInput& lookup = stream.lookups[i];
      const std::string path = stream.section.PathOf("lookup") + "[" + std::to_string(i) + "]";
      if (!LintInput(stream, lookup, path)) {
        continue;
      }
      const std::string name = lookup.is_stream() ? lookup.stream : lookup.table.ToString();
      if (!seen.insert(name).second) {
        findings_.Error(lookup.location, path + ": is listed twice", "duplicate-lookup");
      }
    }
    if (stream.is_mirror() && !stream.lookups.empty() && !stream.section.IsUnknown("sql")) {
      Error(stream.section, "lookup", "has no use without `sql`; a mirror joins nothing",
            "lookup-without-sql");
    }
  }

  // Returns whether the input is good.
  bool LintInput(const StreamConfig& stream, const StreamInput& input, const std::string& path) {
    const auto error = [&](const std::string& text, std::string code) {
      findings_.Error(input.location, path + ": " + text, std::move(code));
      return false;
    };
    const bool tables_are_known = !config_.source.section.IsUnknown("tables");
    const auto& patterns = config_.source.table_patterns;
    if (input.is_stream()) {
      const TableName table = ParseTableName(input.text).value_or(TableName{});
      for (const TablePattern& pattern : patterns) {
        if (pattern.exact() == table) {
          return error("'" + input.text + "' is a stream and a table; write " + table.ToString() +
                           " for the table, or give the stream another name",
                       "ambiguous-name");
        }
      }
      return true;
    }
    if (input.table.name.empty()) {
      return error("is no table or stream; a table is written schema.table", "bad-table-name");
    }
    const bool is_listed =
        std::any_of(patterns.begin(), patterns.end(),
                    [&](const TablePattern& pattern) { return pattern.Matches(input.table); });
    if (is_listed || !tables_are_known) {
      return true;
    }
    if (input.text == stream.name) {
      return error("a stream cannot read itself", "cycle");
    }
    std::vector<std::string> candidates;
    for (const StreamConfig& other : config_.streams) {
      candidates.push_back(other.name);
    }
    for (const TablePattern& pattern : patterns) {
      if (pattern.exact()) {
        candidates.push_back(pattern.exact()->ToString());
        candidates.push_back(pattern.exact()->name);
      }
    }
    return error(
        "no such table in source.tables and no such stream" + Suggest(input.text, candidates),
        "unknown-input");
  }

  void LintKey(const StreamConfig& stream) {
    const Section& section = stream.section;
    if (section.IsUnknown("sql") || section.IsUnknown("key")) {
      return;
    }
    if (section.Has("sql") && stream.sql.find_first_not_of(" \t\r\n") == std::string::npos) {
      Error(section, "sql", "is empty; leave it out for a mirror", "empty-sql");
      return;
    }
    if (stream.is_mirror()) {
      if (!stream.key.empty()) {
        Warning(section, "key", "has no use without `sql`; a mirror's key is its table's",
                "unused-field");
      }
      return;
    }
    if (stream.key.empty() && !stream.append_only && !section.IsUnknown("append_only")) {
      Error(section, "key",
            "required, because it addresses the rows that `sql` gives; name the columns, or say "
            "append_only: true",
            "key-missing");
    }
    std::set<std::string> seen;
    for (size_t i = 0; i < stream.key.size(); ++i) {
      if (!seen.insert(stream.key[i]).second) {
        findings_.Error(section.LocationOf("key", i),
                        section.PathOf("key") + "[" + std::to_string(i) + "]: is listed twice",
                        "duplicate-column");
      }
    }
  }

  void LintWindow(const StreamConfig& stream) {
    const Section& section = stream.section;
    if (!stream.has_window) {
      if (IsGiven(section, "emit") && stream.emit == Emit::kClose) {
        Error(section, "emit", "'close' needs a `window`", "emit-without-window");
      }
      return;
    }
    if (section.IsUnknown("window")) {
      return;
    }
    if (stream.is_mirror() && !section.IsUnknown("sql")) {
      Error(section, "window", "needs `sql` that gives totals", "window-without-sql");
    }
    const Section window = section.GetSection("window");
    const int shapes = (window.Has("hop") ? 1 : 0) + (window.Has("tumble") ? 1 : 0) +
                       (window.Has("session") ? 1 : 0);
    if (shapes != 1) {
      Error(section, "window", "needs exactly one of hop, tumble and session", "window-shape");
    }
    if (!window.Has("time") || (IsGiven(window, "time") && window.GetString("time").empty())) {
      Error(section, "window", "needs `time`, the column that holds the event time",
            "window-without-time");
    }
    if (window.Has("hop") && !window.Has("size")) {
      Error(section, "window", "hop needs `size`, the length of a window", "window-size");
    } else if (window.Has("size") && !window.Has("hop") && shapes == 1) {
      Error(window, "size", "belongs to hop; the others are their own size", "window-size");
    } else if (IsGiven(window, "hop") && IsGiven(window, "size") &&
               window.GetDuration("size") < window.GetDuration("hop")) {
      Error(window, "size", "is shorter than hop: rows between two windows would be in none",
            "window-size");
    }
  }

  void LintCycles() {
    std::set<std::string> done;
    for (const StreamConfig& stream : config_.streams) {
      std::vector<std::string> path;
      Visit(stream, path, done);
    }
  }

  // Streams are as deep as they are many, which the size of the file bounds; so recursion is by
  // hand-kept path and stops at what is done.
  void Visit(const StreamConfig& start, std::vector<std::string>& path,
             std::set<std::string>& done) {
    struct Step {
      const StreamConfig* stream;
      std::vector<std::string> inputs;
      size_t next = 0;
    };
    const auto make_step = [](const StreamConfig& stream) {
      Step step{&stream, {}, 0};
      if (stream.from.is_stream()) {
        step.inputs.push_back(stream.from.stream);
      }
      for (const StreamInput& lookup : stream.lookups) {
        if (lookup.is_stream()) {
          step.inputs.push_back(lookup.stream);
        }
      }
      return step;
    };
    if (done.contains(start.name)) {
      return;
    }
    std::vector<Step> steps = {make_step(start)};
    path.push_back(start.name);
    while (!steps.empty()) {
      Step& step = steps.back();
      if (step.next == step.inputs.size()) {
        done.insert(step.stream->name);
        path.pop_back();
        steps.pop_back();
        continue;
      }
      const std::string input = step.inputs[step.next++];
      const auto on_path = std::find(path.begin(), path.end(), input);
      if (on_path != path.end()) {
        ReportCycle({on_path, path.end()}, *step.stream);
      } else if (!done.contains(input)) {
        path.push_back(input);
        steps.push_back(make_step(*streams_.at(input)));
      }
    }
  }

  void ReportCycle(const std::vector<std::string>& cycle, const StreamConfig& at) {
    std::string text = "streams read each other in a circle: ";
    for (const std::string& name : cycle) {
      text += name + " <- ";
    }
    Error(at.section, "from", text + cycle.front(), "cycle");
  }

  void LintEntries() {
    std::vector<std::string> names;
    for (const StreamConfig& stream : config_.streams) {
      names.push_back(stream.name);
    }
    for (const SinkEntry& entry : entries_) {
      if (!IsGiven(entry.section, "stream")) {
        continue;
      }
      const std::string name = entry.section.GetString("stream");
      const auto found = streams_.find(name);
      if (found == streams_.end()) {
        Error(entry.section, "stream",
              "there is no stream" + QuoteIfPlain(name) + Suggest(name, names), "unknown-stream");
        continue;
      }
      LintEarlyResults(entry, *found->second);
    }
  }

  // A target that keeps every output shows a window's early results beside its final one.
  void LintEarlyResults(const SinkEntry& entry, const StreamConfig& stream) {
    const bool is_total = stream.has_window || HasGroupBy(stream.sql);
    if (!is_total || stream.emit == Emit::kClose) {
      return;
    }
    for (const std::string_view field : {"xadd", "topic"}) {
      if (entry.section.Knows(field) && entry.section.Has(field)) {
        Warning(
            entry.section, field,
            "keeps every output, and '" + stream.name +
                "' gives early results; a stream with `window` and emit: close gives final ones",
            "early-results");
      }
    }
  }

  // Where an entry writes: a word for the kind and the name. Nothing if it is not known.
  static std::optional<std::pair<std::string_view, std::string>> TargetOf(const Section& entry) {
    for (const std::string_view field : {"table", "topic"}) {
      if (!entry.Knows(field) || entry.IsUnknown(field)) {
        continue;
      }
      return std::pair(field, entry.GetString(entry.Has(field) ? field : "stream"));
    }
    for (const std::string_view field : {"xadd", "zadd", "hset", "set"}) {
      if (entry.Knows(field) && IsGiven(entry, field)) {
        return std::pair(field, entry.GetString(field));
      }
    }
    return std::nullopt;
  }

  // Tells servers apart; the sink's own name where what it connects to is not known.
  static std::string ServerOf(const SinkConfig& sink) {
    std::string server = sink.type;
    for (const std::string_view field : {"url", "brokers", "database"}) {
      if (!sink.section.Knows(field)) {
        continue;
      }
      if (sink.section.IsUnknown(field)) {
        return "sink " + sink.name;
      }
      server += '\n';
      if (field != "brokers") {
        server += sink.section.GetString(field);
      }
    }
    return server;
  }

  void LintTargets() {
    std::map<std::pair<std::string, std::string>, std::string> seen;
    for (const SinkEntry& entry : entries_) {
      const auto target = TargetOf(entry.section);
      if (!target || !IsGiven(entry.section, "stream")) {
        continue;
      }
      // Every kind of key shares one name space.
      const std::string kind =
          target->first == "table" || target->first == "topic" ? std::string(target->first) : "key";
      const std::string server =
          entry.sink->type == "kafka" ? "sink " + entry.sink->name : ServerOf(*entry.sink);
      const auto [first, is_new] =
          seen.try_emplace({server, kind + "\n" + target->second}, entry.section.path());
      if (!is_new) {
        const std::string_view field =
            entry.section.Has(target->first) ? target->first : std::string_view("stream");
        Error(entry.section, field, "the same target as of " + first->second, "duplicate-target");
      }
    }
  }

  void LintUnusedStreams() {
    if (HasErrorsUnder(findings_, "sinks") || config_.sinks.empty()) {
      return;
    }
    std::set<std::string> used;
    for (const SinkEntry& entry : entries_) {
      if (entry.section.IsUnknown("stream")) {
        return;
      }
      used.insert(entry.section.GetString("stream"));
    }
    for (const StreamConfig& stream : config_.streams) {
      used.insert(stream.from.stream);
      for (const StreamInput& lookup : stream.lookups) {
        used.insert(lookup.stream);
      }
    }
    for (const StreamConfig& stream : config_.streams) {
      if (!used.contains(stream.name)) {
        findings_.Warning(stream.section.location(),
                          stream.section.path() + ": no sink and no stream reads it",
                          "unused-stream");
      }
    }
  }

  void LintRetries() {
    for (const SinkConfig& sink : config_.sinks) {
      const Section retry = sink.section.GetSection("retry");
      if (!retry.IsUnknown("wait_min") && !retry.IsUnknown("wait_max") &&
          sink.retry_wait_min > sink.retry_wait_max) {
        Error(retry, retry.Has("wait_min") ? "wait_min" : "wait_max",
              "wait_min is longer than wait_max", "retry-waits");
      }
    }
  }

  void LintSql() {
    if (!options_.check_sql) {
      return;
    }
    for (const StreamConfig& stream : config_.streams) {
      if (!stream.is_mirror() && !stream.section.IsUnknown("sql") &&
          !HasErrorsUnder(findings_, stream.section.path())) {
        AddUnlessCaused(stream.section.path(),
                        [&](Findings& found) { options_.check_sql(stream, found); });
      }
    }
  }

  void LintSinkTypes() {
    std::vector<StreamOutline> outlines;
    for (const StreamConfig& stream : config_.streams) {
      outlines.push_back({.name = stream.name,
                          .is_mirror = stream.is_mirror(),
                          .key = stream.key,
                          .append_only = stream.append_only,
                          .is_windowed = stream.has_window,
                          .is_known = !HasErrorsUnder(findings_, stream.section.path()) &&
                                      !stream.section.IsUnknown("key") &&
                                      !stream.section.IsUnknown("sql") &&
                                      !stream.section.IsUnknown("append_only")});
    }
    for (const SinkConfig& sink : config_.sinks) {
      for (const SinkTypeSpec& type : options_.sink_types) {
        if (type.type == sink.type && type.lint && IsSinkName(sink.name) &&
            !HasErrorsUnder(findings_, sink.section.path())) {
          AddUnlessCaused(sink.section.path(),
                          [&](Findings& found) { type.lint(sink.section, outlines, found); });
        }
      }
    }
  }

  // Adds what `lint` finds, but for findings about values that have one: these follow from it. A
  // text that does not say what it is about gets `path` in front.
  template <typename Lint>
  void AddUnlessCaused(const std::string& path, Lint lint) {
    std::set<std::pair<int, int>> judged;
    for (const Finding& finding : findings_.all()) {
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
      findings_.Add(std::move(finding));
    }
  }

  const PipelineConfig& config_;
  const LoadOptions& options_;
  Findings& findings_;
  std::map<std::string, const StreamConfig*> streams_;
  std::vector<SinkEntry> entries_;
};

}  // namespace

std::optional<std::pair<std::string, int>> ParseListenAddress(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return std::nullopt;
  }
  std::string_view host = text.substr(0, colon);
  const std::optional<int64_t> port = ParseInteger(text.substr(colon + 1));
  if (!port || *port < 0 || *port > 65535) {
    return std::nullopt;
  }
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":[] /") != std::string_view::npos) {
    return std::nullopt;
  }
  return std::pair(std::string(host), static_cast<int>(*port));
}

bool IsLoopback(std::string_view host) {
  // Only numbers in dots: 127.example.com is another host.
  const bool is_ipv4 =
      std::all_of(host.begin(), host.end(), [](char c) { return IsDigit(c) || c == '.'; });
  return host == "localhost" || host == "::1" || (is_ipv4 && host.starts_with("127."));
}

void LintPipeline(const PipelineConfig& config, const LoadOptions& options, Findings& findings) {
  Linter(config, options, findings).Lint();
}

}  // namespace millrace::config
