// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <cstdio>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace {

// `inserts:updates:deletes`; nothing if it is not that.
std::optional<Mix> ParseMix(const std::string& text) {
  Mix mix;
  char end = 0;
  const int fields =
      std::sscanf(text.c_str(), "%d:%d:%d%c", &mix.inserts, &mix.updates, &mix.deletes, &end);
  constexpr int kMaxShare = 1'000'000;
  const auto is_share = [](int share) { return share >= 0 && share <= kMaxShare; };
  if (fields != 3 || !is_share(mix.inserts) || !is_share(mix.updates) || !is_share(mix.deletes)) {
    return std::nullopt;
  }
  // Without inserts there is nothing to update or delete in the end.
  return mix.inserts > 0 ? std::optional<Mix>(mix) : std::nullopt;
}

}  // namespace

std::optional<Options> ParseOptions(int argc, char** argv, int& exit_code) {
  Options options;
  std::string mix = "90:8:2";
  CLI::App app("Writes the engagement example's load into PostgreSQL.");
  app.add_option("--url", options.url, "PostgreSQL's URL")->envname("DATABASE_URL")->required();
  app.add_option("--rate", options.rate, "events a second; 0 is as fast as possible")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--transaction-size", options.transaction_size, "events in a transaction")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  app.add_option("--mix", mix, "shares of inserts:updates:deletes")->capture_default_str();
  app.add_option("--contents", options.contents, "content rows")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_option("--content-changes", options.content_changes, "content updates a second")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seed", options.seed, "decides every random choice")->capture_default_str();
  app.add_option("--count", options.count, "end after this many events; 0 is never")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--duration", options.duration, "end after this many seconds; 0 is never")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--async-commit", options.async_commit,
               "do not wait for the disk at each commit; many small transactions are quicker");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? 0 : 2;
    return std::nullopt;
  }
  const std::optional<Mix> parsed = ParseMix(mix);
  if (!parsed) {
    fmt::print(stderr, "error: --mix '{}' is not like 90:8:2 with a first share above 0\n", mix);
    exit_code = 2;
    return std::nullopt;
  }
  options.mix = *parsed;
  return options;
}
