// SPDX-License-Identifier: Apache-2.0
// Whatever the bytes are, loading ends with a configuration or with findings.
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/config/markdown.h"
#include "millrace/config/pipeline_config.h"
#include "millrace/config/testing/example_config.h"

namespace millrace::config {
namespace {

constexpr unsigned kSeed = 20240607;
constexpr const char* kSecret = "s3cr3tvalue";

// Loads as `run` and as `lint` do, and looks at what every finding shares.
void Load(const std::string& yaml) {
  static LoadOptions options{.sink_types = testing::ExampleSinkTypes()};
  for (const bool lenient : {false, true}) {
    options.read.lenient_references = lenient;
    options.read.environment = [](const std::string& name) {
      return name.size() % 3 != 0 ? std::optional<std::string>(kSecret) : std::nullopt;
    };
    Findings findings;
    const auto config = LoadPipelineConfig(yaml, "f.yaml", options, findings);
    EXPECT_EQ(config.has_value(), !findings.has_errors());
    for (const Finding& finding : findings.all()) {
      const std::string line = finding.ToString();
      EXPECT_EQ(line.find(kSecret), std::string::npos) << line;
      EXPECT_EQ(line.find('\n'), std::string::npos) << line;
      EXPECT_FALSE(finding.code.empty());
      EXPECT_LT(line.size(), 1000U) << line;
    }
    if (config) {
      CheckSupported(*config).IgnoreError("only that it ends");
    }
  }
  FindConfigBlocks(yaml);
}

TEST(RobustnessTest, EveryTruncationEnds) {
  const std::string embedded = testing::EmbeddedExample();
  for (size_t size = 0; size < embedded.size(); ++size) {
    Load(embedded.substr(0, size));
  }
  // What follows its first lines is the same.
  const std::string distributed = testing::DistributedExample();
  for (size_t size = 0; size < 450; ++size) {
    Load(distributed.substr(0, size));
  }
}

TEST(RobustnessTest, RandomBytesEnd) {
  std::mt19937 random(kSeed);
  std::uniform_int_distribution<int> any(0, 255);
  for (int i = 0; i < 1000; ++i) {
    std::string bytes(static_cast<size_t>(any(random)), '\0');
    for (char& c : bytes) {
      c = static_cast<char>(any(random));
    }
    Load(bytes);
  }
}

TEST(RobustnessTest, RandomYamlPiecesEnd) {
  static constexpr const char* kPieces[] = {"{",     "}",           "[",
                                            "]",     ":",           ": ",
                                            ", ",    "- ",          "\n",
                                            "\n  ",  "\n    ",      "\"",
                                            "'",     "|",           ">",
                                            "&a ",   "*a",          "!x ",
                                            "? ",    "#",           "<<",
                                            "~",     "null",        "---\n",
                                            "...\n", "${env:A}",    "${file:x}",
                                            "${",    "@",           "%YAML 1",
                                            "a",     "type",        "from",
                                            "sql",   "streams:\n ", "sinks:\n ",
                                            "\t",    "\r\n",        "\xef\xbb\xbf",
                                            "\xff",  "0",           "10s",
                                            "true",  "postgres",    "redis"};
  std::mt19937 random(kSeed);
  std::uniform_int_distribution<size_t> piece(0, std::size(kPieces) - 1);
  std::uniform_int_distribution<int> length(1, 60);
  for (int i = 0; i < 5000; ++i) {
    std::string text = i % 2 == 0 ? "pipeline: p\n" : "";
    for (int n = length(random); n > 0; --n) {
      text += kPieces[piece(random)];
    }
    Load(text);
  }
}

TEST(RobustnessTest, MutationsOfTheExampleEnd) {
  std::mt19937 random(kSeed);
  const std::string example = testing::EmbeddedExample();
  std::uniform_int_distribution<size_t> place(0, example.size() - 1);
  std::uniform_int_distribution<int> action(0, 3);
  static constexpr char kCharacters[] = "{}[]:,-\n \"'|>&*!?#~$ax0\t\xff";
  std::uniform_int_distribution<size_t> character(0, sizeof(kCharacters) - 2);
  for (int i = 0; i < 2000; ++i) {
    std::string text = example;
    for (int n = 0; n < 3; ++n) {
      const size_t at = place(random) % text.size();
      switch (action(random)) {
        case 0:
          text[at] = kCharacters[character(random)];
          break;
        case 1:
          text.insert(at, 1, kCharacters[character(random)]);
          break;
        case 2:
          text.erase(at, 1 + place(random) % 40);
          break;
        default:
          text.insert(at, example.substr(place(random), place(random) % 80));
      }
    }
    Load(text);
  }
}

}  // namespace
}  // namespace millrace::config
