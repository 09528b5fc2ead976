// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/blackhole/blackhole_sink.h"

#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace millrace::sinks {

namespace {

Result<std::unique_ptr<Sink>> MakeBlackholeSink(const config::Section& section,
                                                SinkContext context) {
  for (const std::string& stream : section.GetStringList("streams")) {
    if (context.streams.count(stream) == 0) {
      return InvalidArgument(fmt::format("there is no stream '{}'", stream));
    }
  }
  return std::unique_ptr<Sink>(std::make_unique<BlackholeSink>(std::move(context)));
}

}  // namespace

SinkType BlackholeSinkType() {
  return {.spec = {.type = "blackhole",
                   .description = "Counts rows and forgets them, for benchmarks.",
                   .fields = {{.name = "streams",
                               .type = config::FieldType::kStringList,
                               .description = "The streams whose rows are taken.",
                               .required = true}},
                   .batch_defaults = {.rows_max = 100'000,
                                      .bytes_max = size_t{64} << 20,
                                      .wait_max = std::chrono::milliseconds(5)},
                   .lint = {}},
          .uses =
              [](const config::Section& section) {
                std::vector<StreamUse> uses;
                for (std::string& stream : section.GetStringList("streams")) {
                  uses.push_back({.stream = std::move(stream), .address_columns = {}});
                }
                return uses;
              },
          .make = MakeBlackholeSink,
          .check = [](const config::Section&, const telemetry::Logger&) { return Status::Ok(); }};
}

Result<SinkPosition> BlackholeSink::Open(std::stop_token /*stop*/) {
  MR_ASSIGN_OR_RETURN(const DeliveryLog::State state, context_.delivery_log->Load());
  return SinkPosition{.delivered = state.delivered, .pending_end = std::nullopt};
}

Status BlackholeSink::Deliver(const DeliveryBatch& batch, std::stop_token /*stop*/) {
  rows_ += batch.row_count();
  return context_.delivery_log->SavePosition(batch.end);
}

Result<std::optional<Offset>> BlackholeSink::ReadPosition() {
  MR_ASSIGN_OR_RETURN(const DeliveryLog::State state, context_.delivery_log->Load());
  return state.delivered;
}

void BlackholeSink::Close() { context_.log.Info("Blackhole sink closed", {{"rows", rows_}}); }

}  // namespace millrace::sinks
