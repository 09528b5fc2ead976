// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/redis/redis_config.h"

#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace millrace::sinks {
namespace {

std::string Text(const config::Findings& findings) {
  std::string text;
  for (const config::Finding& finding : findings.all()) {
    text += finding.text + "\n";
  }
  return text;
}

config::Section Read(const std::string& yaml) {
  config::Findings findings;
  auto section = config::ReadSection(yaml, "test.yaml", RedisFields(), findings);
  EXPECT_FALSE(findings.has_errors()) << Text(findings);
  return *section;
}

std::string Writes(const std::string& entry) {
  return "url: redis://localhost/2\nwrites:\n  - {stream: s, " + entry + "}\n";
}

TEST(RedisConfig, Parses) {
  const auto options =
      ParseRedisOptions(Read("url: rediss://u:p@h\n"
                             "tls: {ca_file: /ca.pem, server_name: r}\n"
                             "writes:\n"
                             "  - {stream: a, xadd: \"e:{t}\", maxlen: 100}\n"
                             "  - {stream: b, hset: \"h:{id}\", ttl: 24h, snapshot: false}\n"));
  ASSERT_TRUE(options.ok()) << options.status().ToString();
  EXPECT_TRUE(options->client.url.tls);
  EXPECT_EQ(options->client.tls.ca_file, "/ca.pem");
  EXPECT_TRUE(options->client.tls.verify);
  ASSERT_EQ(options->writes.size(), 2U);
  EXPECT_EQ(options->writes[0].command, RedisCommand::kXadd);
  EXPECT_EQ(options->writes[0].maxlen, 100U);
  EXPECT_TRUE(options->writes[0].snapshot);
  EXPECT_EQ(options->writes[1].ttl, std::chrono::hours(24));
  EXPECT_FALSE(options->writes[1].snapshot);
}

TEST(RedisConfig, UsesNamesTheTemplatesColumns) {
  const auto uses = RedisUses(Read(Writes("xadd: \"e:{t}:{u}\"")));
  ASSERT_EQ(uses.size(), 1U);
  EXPECT_EQ(uses[0].stream, "s");
  EXPECT_EQ(uses[0].address_columns, (std::vector<std::string>{"t", "u"}));
}

TEST(RedisConfig, RefusesWhatMakesNoSense) {
  struct Case {
    const char* entry;
    const char* text;
  };
  for (const Case& c : std::vector<Case>{
           {"snapshot: true", "is missing"},
           {"xadd: a, hset: b", "write two entries"},
           {"xadd: 'a{'", "followed by a column"},
           {"xadd: 'millrace:a'", "Millrace's own"},
           {"hset: a, maxlen: 5", "for xadd only"},
           {"xadd: a, maxlen: 0", "1 or more"},
           {"xadd: a, top: 5", "for zadd only"},
           {"publish: a, ttl: 5s", "no 'ttl'"},
           {"zadd: a, member: m", "needs 'score'"},
       }) {
    const config::Section section = Read(Writes(c.entry));
    const Status status = ParseRedisOptions(section).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << c.entry;
    EXPECT_NE(status.message().find(c.text), std::string::npos) << status.message();
    config::Findings findings;
    LintRedis(section, findings);
    EXPECT_NE(Text(findings).find(c.text), std::string::npos) << c.entry;
  }
}

TEST(RedisConfig, ZaddLintsCleanButIsNotSupported) {
  const config::Section section = Read(Writes("zadd: a, member: m, score: s, top: 10"));
  config::Findings findings;
  LintRedis(section, findings);
  EXPECT_EQ(Text(findings), "");
  const auto options = ParseRedisOptions(section);
  EXPECT_EQ(options.status().code(), Code::kUnsupported);
}

TEST(RedisConfig, RefusesABadUrlWithoutShowingIt) {
  const auto options =
      ParseRedisOptions(Read("url: http://:secret@h\nwrites: [{stream: s, xadd: a}]\n"));
  EXPECT_EQ(options.status().code(), Code::kInvalidArgument);
  EXPECT_EQ(options.status().message().find("secret"), std::string::npos);
}

}  // namespace
}  // namespace millrace::sinks
