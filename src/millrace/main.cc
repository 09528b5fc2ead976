// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "millrace/cli/cli.h"
#include "millrace/common/failpoint.h"

int main(int argc, char** argv) {
  if (!millrace::failpoint::ArmFromEnvironment()) {
    std::fputs("millrace: MILLRACE_FAILPOINT names no failpoint; see version --failpoints\n",
               stderr);
    return 2;
  }
  return millrace::cli::Main(argc, argv, millrace::cli::Components{});
}
