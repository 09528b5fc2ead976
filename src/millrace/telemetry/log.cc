// SPDX-License-Identifier: Apache-2.0
#include "millrace/telemetry/log.h"

#include <cmath>
#include <map>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include "millrace/common/mutex.h"
#include "millrace/telemetry/fd_writer.h"
#include "millrace/telemetry/log_backend.h"

namespace millrace::telemetry {
namespace {

// Longer values are cut, so that one peer's error page cannot fill a disk.
constexpr size_t kValueBytesMax = 8192;
constexpr std::chrono::milliseconds kStderrWaitMax{100};

std::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return "trace";
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  return static_cast<spdlog::level::level_enum>(level);
}
static_assert(static_cast<int>(LogLevel::kTrace) == spdlog::level::trace);
static_assert(static_cast<int>(LogLevel::kError) == spdlog::level::err);

// The length of the UTF-8 character that `text` begins with, 0 if there is none or it is a control
// character (those of C1 included, which move a terminal's cursor as escape sequences do).
size_t PrintableLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    return first >= 0x20 && first != 0x7f ? 1 : 0;
  }
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) {
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) {
      return 0;
    }
  }
  const unsigned char second = byte(1);
  if ((first == 0xc2 && second < 0xa0) || (first == 0xe0 && second < 0xa0) ||
      (first == 0xed && second >= 0xa0) || (first == 0xf0 && second < 0x90) ||
      (first == 0xf4 && second >= 0x90)) {
    return 0;
  }
  return length;
}

// Appends `text` with quotes, backslashes and what is not printable escaped.
void AppendEscaped(std::string& line, std::string_view text) {
  while (!text.empty()) {
    const size_t length = PrintableLength(text);
    const char c = text.front();
    if (length == 0) {
      switch (c) {
        case '\n':
          line += "\\n";
          break;
        case '\r':
          line += "\\r";
          break;
        case '\t':
          line += "\\t";
          break;
        default:
          fmt::format_to(std::back_inserter(line), "\\x{:02x}", static_cast<unsigned char>(c));
      }
      text.remove_prefix(1);
      continue;
    }
    if (c == '"' || c == '\\') {
      line += '\\';
    }
    line += text.substr(0, length);
    text.remove_prefix(length);
  }
}

bool IsPlain(std::string_view text) {
  if (text.empty()) {
    return false;
  }
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= ' ' || byte >= 0x7f || c == '"' || c == '\\' || c == '=') {
      return false;
    }
  }
  return true;
}

std::string Cut(std::string_view value) {
  if (value.size() <= kValueBytesMax) {
    return std::string(value);
  }
  return fmt::format("{}... ({} bytes)", value.substr(0, kValueBytesMax), value.size());
}

void AppendText(std::string& line, std::string_view name, std::string_view value) {
  line += ' ';
  line += name;
  line += '=';
  const std::string cut = Cut(value);
  if (IsPlain(cut)) {
    line += cut;
    return;
  }
  line += '"';
  AppendEscaped(line, cut);
  line += '"';
}

std::string JsonString(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void AppendJson(std::string& line, std::string_view name, std::string_view value, bool is_literal) {
  line += ',';
  line += JsonString(name);
  line += ':';
  if (is_literal) {
    line += value;
  } else {
    line += JsonString(Cut(value));
  }
}

// Gives each line that spdlog has put its time on to a function.
class CallbackSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit CallbackSink(std::function<void(LogLevel, const std::string&)> write)
      : write_(std::move(write)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    write_(static_cast<LogLevel>(message.level), fmt::to_string(line));
  }
  void flush_() override {}

  std::function<void(LogLevel, const std::string&)> write_;
};

using BoundFields = std::vector<std::pair<std::string, std::string>>;

}  // namespace

LogField::LogField(std::string_view n, double v) : name(n), is_literal(std::isfinite(v)) {
  const double size = std::fabs(v);
  if (is_literal && (size == 0 || (size >= 0.001 && size < 1e15))) {
    value = fmt::format("{:.3f}", v);
    value.erase(value.find_last_not_of('0') + 1);
    if (value.back() == '.') {
      value.pop_back();
    }
  } else {
    value = fmt::format("{:.4g}", v);
  }
}

// Threads: any.
class Logger::Backend {
 public:
  explicit Backend(LogOptions options) : options_(std::move(options)) {
    auto sink = std::make_shared<CallbackSink>(options_.write);
    constexpr auto kUtc = spdlog::pattern_time_type::utc;
    const char* pattern = options_.format == LogFormat::kJson
                              ? "{\"time\":\"%Y-%m-%dT%H:%M:%S.%eZ\",%v"
                          : options_.has_prefix ? "%Y-%m-%dT%H:%M:%S.%eZ %v"
                                                : "%v";
    sink->set_formatter(std::make_unique<spdlog::pattern_formatter>(pattern, kUtc, ""));
    logger_ = std::make_unique<spdlog::logger>("millrace", std::move(sink));
    logger_->set_level(ToSpdlog(options_.level));
  }

  void Write(LogLevel level, std::string_view sentence, const BoundFields& bound,
             std::initializer_list<LogField> fields) {
    if (level < options_.level) {
      return;
    }
    uint64_t repeats = 0;
    if (level >= LogLevel::kWarn && options_.repeat_interval.count() > 0) {
      const std::optional<uint64_t> held_back = Admit(level, sentence, bound);
      if (!held_back) {
        return;
      }
      repeats = *held_back;
    }
    const std::string line = options_.format == LogFormat::kJson
                                 ? FormatJson(level, sentence, bound, fields, repeats)
                                 : FormatText(level, sentence, bound, fields, repeats);
    logger_->log(options_.wall_clock(), spdlog::source_loc{}, ToSpdlog(level), line);
  }

