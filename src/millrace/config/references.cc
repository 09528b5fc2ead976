// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/references.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>

#include "millrace/config/scalar_text.h"

namespace millrace::config {

namespace {

constexpr size_t kFileBytesMax = size_t{1} << 20;

std::optional<std::string> LookUpVariable(const std::string& name, const ReadOptions& options) {
  if (options.environment) {
    return options.environment(name);
  }
  const char* value = std::getenv(name.c_str());
  return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
}

// The file's text; or nothing, and why in `reason`.
std::optional<std::string> ReadSecretFile(const std::string& path, std::string& reason) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    reason = "it is a directory";
    return std::nullopt;
  }
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    reason = errno != 0 ? std::generic_category().message(errno) : "it cannot be opened";
    return std::nullopt;
  }
  std::string text(kFileBytesMax + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(stream.gcount()));
  if (stream.bad()) {
    reason = "it cannot be read";
    return std::nullopt;
  }
  if (text.size() > kFileBytesMax) {
    reason = "it is larger than 1MiB";
    return std::nullopt;
  }
  if (!text.empty() && text.back() == '\n') {
    text.pop_back();
    if (!text.empty() && text.back() == '\r') {
      text.pop_back();
    }
  }
  return text;
}

// Replaces one reference; `inner` stands between the braces.
void ExpandOne(const std::string& inner, const std::string& file, const ReadOptions& options,
               ExpandedText& expanded) {
  const auto keep = [&](std::string sentence) {
    expanded.missing.push_back(std::move(sentence));
    expanded.text += "${" + inner + "}";
  };
  if (inner.starts_with("env:") && inner.size() > 4) {
    expanded.has_reference = true;
    const std::string name = inner.substr(4);
    if (const auto value = LookUpVariable(name, options)) {
      expanded.text += *value;
    } else {
      keep("the environment variable" + QuoteIfPlain(name) + " is not set");
    }
  } else if (inner.starts_with("file:") && inner.size() > 5) {
    expanded.has_reference = true;
    const std::string path = inner.substr(5);
    std::string reason;
    if (const auto value = ReadSecretFile(ResolvePath(path, file), reason)) {
      expanded.text += *value;
    } else {
      keep("the file '" + path + "' cannot be read: " + reason);
    }
  } else {
    expanded.malformed.push_back(
        IsPlainWord(inner)
            ? "'${" + inner + "}' is no reference, did you mean '${env:" + inner + "}'?"
            : "'${' must begin ${env:NAME} or ${file:PATH}; write '$${' for the characters "
              "themselves");
  }
}

}  // namespace

ExpandedText ExpandReferences(std::string_view text, const std::string& file,
                              const ReadOptions& options) {
  ExpandedText expanded;
  size_t at = 0;
  while (at < text.size()) {
    const size_t dollar = text.find('$', at);
    expanded.text += text.substr(at, dollar - at);
    if (dollar == std::string_view::npos) {
      break;
    }
    if (text.substr(dollar).starts_with("$${")) {
      expanded.text += "${";
      at = dollar + 3;
    } else if (text.substr(dollar).starts_with("${")) {
      const size_t close = text.find('}', dollar);
      if (close == std::string_view::npos) {
        expanded.malformed.emplace_back(
            "'${' has no '}'; write '$${' for the characters themselves");
        break;
      }
      ExpandOne(std::string(text.substr(dollar + 2, close - dollar - 2)), file, options, expanded);
      at = close + 1;
    } else {
      expanded.text += '$';
      at = dollar + 1;
    }
  }
  return expanded;
}

std::string ResolvePath(const std::string& path, const std::string& file) {
  const std::filesystem::path given(path);
  if (given.is_absolute()) {
    return given.lexically_normal().string();
  }
  return (std::filesystem::path(file).parent_path() / given).lexically_normal().string();
}

}  // namespace millrace::config
