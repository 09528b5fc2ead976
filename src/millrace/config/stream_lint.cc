// SPDX-License-Identifier: Apache-2.0
// The rules of streams: inputs, keys, windows, circles, SQL.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "millrace/config/lint_context.h"
#include "millrace/config/scalar_text.h"

namespace millrace::config {

namespace {

class StreamLinter {
 public:
  explicit StreamLinter(LintContext& context) : context_(context) {
    for (const StreamConfig& stream : context.config.streams) {
      streams_[stream.name] = &stream;
    }
  }

  void Lint() {
    for (size_t i = 0; i < context_.config.streams.size(); ++i) {
      const StreamConfig& stream = context_.config.streams[i];
      if (!IsStreamName(stream.name)) {
        context_.findings.Error(context_.config.section.LocationOf("streams", i),
                                "streams: a stream's name must match [A-Za-z_][A-Za-z0-9_]{0,62}",
                                "bad-name");
      }
      LintInputs(stream);
      LintKey(stream);
      LintWindow(stream);
    }
    LintCycles();
    // Last: what it says must not follow from what was said before.
    LintSql();
  }

 private:
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
        context_.findings.Error(lookup.location, path + ": is listed twice", "duplicate-lookup");
      }
    }
    if (stream.is_mirror() && !stream.lookups.empty() && !stream.section.IsUnknown("sql")) {
      context_.Error(stream.section, "lookup", "has no use without `sql`; a mirror joins nothing",
                     "lookup-without-sql");
    }
  }

  // Returns whether the input is good.
  bool LintInput(const StreamConfig& stream, const StreamInput& input, const std::string& path) {
    const auto error = [&](const std::string& text, std::string code) {
      context_.findings.Error(input.location, path + ": " + text, std::move(code));
      return false;
    };
    const bool tables_are_known = !context_.config.source.section.IsUnknown("tables");
    const auto& patterns = context_.config.source.table_patterns;
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
    for (const StreamConfig& other : context_.config.streams) {
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
      context_.Error(section, "sql", "is empty; leave it out for a mirror", "empty-sql");
      return;
    }
    if (stream.is_mirror()) {
      if (!stream.key.empty()) {
        context_.Warning(section, "key", "has no use without `sql`; a mirror's key is its table's",
                         "unused-field");
      }
      return;
    }
    if (stream.key.empty() && !stream.append_only && !section.IsUnknown("append_only")) {
      context_.Error(
          section, "key",
          "required, because it addresses the rows that `sql` gives; name the columns, or say "
          "append_only: true",
          "key-missing");
    }
    std::set<std::string> seen;
    for (size_t i = 0; i < stream.key.size(); ++i) {
      if (!seen.insert(stream.key[i]).second) {
        context_.findings.Error(
            section.LocationOf("key", i),
            section.PathOf("key") + "[" + std::to_string(i) + "]: is listed twice",
            "duplicate-column");
      }
    }
  }

  void LintWindow(const StreamConfig& stream) {
    const Section& section = stream.section;
    if (!stream.has_window) {
      if (IsGiven(section, "emit") && stream.emit == Emit::kClose) {
        context_.Error(section, "emit", "'close' needs a `window`", "emit-without-window");
      }
      return;
    }
    if (section.IsUnknown("window")) {
      return;
    }
    if (stream.is_mirror() && !section.IsUnknown("sql")) {
      context_.Error(section, "window", "needs `sql` that gives totals", "window-without-sql");
    }
    const Section window = section.GetSection("window");
    const int shapes = (window.Has("hop") ? 1 : 0) + (window.Has("tumble") ? 1 : 0) +
                       (window.Has("session") ? 1 : 0);
    const bool is_misspelled =
        window.IsUnknown("hop") || window.IsUnknown("tumble") || window.IsUnknown("session");
    if (shapes != 1 && !is_misspelled) {
      context_.Error(section, "window", "needs exactly one of hop, tumble and session",
                     "window-shape");
    }
    if (!window.IsUnknown("time") && window.GetString("time").empty()) {
      context_.Error(section, "window", "needs `time`, the column that holds the event time",
                     "window-without-time");
    }
    if (window.Has("hop") && !window.Has("size") && !window.IsUnknown("size")) {
      context_.Error(section, "window", "hop needs `size`, the length of a window", "window-size");
    } else if (window.Has("size") && !window.Has("hop") && shapes == 1) {
      context_.Error(window, "size", "belongs to hop; the others are their own size",
                     "window-size");
    } else if (IsGiven(window, "hop") && IsGiven(window, "size") &&
               window.GetDuration("size") < window.GetDuration("hop")) {
      context_.Error(window, "size",
                     "is shorter than hop: rows between two windows would be in none",
                     "window-size");
    }
  }

  void LintCycles() {
    std::set<std::string> done;
    for (const StreamConfig& stream : context_.config.streams) {
      std::vector<std::string> path;
      Visit(stream, path, done);
    }
  }

  // Follows the inputs of `start`, depth first, without recursion: a chain may have as many streams
  // as the file.
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
    context_.Error(at.section, "from", text + cycle.front(), "cycle");
  }

  void LintSql() {
    if (!context_.options.check_sql) {
      return;
    }
    for (const StreamConfig& stream : context_.config.streams) {
      if (!stream.is_mirror() && !stream.section.IsUnknown("sql") &&
          !context_.HasErrorsUnder(stream.section.path())) {
        context_.AddUnlessCaused(stream.section.path(), [&](Findings& found) {
          context_.options.check_sql(stream, found);
        });
      }
    }
  }

  LintContext& context_;
  std::map<std::string, const StreamConfig*> streams_;
};

}  // namespace

void LintStreams(LintContext& context) { StreamLinter(context).Lint(); }

}  // namespace millrace::config