 private:
  struct Repeat {
    std::chrono::steady_clock::time_point written;
    uint64_t held_back = 0;
  };

  // How many of the same were held back before this one, or nothing if it is to be held back.
  std::optional<uint64_t> Admit(LogLevel level, std::string_view sentence, const BoundFields& bound)
      MR_EXCLUDES(mu_) {
    std::string key(LevelName(level));
    key.append(1, '\0').append(sentence);
    for (const auto& [name, value] : bound) {
      key.append(1, '\0').append(name).append(1, '\0').append(value);
    }
    const auto now = options_.steady_clock();
    MutexLock lock(mu_);
    const auto found = repeats_.find(key);
    if (found != repeats_.end()) {
      if (now - found->second.written < options_.repeat_interval) {
        ++found->second.held_back;
        return std::nullopt;
      }
      found->second.written = now;
      return std::exchange(found->second.held_back, 0);
    }
    if (repeats_.size() >= options_.repeat_entries_max) {
      std::erase_if(repeats_, [&](const auto& entry) {
        return now - entry.second.written >= options_.repeat_interval;
      });
    }
    if (repeats_.size() < options_.repeat_entries_max) {
      repeats_.emplace(std::move(key), Repeat{.written = now});
    }
    return 0;
  }

  std::string FormatText(LogLevel level, std::string_view sentence, const BoundFields& bound,
                         std::initializer_list<LogField> fields, uint64_t repeats) const {
    std::string line;
    if (options_.has_prefix) {
      line = fmt::format("{:<5} ", LevelName(level));
    }
    AppendEscaped(line, sentence);
    for (const auto& [name, value] : bound) {
      AppendText(line, name, value);
    }
    for (const LogField& field : fields) {
      AppendText(line, field.name, field.value);
    }
    if (repeats != 0) {
      AppendText(line, "repeats", std::to_string(repeats));
    }
    return line;
  }

  static std::string FormatJson(LogLevel level, std::string_view sentence, const BoundFields& bound,
                                std::initializer_list<LogField> fields, uint64_t repeats) {
    std::string line =
        fmt::format(R"("level":"{}","message":{})", LevelName(level), JsonString(sentence));
    for (const auto& [name, value] : bound) {
      AppendJson(line, name, value, false);
    }
    for (const LogField& field : fields) {
      AppendJson(line, field.name, field.value, field.is_literal);
    }
    if (repeats != 0) {
      AppendJson(line, "repeats", std::to_string(repeats), true);
    }
    line += '}';
    return line;
  }

  // Constant after construction.
  const LogOptions options_;
  std::unique_ptr<spdlog::logger> logger_;

  Mutex mu_;
  // Guarded by mu_.
  std::map<std::string, Repeat, std::less<>> repeats_ MR_GUARDED_BY(mu_);
};

Logger Logger::With(std::string_view name, std::string_view value) const {
  Logger bound = *this;
  bound.bound_.emplace_back(name, value);
  return bound;
}

void Logger::Trace(std::string_view sentence, std::initializer_list<LogField> fields) const {
  Write(LogLevel::kTrace, sentence, fields);
}
void Logger::Debug(std::string_view sentence, std::initializer_list<LogField> fields) const {
  Write(LogLevel::kDebug, sentence, fields);
}
void Logger::Info(std::string_view sentence, std::initializer_list<LogField> fields) const {
  Write(LogLevel::kInfo, sentence, fields);
}
void Logger::Warn(std::string_view sentence, std::initializer_list<LogField> fields) const {
  Write(LogLevel::kWarn, sentence, fields);
}
void Logger::Error(std::string_view sentence, std::initializer_list<LogField> fields) const {
  Write(LogLevel::kError, sentence, fields);
}

void Logger::Write(LogLevel level, std::string_view sentence,
                   std::initializer_list<LogField> fields) const {
  if (backend_ != nullptr) {
    backend_->Write(level, sentence, bound_, fields);
  }
}

Logger MakeLogger(LogOptions options) {
  if (!options.wall_clock) {
    options.wall_clock = [] { return std::chrono::system_clock::now(); };
  }
  if (!options.steady_clock) {
    options.steady_clock = [] { return std::chrono::steady_clock::now(); };
  }
  return Logger(std::make_shared<Logger::Backend>(std::move(options)));
}

Logger MakeStderrLogger(LogLevel level, LogFormat format) {
  auto lost_line = [format](uint64_t lost) {
    return format == LogFormat::kJson
               ? fmt::format(R"({{"level":"warn","message":"Log lines were lost","lost":{}}})",
                             lost)
               : fmt::format("Log lines were lost because nobody read them lost={}", lost);
  };
  auto writer = std::make_shared<FdWriter>(STDERR_FILENO, kStderrWaitMax, std::move(lost_line));
  return MakeLogger(
      {.level = level, .format = format, .write = [writer](LogLevel, const std::string& line) {
         writer->WriteLine(line);
       }});
}

Logger MakeCapturingLogger(std::function<void(LogLevel, const std::string& line)> line) {
  return MakeLogger({.level = LogLevel::kTrace,
                     .has_prefix = false,
                     .repeat_interval = std::chrono::milliseconds(0),
                     .write = std::move(line)});
}

}  // namespace millrace::telemetry
