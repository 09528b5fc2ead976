// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include <malloc.h>

#include "millrace/cli/cli.h"
#include "millrace/common/failpoint.h"
#include "millrace/components/registry.h"
#include "millrace/pipeline/error_policy.h"
#include "millrace/telemetry/metrics.h"

namespace {

// Memory of large rows goes back to the system when it is freed. glibc would else raise the bound
// from which it does to the largest size that it has seen, up to 32 MiB, and keep what is below.
constexpr int kMmapThreshold = 4 << 20;
constexpr int kTrimThreshold = 8 << 20;

}  // namespace

int main(int argc, char** argv) {
  // NOLINTBEGIN(concurrency-mt-unsafe): no other thread runs yet.
  mallopt(M_MMAP_THRESHOLD, kMmapThreshold);
  mallopt(M_TRIM_THRESHOLD, kTrimThreshold);
  // NOLINTEND(concurrency-mt-unsafe)
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
                      {"errors", millrace::pipeline::RenderErrorsReference},
                      {"capture-ddl", millrace::components::CaptureDdlScript}};
  return millrace::cli::Main(argc, argv, components);
}
