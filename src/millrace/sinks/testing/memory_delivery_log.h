// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "millrace/sinks/sink.h"

namespace millrace::sinks::testing {

// A DeliveryLog in memory.
class MemoryDeliveryLog : public DeliveryLog {
 public:
  Result<State> Load() override { return state_; }
  Status SavePlan(Offset delivered, std::string_view plan) override {
    state_ = {.delivered = delivered, .plan = std::string(plan)};
    return Status::Ok();
  }
  Status SavePosition(Offset delivered) override {
    state_ = {.delivered = delivered, .plan = {}};
    return Status::Ok();
  }

 private:
  State state_;
};

}  // namespace millrace::sinks::testing
