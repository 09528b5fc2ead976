// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/blackhole/blackhole_sink.h"

#include <memory>
#include <utility>

#include "millrace/sinks/stream_list_sink.h"

namespace millrace::sinks {

SinkType BlackholeSinkType() {
  return MakeStreamListSinkType({.type = "blackhole",
                                 .description = "Counts rows and forgets them, for benchmarks.",
                                 .streams_description = "The streams whose rows are taken.",
                                 .batch_defaults = {.rows_max = 100'000,
                                                    .bytes_max = size_t{64} << 20,
                                                    .wait_max = std::chrono::milliseconds(5)},
                                 .make = [](SinkContext context) {
                                   return std::make_unique<BlackholeSink>(std::move(context));
                                 }});
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
