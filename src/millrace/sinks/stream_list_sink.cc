// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/stream_list_sink.h"

#include <utility>
#include <vector>

namespace millrace::sinks {

SinkType MakeStreamListSinkType(StreamListSink sink) {
  SinkType type;
  type.spec = {.type = sink.type,
               .description = sink.description,
               .fields = {{.name = "streams",
                           .type = config::FieldType::kStringList,
                           .description = sink.streams_description,
                           .required = true}},
               .batch_defaults = sink.batch_defaults,
               .lint = {}};
  type.uses = [](const config::Section& section) {
    std::vector<StreamUse> uses;
    for (std::string& stream : section.GetStringList("streams")) {
      uses.push_back({.stream = std::move(stream), .address_columns = {}});
    }
    return uses;
  };
  type.make = [make = std::move(sink.make)](const config::Section&,
                                            SinkContext context) -> Result<std::unique_ptr<Sink>> {
    return make(std::move(context));
  };
  type.check = [](const config::Section&, const telemetry::Logger&) { return Status::Ok(); };
  return type;
}

}  // namespace millrace::sinks
