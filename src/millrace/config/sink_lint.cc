// SPDX-License-Identifier: Apache-2.0
// The rules of sinks: the streams that they name, sorting keys, targets, and those of each type.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "millrace/config/lint_context.h"
#include "millrace/config/scalar_text.h"
#include "millrace/config/sql_words.h"

namespace millrace::config {

namespace {

// An entry of a sink: what it does with one stream.
struct SinkEntry {
  const SinkConfig* sink;
  Section section;
};

class SinkLinter {
 public:
  explicit SinkLinter(LintContext& context) : context_(context) {
    for (const StreamConfig& stream : context.config.streams) {
      streams_[stream.name] = &stream;
    }
    for (const SinkConfig& sink : context.config.sinks) {
      for (Section& section : EntriesOf(sink)) {
        entries_.push_back({&sink, std::move(section)});
      }
    }
  }

  void Lint() {
    for (const SinkConfig& sink : context_.config.sinks) {
      if (!IsSinkName(sink.name)) {
        context_.findings.Error(sink.section.location(),
                                "sinks: a sink's name must match [A-Za-z_][A-Za-z0-9_-]{0,62}",
                                "bad-name");
      }
    }
    LintEntries();
    LintStreamLists();
    LintTargets();
    LintUnusedStreams();
    LintRetries();
    // Last: what it says must not follow from what was said before.
    LintSinkTypes();
  }

 private:
  std::vector<Section> EntriesOf(const SinkConfig& sink) const {
    std::vector<Section> entries;
    for (const SinkTypeSpec& type : context_.options.sink_types) {
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

  void LintEntries() {
    std::vector<std::string> names;
    for (const StreamConfig& stream : context_.config.streams) {
      names.push_back(stream.name);
    }
    for (const SinkEntry& entry : entries_) {
      if (!IsGiven(entry.section, "stream")) {
        continue;
      }
      const std::string name = entry.section.GetString("stream");
      const auto found = streams_.find(name);
      if (found == streams_.end()) {
        context_.Error(entry.section, "stream",
                       "there is no stream" + QuoteIfPlain(name) + Suggest(name, names),
                       "unknown-stream");
        continue;
      }
      LintEarlyResults(entry, *found->second);
      LintSortingKey(entry.section, *found->second);
    }
  }

  // `streams` of a sink that takes rows as they are.
  static bool HasStreamList(const SinkConfig& sink) {
    return sink.section.Knows("streams") && IsGiven(sink.section, "streams");
  }

  void LintStreamLists() {
    std::vector<std::string> names;
    for (const StreamConfig& stream : context_.config.streams) {
      names.push_back(stream.name);
    }
    for (const SinkConfig& sink : context_.config.sinks) {
      if (!HasStreamList(sink)) {
        continue;
      }
      const std::vector<std::string> listed = sink.section.GetStringList("streams");
      for (size_t i = 0; i < listed.size(); ++i) {
        if (!streams_.contains(listed[i])) {
          context_.findings.Error(sink.section.LocationOf("streams", i),
                                  sink.section.PathOf("streams") + "[" + std::to_string(i) +
                                      "]: there is no stream" + QuoteIfPlain(listed[i]) +
                                      Suggest(listed[i], names),
                                  "unknown-stream");
        }
      }
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
        context_.Warning(
            entry.section, field,
            "keeps every output, and '" + stream.name +
                "' gives early results; a stream with `window` and emit: close gives final ones",
            "early-results");
      }
    }
  }

  // In a table that replaces rows by its sorting key, rows of different keys must not have the same
  // one, and versions of a row must not fall into different partitions: they would merge or vanish.
  void LintSortingKey(const Section& entry, const StreamConfig& stream) {
    const bool is_judged = entry.Knows("order_by") && !entry.IsUnknown("order_by") &&
                           !stream.is_mirror() && !stream.append_only &&
                           !stream.section.IsUnknown("key") &&
                           !context_.HasErrorsUnder(stream.section.path());
    if (!is_judged) {
      return;
    }
    const std::vector<std::string> order_by =
        entry.Has("order_by") ? entry.GetStringList("order_by") : stream.key;
    const auto is_in_order = [&](const std::string& column) {
      return std::find(order_by.begin(), order_by.end(), column) != order_by.end();
    };
    for (const std::string& column : stream.key) {
      if (!is_in_order(column)) {
        context_.Error(entry, "order_by",
                       "must contain the key column" + QuoteIfPlain(column) +
                           " of the stream, or rows of different keys replace each other",
                       "order-by-without-key");
      }
    }
    if (!entry.Knows("partition_by") || !IsGiven(entry, "partition_by")) {
      return;
    }
    const std::optional<std::string> column = SoleColumn(entry.GetString("partition_by"));
    if (column && !is_in_order(*column)) {
      context_.Error(
          entry, "partition_by",
          "must use columns of order_by only, or versions of a row stay in different partitions",
          "partition-by-without-order");
    }
  }

  // The column of `column` and of `function(column)`. Other expressions are the sink's to judge,
  // with the stream's columns at hand.
  static std::optional<std::string> SoleColumn(std::string_view expression) {
    const size_t open = expression.find('(');
    if (open != std::string_view::npos) {
      if (!IsStreamName(expression.substr(0, open)) || !expression.ends_with(')')) {
        return std::nullopt;
      }
      expression = expression.substr(open + 1, expression.size() - open - 2);
    }
    return IsStreamName(expression) ? std::optional(std::string(expression)) : std::nullopt;
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
        context_.Error(entry.section, field, "the same target as of " + first->second,
                       "duplicate-target");
      }
    }
  }

