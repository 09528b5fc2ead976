// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/stdout/stdout_sink.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include <unistd.h>

#include "millrace/sinks/stream_list_sink.h"

namespace millrace::sinks {

namespace {

// Lines are written out when so much of them has gathered.
constexpr size_t kChunkBytes = size_t{1} << 20;

}  // namespace

SinkType StdoutSinkType() {
  return MakeStreamListSinkType({.type = "stdout",
                                 .description = "Lines of JSON on standard output, at least once.",
                                 .streams_description = "The streams whose rows are printed.",
                                 .batch_defaults = {.rows_max = 10'000,
                                                    .bytes_max = size_t{8} << 20,
                                                    .wait_max = std::chrono::milliseconds(5)},
                                 .make = [](SinkContext context) {
                                   return std::make_unique<StdoutSink>(std::move(context),
                                                                       STDOUT_FILENO);
                                 }});
}

StdoutSink::StdoutSink(SinkContext context, int fd) : context_(std::move(context)), writer_(fd) {}

Result<SinkPosition> StdoutSink::Open(std::stop_token /*stop*/) {
  MR_ASSIGN_OR_RETURN(const DeliveryLog::State state, context_.delivery_log->Load());
  return SinkPosition{.delivered = state.delivered, .pending_end = std::nullopt};
}

Result<std::optional<Offset>> StdoutSink::ReadPosition() {
  MR_ASSIGN_OR_RETURN(const DeliveryLog::State state, context_.delivery_log->Load());
  return state.delivered;
}

void StdoutSink::AppendLine(const OutputBatch& batch, size_t row) {
  const size_t begin = lines_.size();
  lines_.Append("{\"_stream\":");
  AppendJsonString(lines_, batch.stream->name);
  const size_t brace = lines_.size();
  encoders_[batch.stream->name].Append(batch, row, lines_);
  lines_.data()[brace] = ',';
  // Embedded JSON may hold line breaks; outside strings they are space, and inside they are
  // escaped.
  char* const end = lines_.data() + lines_.size();
  std::replace_if(
      lines_.data() + begin, end, [](char c) { return c == '\n' || c == '\r'; }, ' ');
  lines_.Append("\n");
}

Status StdoutSink::WriteOut(const std::stop_token& stop) {
  MR_RETURN_IF_ERROR(
      writer_.Write(lines_.view(), std::chrono::steady_clock::time_point::max(), stop)
          .WithContext("write to standard output"));
  lines_.Clear();
  return Status::Ok();
}

Status StdoutSink::Deliver(const DeliveryBatch& batch, std::stop_token stop) {
  lines_.Clear();
  for (const OutputSlice& slice : batch.slices) {
    for (size_t row = slice.begin; row < slice.end; ++row) {
      if (slice.batch->ops[row] == OutputOp::kMovedAway) {
        continue;
      }
      AppendLine(*slice.batch, row);
      if (lines_.size() >= kChunkBytes) {
        MR_RETURN_IF_ERROR(WriteOut(stop));
      }
    }
  }
  MR_RETURN_IF_ERROR(WriteOut(stop));
  return context_.delivery_log->SavePosition(batch.end);
}

}  // namespace millrace::sinks
