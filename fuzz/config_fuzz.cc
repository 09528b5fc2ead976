// SPDX-License-Identifier: Apache-2.0
// A configuration file. Input: the YAML; one that names a file is left out, so that none is opened.
#include <optional>

#include "input.h"
#include "millrace/common/check.h"
#include "millrace/config/pipeline_config.h"
#include "millrace/config/testing/example_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace::config;
  const std::string yaml(reinterpret_cast<const char*>(data), size);
  if (yaml.find("file:") != std::string::npos) {
    return 0;
  }
  LoadOptions options{.sink_types = testing::ExampleSinkTypes()};
  options.read.environment = [](const std::string& name) {
    return name.size() % 3 != 0 ? std::optional<std::string>("value") : std::nullopt;
  };
  for (const bool lenient : {false, true}) {
    options.read.lenient_references = lenient;
    Findings findings;
    const auto config = LoadPipelineConfig(yaml, "f.yaml", options, findings);
    MR_CHECK(config.has_value() == !findings.has_errors());
    if (config) {
      CheckSupported(*config).IgnoreError("only that it ends");
    }
  }
  return 0;
}
