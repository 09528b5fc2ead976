// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "millrace/cli/cli.h"
#include "millrace/common/failpoint.h"
#include "millrace/components/registry.h"
#include "millrace/pipeline/error_policy.h"
#include "millrace/telemetry/metrics.h"

int main(int argc, char** argv) {
  if (!millrace::failpoint::ArmFromEnvironment()) {
    std::fputs("millrace: MILLRACE_FAILPOINT names no failpoint; see version --failpoints\n",
               stderr);
    return 2;
  }
  millrace::cli::Components components;
  for (const millrace::sinks::SinkType& type : millrace::components::SinkTypes()) {
    components.sink_types.push_back(type.spec);
  }
  components.check_sql = millrace::components::CheckStreamSql;
  components.pages = {{"metrics", millrace::telemetry::RenderMetricsReference},
                      {"errors", millrace::pipeline::RenderErrorsReference}};
  return millrace::cli::Main(argc, argv, components);
}
