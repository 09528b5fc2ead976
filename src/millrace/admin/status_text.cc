// SPDX-License-Identifier: Apache-2.0
#include "millrace/admin/status_text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "millrace/model/lsn.h"

namespace millrace::admin {
namespace {

using pipeline::StatusSnapshot;

// Errors longer than this are cut in the first line; below they stand in full.
constexpr size_t kSentenceErrorMax = 120;

std::string Printable(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n' || c == '\t' || c == '\r') {
      safe += ' ';
    } else if (byte < 0x20 || byte == 0x7f) {
      safe += fmt::format("\\x{:02x}", byte);
    } else {
      safe += c;
    }
  }
  return safe;
}

std::string Shorten(std::string_view text, size_t size_max) {
  std::string safe = Printable(text);
  if (safe.size() > size_max) {
    safe.resize(size_max);
    // Not within a UTF-8 character.
    while (!safe.empty() && (static_cast<unsigned char>(safe.back()) & 0x80) != 0) {
      safe.pop_back();
    }
    safe += "...";
  }
  return safe;
}

std::string TypeName(const std::string& type) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kNames = {
      {{"clickhouse", "ClickHouse"}, {"redis", "Redis"}, {"kafka", "Kafka"}}};
  for (const auto& [name, shown] : kNames) {
    if (type == name) {
      return std::string(shown);
    }
  }
  return Printable(type);
}

bool IsDown(const StatusSnapshot::Sink& sink) {
  return sink.state == "retrying" || sink.state == "stopped" || sink.state == "parked" ||
         (sink.state == "connecting" && !sink.last_error.empty());
}

std::string Rows(uint64_t count) { return FormatCount(count) + (count == 1 ? " row" : " rows"); }

std::string Waiting(uint64_t count) {
  return count == 0 ? "No row waits" : Rows(count) + (count == 1 ? " waits" : " wait");
}

std::string DownSentence(const std::vector<const StatusSnapshot::Sink*>& down) {
  const StatusSnapshot::Sink& sink = *down.front();
  std::string others;
  if (down.size() > 1) {
    others = fmt::format(" {} more {} down, see below.", down.size() - 1,
                         down.size() == 2 ? "sink is" : "sinks are");
  }
  if (sink.state == "parked") {
    return fmt::format(
        "{} sink '{}' is parked: it gave up its backlog; run `millrace replay --sink {}`.{}",
        TypeName(sink.type), Printable(sink.name), Printable(sink.name), others);
  }
  const std::string error =
      sink.last_error.empty() ? "" : ": " + Shorten(sink.last_error, kSentenceErrorMax);
  return fmt::format("{} sink '{}' {}{}. {}.{}", TypeName(sink.type), Printable(sink.name),
                     sink.state == "stopped" ? "has stopped" : "is down", error,
                     Waiting(sink.lag_rows), others);
}

std::string Rate(double rows_per_second) {
  return FormatCount(static_cast<uint64_t>(std::llround(std::max(rows_per_second, 0.0))));
}

std::string FlowSentence(const StatusSnapshot& status) {
  double delivered = 0;
  uint64_t waiting = 0;
  double behind = status.source.lag_seconds;
  for (const StatusSnapshot::Sink& sink : status.sinks) {
    delivered += sink.rows_per_second;
    waiting += sink.lag_rows;
    behind = std::max(behind, sink.lag_seconds);
  }
  if (status.source.rows_per_second < 0.5 && delivered < 0.5 && waiting == 0) {
    return "Idle: everything is delivered, waiting for changes.";
  }
  return fmt::format("Flowing: {} changes/s read, {} rows/s delivered, {} behind.",
                     Rate(status.source.rows_per_second), Rate(delivered), FormatSeconds(behind));
}

std::string MainSentence(const StatusSnapshot& status) {
  const StatusSnapshot::Source& source = status.source;
  if (status.state == "stopping") {
    return "Stopping: what is accepted is being delivered.";
  }
  if (!source.connected && !source.last_error.empty()) {
    return fmt::format("The source is down: {}. Nothing is read until it is back.",
                       Shorten(source.last_error, kSentenceErrorMax));
  }
  std::vector<const StatusSnapshot::Sink*> down;
  for (const StatusSnapshot::Sink& sink : status.sinks) {
    if (IsDown(sink)) {
      down.push_back(&sink);
    }
  }
  if (!down.empty()) {
    return DownSentence(down);
  }
  if (status.state == "snapshot" || source.snapshot == "running") {
    return fmt::format(
        "Reading the tables: {} so far, {} rows/s{}.", Rows(source.snapshot_rows),
        Rate(source.snapshot_rows_per_second),
        source.snapshot_seconds_left
            ? fmt::format(", about {} left", FormatSeconds(*source.snapshot_seconds_left))
            : "");
  }
  if (status.state == "catching_up") {
    return fmt::format("Catching up: {} of WAL and {} behind, {} changes/s.",
                       FormatByteSize(source.lag_bytes), FormatSeconds(source.lag_seconds),
                       Rate(source.rows_per_second));
  }
  if (!status.ready) {
    const std::string state =
        status.state == "starting" || status.state.empty() ? "Starting" : "Not ready";
    return status.not_ready_reason.empty()
               ? state + "."
               : fmt::format("{}: {}", state, Shorten(status.not_ready_reason, 200));
  }
  return FlowSentence(status);
}

