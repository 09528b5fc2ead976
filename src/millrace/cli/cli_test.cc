// SPDX-License-Identifier: Apache-2.0
#include "millrace/cli/cli.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "millrace/cli/command.h"
#include "millrace/common/failpoint.h"
#include "millrace/config/testing/example_config.h"

namespace millrace::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

class CliTest : public ::testing::Test {
 protected:
  CliTest() {
    dir_ = std::filesystem::temp_directory_path() /
           ("millrace_cli_test_" + std::to_string(getpid()) + "_" +
            ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(dir_);
    for (const char* name : {"DATABASE_URL", "CH_PASSWORD", "MILLRACE_TOKEN"}) {
      // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs.
      setenv(name, "value", 1);
    }
    components_.sink_types = config::testing::ExampleSinkTypes();
    components_.pages = {{"errors", [] { return std::string("# Errors\n"); }}};
  }
  ~CliTest() override { std::filesystem::remove_all(dir_); }

  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = dir_ / name;
    std::ofstream(path) << text;
    return path;
  }

  static void Unset(const char* name) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs.
    unsetenv(name);
  }

  Outcome Run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "millrace");
    std::vector<char*> argv;
    for (std::string& argument : arguments) {
      argv.push_back(argument.data());
    }
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    Outcome outcome;
    outcome.code = Main(static_cast<int>(argv.size()), argv.data(), components_);
    outcome.out = ::testing::internal::GetCapturedStdout();
    outcome.err = ::testing::internal::GetCapturedStderr();
    return outcome;
  }

  std::filesystem::path dir_;
  Components components_;
};

TEST_F(CliTest, ACleanFileSaysNothing) {
  const std::string good = Write("good.yaml", config::testing::EmbeddedExample());
  const Outcome outcome = Run({"lint", good});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "");
}

TEST_F(CliTest, LintPrintsFindingsInTheFilesOrder) {
  std::string text = config::testing::EmbeddedExample();
  text.replace(text.find("stream: content_dim"), 19, "stream: content_dimm");
  text.replace(text.find("manage_publication: true"), 24, "manage_publication: 3");
  text.insert(text.find("database: app"), "databas: x\n    ");
  const std::string bad = Write("bad.yaml", text);
  const Outcome outcome = Run({"lint", bad});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.out,
            bad +
                ":10:23: error: source.manage_publication: expected true or false, found '3' "
                "[wrong-type]\n" +
                bad + ":46:5: error: sinks.warehouse.databas: unknown field [unknown-field]\n" +
                bad +
                ":50:18: error: sinks.warehouse.tables[0].stream: there is no stream "
                "'content_dimm', did you mean 'content_dim'? [unknown-stream]\n");
}

TEST_F(CliTest, WarningsAloneAreFineUnlessDenied) {
  Unset("CH_PASSWORD");
  const std::string file = Write("f.yaml", config::testing::EmbeddedExample());
  Outcome outcome = Run({"lint", file});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, file +
                             ":45:10: warning: sinks.warehouse.url: the environment variable "
                             "'CH_PASSWORD' is not set [undefined-reference]\n");
  EXPECT_EQ(Run({"lint", "--deny-warnings", file}).code, 1);
}

TEST_F(CliTest, LintReadsSeveralFilesAndMarkdown) {
  const std::string good = Write("good.yaml", config::testing::EmbeddedExample());
  const std::string page =
      Write("README.md", "# Title\n\n```yaml\nnot: one\n```\n\n```yaml\n" +
                             config::testing::EmbeddedExample() +
                             "```\n\n- item\n\n  ```yaml\n  pipeline: BAD\n  ```\n");
  const Outcome outcome = Run({"lint", good, page});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.out,
              AllOf(StartsWith(page + ":"),
                    HasSubstr(":13: error: pipeline: must match [a-z][a-z0-9_]{0,39} [bad-name]")));
  EXPECT_EQ(Run({"lint", Write("plain.md", "no yaml here\n")}).code, 0);
}

TEST_F(CliTest, UnreadableFilesAndWrongUseAre2) {
  const Outcome outcome = Run({"lint", dir_ / "none.yaml"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_EQ(outcome.err, (dir_ / "none.yaml").string() +
                             ": error: cannot be read: No such file or directory "
                             "[unreadable-file]\n");
  EXPECT_EQ(Run({"lint", dir_}).code, 2);
  EXPECT_EQ(Run({"lint"}).code, 2);
  EXPECT_EQ(Run({}).code, 2);
  EXPECT_EQ(Run({"lnit", "x"}).code, 2);
  EXPECT_EQ(Run({"lint", "--nope", "x"}).code, 2);
  EXPECT_EQ(Run({"docs", "everything"}).code, 2);
  EXPECT_EQ(Run({"version", "extra"}).code, 2);
  EXPECT_THAT(Run({"lint"}).err, ::testing::EndsWith("; see millrace --help\n"));
}

TEST_F(CliTest, HelpAndVersion) {
  EXPECT_THAT(Run({"--help"}).out, AllOf(HasSubstr("lint"), HasSubstr("docs")));
  EXPECT_EQ(Run({"--help"}).code, 0);
  EXPECT_EQ(Run({"lint", "--help"}).code, 0);
  EXPECT_EQ(Run({"version"}).out, "millrace " MILLRACE_VERSION "\n");
  EXPECT_EQ(Run({"--version"}).out, "millrace " MILLRACE_VERSION "\n");
  std::string names;
  for (const std::string_view name : failpoint::kAll) {
    names += std::string(name) + "\n";
  }
  EXPECT_EQ(Run({"version", "--failpoints"}).out, names);
}

TEST_F(CliTest, DocsPrintsPages) {
  EXPECT_THAT(Run({"docs", "config"}).out,
              AllOf(HasSubstr("# Configuration file\n"), HasSubstr("of type clickhouse")));
  EXPECT_EQ(Run({"docs", "errors"}).out, "# Errors\n");
}

TEST_F(CliTest, ACommandThatActsRefusesWhatDoesNotRun) {
  ::testing::internal::CaptureStderr();
  EXPECT_FALSE(LoadConfig(Write("f.yaml", config::testing::EmbeddedExample()), components_));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(StartsWith("millrace: "), HasSubstr("this version does not run windows")));
  ::testing::internal::CaptureStderr();
  EXPECT_TRUE(LoadConfig(Write("g.yaml",
                               "pipeline: p\nsource: {type: postgres, url: u, tables: [t]}\n"
                               "streams: {s: {from: t}}\nsinks: {k: {type: redis, url: u, writes: "
                               "[{stream: s, hset: h}]}}\n"),
                         components_));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  Unset("DATABASE_URL");
  ::testing::internal::CaptureStderr();
  EXPECT_FALSE(LoadConfig(Write("h.yaml", config::testing::EmbeddedExample()), components_));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr(": error: source.url: the environment variable 'DATABASE_URL' is not set"));
}

}  // namespace
}  // namespace millrace::cli