  void LintUnusedStreams() {
    if (context_.HasErrorsUnder("sinks") || context_.config.sinks.empty()) {
      return;
    }
    std::set<std::string> used;
    for (const SinkEntry& entry : entries_) {
      if (entry.section.IsUnknown("stream")) {
        return;
      }
      used.insert(entry.section.GetString("stream"));
    }
    for (const SinkConfig& sink : context_.config.sinks) {
      if (HasStreamList(sink)) {
        const std::vector<std::string> listed = sink.section.GetStringList("streams");
        used.insert(listed.begin(), listed.end());
      } else if (sink.section.Knows("streams") && sink.section.IsUnknown("streams")) {
        return;
      }
    }
    for (const StreamConfig& stream : context_.config.streams) {
      used.insert(stream.from.stream);
      for (const StreamInput& lookup : stream.lookups) {
        used.insert(lookup.stream);
      }
    }
    for (const StreamConfig& stream : context_.config.streams) {
      if (!used.contains(stream.name)) {
        context_.findings.Warning(stream.section.location(),
                                  stream.section.path() + ": no sink and no stream reads it",
                                  "unused-stream");
      }
    }
  }

  void LintRetries() {
    for (const SinkConfig& sink : context_.config.sinks) {
      const Section retry = sink.section.GetSection("retry");
      if (!retry.IsUnknown("wait_min") && !retry.IsUnknown("wait_max") &&
          sink.retry_wait_min > sink.retry_wait_max) {
        context_.Error(retry, retry.Has("wait_min") ? "wait_min" : "wait_max",
                       "wait_min is longer than wait_max", "retry-waits");
      }
    }
  }

  void LintSinkTypes() {
    for (const SinkConfig& sink : context_.config.sinks) {
      for (const SinkTypeSpec& type : context_.options.sink_types) {
        if (type.type == sink.type && type.lint && IsSinkName(sink.name) &&
            !context_.HasErrorsUnder(sink.section.path())) {
          context_.AddUnlessCaused(sink.section.path(),
                                   [&](Findings& found) { type.lint(sink.section, found); });
        }
      }
    }
  }

  LintContext& context_;
  std::map<std::string, const StreamConfig*> streams_;
  std::vector<SinkEntry> entries_;
};

}  // namespace

void LintSinks(LintContext& context) { SinkLinter(context).Lint(); }

}  // namespace millrace::config
