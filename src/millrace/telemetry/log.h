// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millrace/common/status.h"

namespace millrace::telemetry {

enum class LogLevel { kTrace, kDebug, kInfo, kWarn, kError };

// A named value of a log line. Never a row value, a credential or an SQL parameter.
struct LogField {
  std::string_view name;
  std::string value;
  bool is_literal = false;  // a number or boolean: bare in JSON

  LogField(std::string_view n, std::string_view v) : name(n), value(v) {}
  LogField(std::string_view n, const char* v) : name(n), value(v) {}
  LogField(std::string_view n, const std::string& v) : name(n), value(v) {}
  LogField(std::string_view n, bool v) : name(n), value(v ? "true" : "false"), is_literal(true) {}
  LogField(std::string_view n, std::integral auto v)
      : name(n), value(std::to_string(v)), is_literal(true) {}
  LogField(std::string_view n, double v);
  LogField(std::string_view n, const Status& v) : name(n), value(v.ToString()) {}
};

// Logger writes lines of a constant sentence and fields to stderr: text for people, or JSON. It is
// a value with bound fields, handed down by constructors. A line's sentence has a capital first
// letter and no period; an error stands under `error`; durations end in `_ms`, sizes in `_bytes`.
//
// error: a person must act; warn: recovered, or will retry; info: lifecycle, quiet in steady state;
// debug: each batch; trace: each message. The same warning or error (by sentence and bound fields)
// is written once in 10 s; the next one written says as `repeats` how many were held back.
//
// Threads: any. A reader of stderr that does not read delays a line by 100 ms at most; lines are
// then lost, and counted once it reads again.
class Logger {
 public:
  // Writes nothing.
  Logger() = default;

  Logger With(std::string_view name, std::string_view value) const;

  void Trace(std::string_view sentence, std::initializer_list<LogField> fields = {}) const;
  void Debug(std::string_view sentence, std::initializer_list<LogField> fields = {}) const;
  void Info(std::string_view sentence, std::initializer_list<LogField> fields = {}) const;
  void Warn(std::string_view sentence, std::initializer_list<LogField> fields = {}) const;
  void Error(std::string_view sentence, std::initializer_list<LogField> fields = {}) const;

  class Backend;
  explicit Logger(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}

 private:
  void Write(LogLevel level, std::string_view sentence,
             std::initializer_list<LogField> fields) const;

  std::shared_ptr<Backend> backend_;
  std::vector<std::pair<std::string, std::string>> bound_;
};

enum class LogFormat { kText, kJson };

// A Logger to stderr. The process makes one.
Logger MakeStderrLogger(LogLevel level, LogFormat format);

// A Logger for tests: each line of any level goes to `line` as text, without time and level.
// Nothing is held back.
Logger MakeCapturingLogger(std::function<void(LogLevel, const std::string& line)> line);

}  // namespace millrace::telemetry
