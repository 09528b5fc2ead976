// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

// What the generator is told on its command line.

struct Mix {
  int inserts = 90;
  int updates = 8;
  int deletes = 2;
};

struct Options {
  std::string url;
  double rate = 1000;  // events a second; 0 is as fast as possible
  int transaction_size = 10;
  Mix mix;
  int contents = 1000;
  double content_changes = 1;  // a second
  std::uint64_t seed = 1;
  std::int64_t count = 0;  // 0 is without end
  double duration = 0;     // seconds; 0 is without end
  bool async_commit = false;
};

// `inserts:updates:deletes`; nothing if it is not that.
inline std::optional<Mix> ParseMix(const std::string& text) {
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
  if (mix.inserts == 0) return std::nullopt;
  return mix;
}
