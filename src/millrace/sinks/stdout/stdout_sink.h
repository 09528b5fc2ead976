// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include "millrace/common/buffer.h"
#include "millrace/common/line_writer.h"
#include "millrace/sinks/json_row.h"
#include "millrace/sinks/sink.h"

namespace millrace::sinks {

SinkType StdoutSinkType();

// Prints rows as lines of JSON:
// `{"_stream":"events","id":7,...,"_version":"...","_commit_ts":"..."}`. At least once: rows
// printed after the last saved position are printed again after a crash. Lines stay whole where
// stdout is also what others print to, such as stderr; see LineWriter.
//
// Blocks while the reader of the pipe does not read, but not longer than a stop allows.
class StdoutSink : public Sink {
 public:
  // Writes to `fd`, which it does not own.
  StdoutSink(SinkContext context, int fd);

  Result<SinkPosition> Open(std::stop_token stop) override;
  Status Deliver(const DeliveryBatch& batch, std::stop_token stop) override;
  Result<std::optional<Offset>> ReadPosition() override;
  void Close() override {}

 private:
  void AppendLine(const OutputBatch& batch, size_t row);
  Status WriteOut(const std::stop_token& stop);

  // Constant after construction.
  const SinkContext context_;

  // Used by the writer thread only.
  LineWriter writer_;
  std::map<std::string, JsonRowEncoder> encoders_;  // by stream
  Buffer lines_;
};

}  // namespace millrace::sinks
