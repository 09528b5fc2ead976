// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>

#include "millrace/sinks/sink.h"

namespace millrace::sinks {

SinkType BlackholeSinkType();

// Takes rows and forgets them. It logs how many there were when it is closed.
class BlackholeSink : public Sink {
 public:
  explicit BlackholeSink(SinkContext context) : context_(std::move(context)) {}

  Result<SinkPosition> Open(std::stop_token stop) override;
  Status Deliver(const DeliveryBatch& batch, std::stop_token stop) override;
  Result<std::optional<Offset>> ReadPosition() override;
  void Close() override;

  // Since construction.
  uint64_t rows() const { return rows_; }

 private:
  // Constant after construction.
  const SinkContext context_;

  // Used by the writer thread only.
  uint64_t rows_ = 0;
};

}  // namespace millrace::sinks