// A table whose first `left` columns are aligned left, the others right. The first row is the head.
std::string AlignTable(const std::vector<std::vector<std::string>>& rows, size_t left) {
  std::vector<size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += i < left ? fmt::format("{:<{}}", row[i], widths[i])
                       : fmt::format("{:>{}}", row[i], widths[i]);
      line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string StreamTable(const StatusSnapshot& status) {
  std::vector<std::vector<std::string>> rows = {{"STREAM", "ROWS", "DEAD LETTERS", "STATE"}};
  for (const StatusSnapshot::Stream& stream : status.streams) {
    rows.push_back({Printable(stream.name), FormatCount(stream.rows),
                    FormatCount(stream.dead_letters), FormatByteSize(stream.state_bytes)});
  }
  return AlignTable(rows, 1);
}

std::string SinkTable(const StatusSnapshot& status) {
  std::vector<std::vector<std::string>> rows = {
      {"SINK", "TYPE", "STATE", "ROWS", "ROWS/S", "WAITING", "BEHIND"}};
  for (const StatusSnapshot::Sink& sink : status.sinks) {
    rows.push_back({Printable(sink.name), Printable(sink.type), Printable(sink.state),
                    FormatCount(sink.rows), Rate(sink.rows_per_second), FormatCount(sink.lag_rows),
                    FormatSeconds(sink.lag_seconds)});
  }
  return AlignTable(rows, 3);
}

std::string ErrorList(const StatusSnapshot& status) {
  std::string text;
  for (const StatusSnapshot::Source::PausedTable& paused : status.source.paused_tables) {
    text += fmt::format("paused: {}\n", Printable(paused.reason));
  }
  for (const StatusSnapshot::Source::PausedTable& left_out : status.source.left_out_tables) {
    text += fmt::format("left out: {}\n", Printable(left_out.reason));
  }
  if (!status.source.last_error.empty()) {
    text += fmt::format("source: {}\n", Printable(status.source.last_error));
  }
  for (const StatusSnapshot::Sink& sink : status.sinks) {
    if (!sink.last_error.empty()) {
      text += fmt::format("sink {}: {}\n", Printable(sink.name), Printable(sink.last_error));
    }
  }
  return text.empty() ? "" : "\nLast errors\n" + text;
}

}  // namespace

std::string FormatCount(uint64_t count) {
  std::string text = std::to_string(count);
  for (size_t i = text.size(); i > 3; i -= 3) {
    text.insert(i - 3, 1, ',');
  }
  return text;
}

std::string FormatByteSize(uint64_t bytes) {
  constexpr std::array<const char*, 4> kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) {
    return fmt::format("{} B", bytes);
  }
  double size = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (size >= 1023.95 && unit + 1 < kUnits.size()) {
    size /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", size, kUnits[unit]);
}

std::string FormatSeconds(double seconds) {
  if (!(seconds > 0)) {
    return "0.0 s";
  }
  if (seconds < 59.95) {
    return fmt::format("{:.1f} s", seconds);
  }
  const auto whole = static_cast<uint64_t>(std::llround(std::min(seconds, 1e12)));
  if (whole < 3600) {
    return fmt::format("{} min {} s", whole / 60, whole % 60);
  }
  if (whole < 86400) {
    return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
  }
  return fmt::format("{} d {} h", whole / 86400, whole % 86400 / 3600);
}

std::string RenderStatusSentence(const StatusSnapshot& status) {
  std::string sentence = MainSentence(status);
  uint64_t dead_letters = 0;
  for (const StatusSnapshot::Stream& stream : status.streams) {
    dead_letters += stream.dead_letters;
  }
  if (dead_letters != 0) {
    sentence += fmt::format(" {} in the dead letter queue.", Rows(dead_letters));
  }
  return sentence;
}

std::string RenderStatusText(const StatusSnapshot& status) {
  const StatusSnapshot::Source& source = status.source;
  std::string text = RenderStatusSentence(status) + "\n\n";
  text += fmt::format("pipeline  {}   {}, {}   output log {}\n", Printable(status.pipeline),
                      Printable(status.state), status.ready ? "ready" : "not ready",
                      FormatByteSize(status.output_log_bytes));
  text += fmt::format("source    slot {}   confirmed {}   snapshot {}\n", Printable(source.slot),
                      FormatLsn(source.confirmed_lsn), Printable(source.snapshot));
  text += fmt::format("          {}, {} behind   WAL held {}\n", FormatByteSize(source.lag_bytes),
                      FormatSeconds(source.lag_seconds), FormatByteSize(source.retained_wal_bytes));
  for (const StatusSnapshot::Reading& reading : source.tables) {
    if (reading.state != "done") {
      text += fmt::format("          {} {}: {} of about {}\n", Printable(reading.name),
                          Printable(reading.state), FormatCount(reading.rows),
                          Rows(reading.rows_estimated));
    }
  }
  if (!status.streams.empty()) {
    text += "\n" + StreamTable(status);
  }
  if (!status.sinks.empty()) {
    text += "\n" + SinkTable(status);
  }
  return text + ErrorList(status);
}

}  // namespace millrace::admin
