// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
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

// The options of the command line. Nothing if the program ends here, having said why: with
// `exit_code`.
std::optional<Options> ParseOptions(int argc, char** argv, int& exit_code);
