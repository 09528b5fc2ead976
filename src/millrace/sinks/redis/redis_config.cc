// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/redis/redis_config.h"

#include <array>
#include <optional>

#include <fmt/format.h>

#include "millrace/sinks/option_problems.h"

namespace millrace::sinks {

namespace {

using config::FieldSpec;
using config::FieldType;

constexpr std::array<std::string_view, 5> kCommands = {"xadd", "hset", "set", "publish", "zadd"};

std::vector<FieldSpec> TlsFields() {
  return {
      {.name = "ca_file",
       .description = "PEM file with the certificates that may sign the server's. Default: the "
                      "system's."},
      {.name = "cert_file", .description = "PEM file with our own certificate, with `key_file`."},
      {.name = "key_file", .description = "PEM file with the key of `cert_file`."},
      {.name = "server_name",
       .description = "Name that the server's certificate must have. Default: the URL's host."},
      {.name = "verify",
       .type = FieldType::kBoolean,
       .description = "false accepts any certificate: for trials only.",
       .default_value = "true"},
  };
}

std::vector<FieldSpec> WriteFields() {
  return {
      {.name = "stream", .description = "The stream whose rows are written.", .required = true},
      {.name = "xadd",
       .description = "Key of a Redis stream, such as `events:{content_type}`: each row adds an "
                      "entry with a field for each value that is not NULL."},
      {.name = "hset",
       .description = "Key of a hash that holds the row; a delete deletes it. The key should have "
                      "every key column of the stream."},
      {.name = "set",
       .description = "Key of a string that holds the row as JSON; a delete deletes it."},
      {.name = "publish",
       .description = "Channel to which each row is published as JSON. Who does not listen at "
                      "that moment does not get it."},
      {.name = "zadd", .description = "Key of a sorted set that ranks `member` by `score`."},
      {.name = "maxlen",
       .type = FieldType::kInteger,
       .description = "xadd: entries that the Redis stream keeps, trimmed approximately (`~`)."},
      {.name = "ttl",
       .type = FieldType::kDuration,
       .description = "How long a key lives after its last write. Default: for ever."},
      {.name = "member", .description = "zadd: the column that is ranked."},
      {.name = "score", .description = "zadd: the column that ranks."},
      {.name = "top", .type = FieldType::kInteger, .description = "zadd: members that are kept."},
      {.name = "snapshot",
       .type = FieldType::kBoolean,
       .description = "false leaves out the rows of the snapshot.",
       .default_value = "true"},
  };
}

// What is wrong with a part of the configuration, and where.
// The one command of an entry; more or none is a problem.
std::optional<OptionProblem> FindCommand(const config::Section& write, std::string_view& command) {
  for (const std::string_view name : kCommands) {
    if (!write.Has(name)) {
      continue;
    }
    if (!command.empty()) {
      return OptionProblem{
          write.LocationOf(name),
          fmt::format("'{}' and '{}' in one entry: write two entries", command, name),
          "redis-command"};
    }
    command = name;
  }
  if (command.empty()) {
    return OptionProblem{write.location(), "one of xadd, hset, set, publish, zadd is missing",
                         "redis-command"};
  }
  return std::nullopt;
}

// Options that belong to another command.
std::optional<OptionProblem> CheckOptions(const config::Section& write, std::string_view command) {
  for (const std::string_view name : {"member", "score", "top"}) {
    if (write.Has(name) && command != "zadd") {
      return OptionProblem{write.LocationOf(name), fmt::format("'{}' is for zadd only", name),
                           "redis-option"};
    }
  }
  if (write.Has("maxlen") && command != "xadd") {
    return OptionProblem{write.LocationOf("maxlen"), "'maxlen' is for xadd only", "redis-option"};
  }
  if (write.Has("maxlen") && write.GetInteger("maxlen") < 1) {
    return OptionProblem{write.LocationOf("maxlen"), "'maxlen' must be 1 or more", "redis-option"};
  }
  if (write.Has("ttl") && command == "publish") {
    return OptionProblem{write.LocationOf("ttl"), "a published message has no 'ttl'",
                         "redis-option"};
  }
  for (const std::string_view name : {"member", "score"}) {
    if (command == "zadd" && !write.Has(name)) {
      return OptionProblem{write.location(), fmt::format("zadd needs '{}'", name), "redis-option"};
    }
  }
  return std::nullopt;
}

std::optional<OptionProblem> ParseWrite(const config::Section& section, RedisWrite& write) {
  std::string_view command;
  if (auto problem = FindCommand(section, command)) {
    return problem;
  }
  if (auto problem = CheckOptions(section, command)) {
    return problem;
  }
  const config::Location location = section.LocationOf(command);
  Result<KeyTemplate> key = KeyTemplate::Parse(section.GetString(command));
  if (!key.ok()) {
    return OptionProblem{location, key.status().message(), "redis-key"};
  }
  if (key->text().starts_with("millrace:")) {
    return OptionProblem{location, "keys that begin with 'millrace:' are Millrace's own",
                         "redis-key"};
  }
  if (command == "zadd") {
    return OptionProblem{location, "zadd is not in this version", "redis-zadd",
                         /*is_unsupported=*/true};
  }
  write.stream = section.GetString("stream");
  write.command = command == "xadd"   ? RedisCommand::kXadd
                  : command == "hset" ? RedisCommand::kHset
                  : command == "set"  ? RedisCommand::kSet
                                      : RedisCommand::kPublish;
  write.key = *std::move(key);
  write.maxlen = static_cast<uint64_t>(section.GetInteger("maxlen"));
  write.ttl = section.GetDuration("ttl");
  write.snapshot = section.GetBoolean("snapshot");
  return std::nullopt;
}

RedisOptions ParseAll(const config::Section& section, OptionProblems& problems) {
  RedisOptions options;
  Result<redis::RedisUrl> url = redis::ParseRedisUrl(section.GetString("url"));
  if (url.ok()) {
    options.client.url = *std::move(url);
  } else {
    problems.Add({section.LocationOf("url"), url.status().message(), "redis-url"});
  }
  const config::Section tls = section.GetSection("tls");
  options.client.tls = {.ca_file = tls.GetString("ca_file"),
                        .cert_file = tls.GetString("cert_file"),
                        .key_file = tls.GetString("key_file"),
                        .server_name = tls.GetString("server_name"),
                        .verify = tls.GetBoolean("verify")};
  if (options.client.tls.cert_file.empty() != options.client.tls.key_file.empty()) {
    problems.Add(
        {section.LocationOf("tls"), "tls.cert_file and tls.key_file belong together", "redis-tls"});
  }
  const std::vector<config::Section> writes = section.GetSectionList("writes");
  if (writes.empty()) {
    problems.Add({section.LocationOf("writes"), "'writes' is empty: the sink would do nothing",
                  "redis-writes"});
  }
  for (const config::Section& entry : writes) {
    RedisWrite write;
    if (auto problem = ParseWrite(entry, write)) {
      problems.Add(*std::move(problem));
    } else {
      options.writes.push_back(std::move(write));
    }
  }
  return options;
}

}  // namespace

std::vector<FieldSpec> RedisFields() {
  return {
      {.name = "url",
       .description = "redis://[user:password@]host[:port][/database]; rediss:// for TLS.",
       .required = true,
       .secret = true},
      {.name = "tls",
       .type = FieldType::kSection,
       .description = "How rediss:// checks the server.",
       .fields = TlsFields()},
      {.name = "writes",
       .type = FieldType::kSectionList,
       .description = "What is written, one entry for each stream and command.",
       .required = true,
       .fields = WriteFields()},
  };
}

std::vector<StreamUse> RedisUses(const config::Section& section) {
  std::vector<StreamUse> uses;
  for (const config::Section& entry : section.GetSectionList("writes")) {
    StreamUse use{.stream = entry.GetString("stream")};
    for (const std::string_view command : kCommands) {
      if (!entry.Has(command)) {
        continue;
      }
      const Result<KeyTemplate> key = KeyTemplate::Parse(entry.GetString(command));
      if (key.ok()) {
        use.address_columns = key->Columns();
        // Rows of several keys of the stream may share one of Redis.
        if (command == "hset" || command == "set") {
          use.newest_by = {key->Columns()};
        }
      }
    }
    uses.push_back(std::move(use));
  }
  return uses;
}

void LintRedis(const config::Section& section, config::Findings& findings) {
  OptionProblems problems;
  (void)ParseAll(section, problems);
  problems.AddTo(findings);
}

Result<RedisOptions> ParseRedisOptions(const config::Section& section) {
  OptionProblems problems;
  RedisOptions options = ParseAll(section, problems);
  MR_RETURN_IF_ERROR(problems.First());
  return options;
}

}  // namespace millrace::sinks
