// SPDX-License-Identifier: Apache-2.0
#include "millrace/config/section.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace millrace::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

std::vector<FieldSpec> TestFields() {
  return {
      {.name = "name"},
      {.name = "token", .secret = true},
      {.name = "dir", .type = FieldType::kPath},
      {.name = "count", .type = FieldType::kInteger, .default_value = "7", .min = 1, .max = 100},
      {.name = "enabled", .type = FieldType::kBoolean, .default_value = "true"},
      {.name = "wait",
       .type = FieldType::kDuration,
       .default_value = "10s",
       .min = 0,
       .max = 60'000},
      {.name = "size", .type = FieldType::kBytes, .default_value = "8MiB", .min = 1024},
      {.name = "mode", .default_value = "stop", .one_of = {"stop", "snapshot", "null"}},
      {.name = "words", .type = FieldType::kStringList},
      {.name = "labels", .type = FieldType::kStringMap},
      {.name = "inner",
       .type = FieldType::kSection,
       .fields = {{.name = "depth", .type = FieldType::kInteger, .default_value = "3"},
                  {.name = "must", .required = true}}},
      {.name = "items",
       .type = FieldType::kSectionList,
       .fields = {{.name = "stream", .required = true}, {.name = "table"}}},
      {.name = "parts",
       .type = FieldType::kSectionMap,
       .fields = {{.name = "type", .required = true}},
       .variants = {{.name = "redis", .fields = {{.name = "url", .required = true}}},
                    {.name = "kafka", .fields = {{.name = "brokers", .required = true}}}}},
  };
}

ReadOptions TestOptions() {
  ReadOptions options;
  options.environment = [](const std::string& name) -> std::optional<std::string> {
    if (name == "SET") {
      return "hunter2";
    }
    return name == "EMPTY" ? std::optional<std::string>("") : std::nullopt;
  };
  return options;
}

std::vector<std::string> Lines(const Findings& findings) {
  std::vector<std::string> lines;
  for (const Finding& finding : findings.all()) {
    lines.push_back(finding.ToString());
  }
  return lines;
}

std::vector<std::string> Refused(const std::string& yaml) {
  Findings findings;
  const auto section = ReadSection(yaml, "dir/f.yaml", TestFields(), findings, TestOptions());
  EXPECT_EQ(section.has_value(), !findings.has_errors()) << yaml;
  return Lines(findings);
}

Section Read(const std::string& yaml) {
  Findings findings;
  const auto section = ReadSection(yaml, "dir/f.yaml", TestFields(), findings, TestOptions());
  EXPECT_THAT(Lines(findings), ElementsAre()) << yaml;
  return section.value();
}

TEST(SectionTest, EveryTypeIsRead) {
  const Section section = Read(R"(name: 12
token: "${env:SET}"
dir: ./a/../b
count: 42
enabled: false
wait: 500ms
size: 64KiB
mode: snapshot
words: [a, "b c"]
labels: {x: 1, y: "2"}
inner: {depth: 4, must: q}
items:
  - {stream: s, table: t}
  - stream: u
parts:
  zz: {type: redis, url: r}
  aa: {type: kafka, brokers: k}
)");
  EXPECT_EQ(section.GetString("name"), "12");
  EXPECT_EQ(section.GetString("token"), "hunter2");
  EXPECT_EQ(section.GetString("dir"), "dir/b");
  EXPECT_EQ(section.GetInteger("count"), 42);
  EXPECT_FALSE(section.GetBoolean("enabled"));
  EXPECT_EQ(section.GetDuration("wait"), std::chrono::milliseconds(500));
  EXPECT_EQ(section.GetBytes("size"), 65536U);
  EXPECT_EQ(section.GetString("mode"), "snapshot");
  EXPECT_THAT(section.GetStringList("words"), ElementsAre("a", "b c"));
  EXPECT_THAT(section.GetStringMap("labels"), ElementsAre(Pair("x", "1"), Pair("y", "2")));
  EXPECT_EQ(section.GetSection("inner").GetInteger("depth"), 4);
  ASSERT_EQ(section.GetSectionList("items").size(), 2U);
  EXPECT_EQ(section.GetSectionList("items")[1].GetString("stream"), "u");
  const auto parts = section.GetSectionMap("parts");
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_EQ(parts[0].first, "zz");  // the file's order
  EXPECT_EQ(parts[0].second.GetString("url"), "r");
  EXPECT_EQ(parts[1].second.GetString("brokers"), "k");
}

TEST(SectionTest, AbsentFieldsGiveDefaults) {
  const Section section = Read("name: x");
  EXPECT_FALSE(section.Has("count"));
  EXPECT_EQ(section.GetInteger("count"), 7);
  EXPECT_TRUE(section.GetBoolean("enabled"));
  EXPECT_EQ(section.GetDuration("wait"), std::chrono::seconds(10));
  EXPECT_EQ(section.GetBytes("size"), uint64_t{8} << 20);
  EXPECT_EQ(section.GetString("token"), "");
  EXPECT_THAT(section.GetStringList("words"), ElementsAre());
  EXPECT_FALSE(section.Has("inner"));
  EXPECT_EQ(section.GetSection("inner").GetInteger("depth"), 3);
  EXPECT_TRUE(section.GetSectionList("items").empty());
}

TEST(SectionTest, OneStringIsAListOfOne) {
  EXPECT_THAT(Read("words: a").GetStringList("words"), ElementsAre("a"));
}

TEST(SectionTest, AnEmptySectionIsFine) {
  EXPECT_TRUE(Read("items:\nwords:\nparts:\n").Has("words"));
}

TEST(SectionTest, NullIsAChoiceBareOrQuoted) {
  EXPECT_EQ(Read("mode: null").GetString("mode"), "null");
  EXPECT_EQ(Read("mode: 'null'").GetString("mode"), "null");
  EXPECT_EQ(Read("mode: ~").GetString("mode"), "null");
}

TEST(SectionTest, PositionsAreThoseOfTheValues) {
  const Section section = Read(R"(name: x
inner:
  depth: 4
  must:   "v"
words:
  - a
  -   b
items:
  - stream: s
parts: {p: {type: redis, url: u}}
token: |
  two
  lines
)");
  const auto at = [](const Location& location) {
    return std::pair(location.line, location.column);
  };
  EXPECT_EQ(at(section.LocationOf("name")), std::pair(1, 7));
  EXPECT_EQ(at(section.LocationOf("count")), std::pair(1, 1));  // absent: the section's
  EXPECT_EQ(at(section.GetSection("inner").LocationOf("depth")), std::pair(3, 10));
  EXPECT_EQ(at(section.GetSection("inner").LocationOf("must")), std::pair(4, 11));
  EXPECT_EQ(at(section.LocationOf("words", 1)), std::pair(7, 7));
  EXPECT_EQ(at(section.GetSectionList("items")[0].location()), std::pair(9, 5));
  EXPECT_EQ(at(section.GetSectionMap("parts")[0].second.location()), std::pair(10, 9));
  EXPECT_EQ(at(section.LocationOf("token")), std::pair(11, 8));
  EXPECT_EQ(section.GetString("token"), "two\nlines\n");
  EXPECT_EQ(section.GetSectionList("items")[0].PathOf("table"), "items[0].table");
  EXPECT_EQ(section.LocationOf("name").file, "dir/f.yaml");
}

TEST(SectionTest, TextInsideOfAnotherFileHasItsPositions) {
  ReadOptions options = TestOptions();
  options.first_line = 100;
  options.first_column = 4;
  Findings findings;
  EXPECT_FALSE(ReadSection("name: x\ncuont: 1\n", "a.md", TestFields(), findings, options));
  EXPECT_THAT(Lines(findings),
              ElementsAre("a.md:101:4: error: cuont: unknown field, did you mean 'count'? "
                          "[unknown-field]"));
}

TEST(SectionTest, AliasesAreRead) {
  const Section section = Read("words: &w [a, b]\nparts: {p: {type: redis, url: &u x}}\nname: *u");
  EXPECT_EQ(section.GetString("name"), "x");
}

struct BadCase {
  std::string yaml;
  std::string line;
};

TEST(SectionTest, EachMistakeHasItsFinding) {
  const std::vector<BadCase> cases = {
      {"nmae: x",
       "dir/f.yaml:1:1: error: nmae: unknown field, did you mean 'name'? [unknown-field]"},
      {"qqqqqq: x", "dir/f.yaml:1:1: error: qqqqqq: unknown field [unknown-field]"},
      {"name: x\nname: y",
       "dir/f.yaml:2:1: error: the field 'name' stands twice, first on line 1 [duplicate-key]"},
      {"count: many",
       "dir/f.yaml:1:8: error: count: expected a whole number, found 'many' [wrong-type]"},
      {"count: [1]", "dir/f.yaml:1:8: error: count: expected a whole number [wrong-type]"},
      {"count: 0", "dir/f.yaml:1:8: error: count: must be at least 1 [out-of-range]"},
      {"count: 101", "dir/f.yaml:1:8: error: count: must be at most 100 [out-of-range]"},
      {"count: 99999999999999999999",
       "dir/f.yaml:1:8: error: count: expected a whole number, found '99999999999999999999' "
       "[wrong-type]"},
      {"enabled: yes",
       "dir/f.yaml:1:10: error: enabled: expected true or false, found 'yes' [wrong-type]"},
      {"wait: 10",
       "dir/f.yaml:1:7: error: wait: expected a duration such as 500ms, 10s, 5m, 24h or 30d, found "
       "'10' [wrong-type]"},
      {"wait: 2m", "dir/f.yaml:1:7: error: wait: must be at most 1m [out-of-range]"},
      {"size: 8 MiB",
       "dir/f.yaml:1:7: error: size: expected a size such as 4096, 64KiB, 8MiB or 1GiB "
       "[wrong-type]"},
      {"size: 12", "dir/f.yaml:1:7: error: size: must be at least 1KiB [out-of-range]"},
      {"mode: stopp",
       "dir/f.yaml:1:7: error: mode: must be stop, snapshot or null, found 'stopp', did you mean "
       "'stop'? [invalid-choice]"},
      {"name:",
       "dir/f.yaml:1:1: error: name: has no value; give one or remove the field "
       "[missing-value]"},
      {"name: {a: b}", "dir/f.yaml:1:7: error: name: expected a string [wrong-type]"},
      {"words: {a: b}", "dir/f.yaml:1:8: error: words: expected a list of strings [wrong-type]"},
      {"words: [a, [b]]", "dir/f.yaml:1:12: error: words[1]: expected a string [wrong-type]"},
      {"labels: [a]",
       "dir/f.yaml:1:9: error: labels: expected a mapping of names to strings "
       "[wrong-type]"},
      {"labels: {a: [b]}", "dir/f.yaml:1:10: error: labels.a: expected a string [wrong-type]"},
      {"inner: 5", "dir/f.yaml:1:8: error: inner: expected a mapping of fields [wrong-type]"},
      {"inner: {depth: 1}",
       "dir/f.yaml:1:8: error: inner.must: required, but missing [missing-field]"},
      {"inner: {must: ''}",
       "dir/f.yaml:1:15: error: inner.must: required, but empty [missing-field]"},
      {"inner: {mst: x}",
       "dir/f.yaml:1:9: error: inner.mst: unknown field, did you mean 'must'? "
       "[unknown-field]"},
      {"items: {a: b}", "dir/f.yaml:1:8: error: items: expected a list of mappings [wrong-type]"},
      {"items: [s]", "dir/f.yaml:1:9: error: items[0]: expected a mapping of fields [wrong-type]"},
      {"items: [{stream: s}, {table: t}]",
       "dir/f.yaml:1:22: error: items[1].stream: required, but missing [missing-field]"},
      {"parts: [a]",
       "dir/f.yaml:1:8: error: parts: expected a mapping of names to mappings "
       "[wrong-type]"},
      {"parts: {p: x}",
       "dir/f.yaml:1:12: error: parts.p: expected a mapping of fields "
       "[wrong-type]"},
      {"parts: {p: {type: reddis, x: 1}}",
       "dir/f.yaml:1:19: error: parts.p.type: must be redis or kafka, found 'reddis', did you mean "
       "'redis'? [invalid-choice]"},
      {"parts: {p: {url: 1}}",
       "dir/f.yaml:1:9: error: parts.p.type: required, but missing [missing-field]"},
      {"parts: {p: {type: redis}}",
       "dir/f.yaml:1:9: error: parts.p.url: required, but missing [missing-field]"},
      {"parts: {p: {type: kafka, brokers: b, url: u}}",
       "dir/f.yaml:1:38: error: parts.p.url: unknown field [unknown-field]"},
      {"name: ${env:UNSET}",
       "dir/f.yaml:1:7: error: name: the environment variable 'UNSET' is not set "
       "[undefined-reference]"},
      {"name: ${file:no/such}",
       "dir/f.yaml:1:7: error: name: the file 'no/such' cannot be read: No such file or directory "
       "[undefined-reference]"},
      {"name: ${SET}",
       "dir/f.yaml:1:7: error: name: '${SET}' is no reference, did you mean "
       "'${env:SET}'? [bad-reference]"},
      {"name: ${env:SET",
       "dir/f.yaml:1:7: error: name: '${' has no '}'; write '$${' for the "
       "characters themselves [bad-reference]"},
      {"name: ${}",
       "dir/f.yaml:1:7: error: name: '${' must begin ${env:NAME} or ${file:PATH}; write "
       "'$${' for the characters themselves [bad-reference]"},
      {"- a", "dir/f.yaml:1:1: error: expected a mapping of fields [wrong-type]"},
      {"", "dir/f.yaml:1:1: error: nothing is in this file [yaml-syntax]"},
      {"name: x\n---\nname: y",
       "dir/f.yaml:3:1: error: a second YAML document begins, only one is read [yaml-syntax]"},
      {"name: x\n  count: 1", "dir/f.yaml:2:8: error: not YAML: illegal map value [yaml-syntax]"},
      {"name: [a", "dir/f.yaml:1:1: error: not YAML: end of sequence flow not found [yaml-syntax]"},
      {"name: *nope",
       "dir/f.yaml:1:7: error: not YAML: the referenced anchor is not defined "
       "[yaml-syntax]"},
      {"words: &w [*w]",
       "dir/f.yaml:1:12: error: an alias stands inside of what it names "
       "[yaml-syntax]"},
      {"? [a]\n: b",
       "dir/f.yaml:1:3: error: a name must be a word, not a list or a mapping "
       "[yaml-syntax]"},
  };
  for (const BadCase& bad : cases) {
    EXPECT_THAT(Refused(bad.yaml), ElementsAre(bad.line)) << bad.yaml;
  }
}

TEST(SectionTest, EverythingIsSaidAtOnce) {
  EXPECT_EQ(Refused("nmae: x\ncount: y\nmode: z\nitems: [{}, {}]").size(), 5U);
}

TEST(SectionTest, ReferencesAreReplacedInEveryKindOfValue) {
  const std::string file = "/tmp/millrace_section_test_" + std::to_string(getpid());
  std::ofstream(file) << "from file\n";
  const Section section = Read("name: a${env:SET}b${env:EMPTY}${file:" + file +
                               "}c$d$${e}\nwords: ['${env:SET}']\nlabels: {a: '${env:SET}'}");
  std::remove(file.c_str());
  EXPECT_EQ(section.GetString("name"), "ahunter2bfrom filec$d${e}");
  EXPECT_THAT(section.GetStringList("words"), ElementsAre("hunter2"));
  EXPECT_THAT(section.GetStringMap("labels"), ElementsAre(Pair("a", "hunter2")));
}

TEST(SectionTest, ReferencedTextIsNeverReadAsYaml) {
  ReadOptions options;
  options.environment = [](const std::string&) { return "x\ncount: 9 # {"; };
  Findings findings;
  const auto section = ReadSection("name: ${env:A}", "f.yaml", TestFields(), findings, options);
  ASSERT_TRUE(section);
  EXPECT_EQ(section->GetString("name"), "x\ncount: 9 # {");
  EXPECT_EQ(section->GetInteger("count"), 7);
}

TEST(SectionTest, SecretsAreInNoFinding) {
  for (const std::string field : {"count", "enabled", "wait", "size", "mode", "inner", "items"}) {
    for (const std::string& line : Refused(field + ": ${env:SET}")) {
      EXPECT_THAT(line, Not(HasSubstr("hunter2")));
    }
  }
  EXPECT_EQ(Refused("mode: ${env:SET}").size(), 1U);
  const std::vector<FieldSpec> fields = {
      {.name = "pin", .type = FieldType::kInteger, .secret = true},
      {.name = "key", .secret = true, .one_of = {"a"}}};
  Findings findings;
  EXPECT_FALSE(ReadSection("pin: hunter2\nkey: hunter2", "f.yaml", fields, findings));
  ASSERT_EQ(findings.all().size(), 2U);
  for (const std::string& line : Lines(findings)) {
    EXPECT_THAT(line, Not(HasSubstr("hunter2")));
  }
  // A URL that slipped into a name.
  EXPECT_THAT(Refused("{url http://u:hunter2@h}"),
              ElementsAre("dir/f.yaml:1:2: error: unknown field [unknown-field]"));
}

TEST(SectionTest, LintWarnsOfWhatIsNotSetHere) {
  ReadOptions options = TestOptions();
  options.lenient_references = true;
  Findings findings;
  const auto section = ReadSection("name: ${env:UNSET}\ncount: ${file:no/such}\nmode: ${env:UNSET}",
                                   "f.yaml", TestFields(), findings, options);
  ASSERT_TRUE(section);
  EXPECT_TRUE(section->IsUnknown("name"));
  EXPECT_TRUE(section->IsUnknown("count"));
  EXPECT_FALSE(section->IsUnknown("wait"));
  EXPECT_EQ(findings.all().size(), 3U);
  EXPECT_EQ(findings.all()[0].ToString(),
            "f.yaml:1:7: warning: name: the environment variable 'UNSET' is not set "
            "[undefined-reference]");
}

TEST(SectionTest, AFindingIsOneLine) {
  Finding finding{.location = {"f", 1, 2}, .text = "a\nb\x1b[31m", .code = "c"};
  EXPECT_EQ(finding.ToString(), "f:1:2: error: a b [31m [c]");
}

TEST(SectionTest, AliasesCannotAskForEndlessWork) {
  const std::vector<FieldSpec> fields = {
      {.name = "parts", .type = FieldType::kSectionMap, .fields = TestFields(), .variants = {}}};
  std::string bomb = "parts:\n  first:\n    items: &i\n";
  for (int i = 0; i < 2000; ++i) {
    bomb += "      - {stream: s}\n";
  }
  for (int i = 0; i < 2000; ++i) {
    bomb += "  p" + std::to_string(i) + ": {items: *i}\n";
  }
  Findings findings;
  EXPECT_FALSE(ReadSection(bomb, "f.yaml", fields, findings));
  ASSERT_EQ(findings.all().size(), 1U);
  EXPECT_EQ(findings.all()[0].code, "too-large");
}

TEST(SectionTest, DepthIsBounded) {
  std::string chain = "name: x\nlabels: &a0 {k: v}\n";
  for (int i = 1; i < 100; ++i) {
    chain += "x" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) +
             "]\n";
  }
  EXPECT_THAT(Refused(chain), ElementsAre(HasSubstr("nested too deeply [yaml-syntax]")));
  EXPECT_THAT(Refused(std::string(100'000, '[')), ElementsAre(HasSubstr("[yaml-syntax]")));
}

TEST(SectionDeathTest, AGetterOfAnotherTypeAborts) {
  const Section section = Read("name: x");
  EXPECT_DEATH((void)section.GetInteger("name"), "");
  EXPECT_DEATH((void)section.GetString("nmae"), "");
}

}  // namespace
}  // namespace millrace::config
