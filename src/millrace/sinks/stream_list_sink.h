// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "millrace/sinks/sink.h"

namespace millrace::sinks {

// A kind of sink that is configured by nothing but the list of its streams.
struct StreamListSink {
  std::string type;
  std::string description;
  std::string streams_description;
  config::BatchLimits batch_defaults;
  std::function<std::unique_ptr<Sink>(SinkContext)> make;
};

SinkType MakeStreamListSinkType(StreamListSink sink);

}  // namespace millrace::sinks
