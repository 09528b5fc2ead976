// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "millrace/sinks/sink.h"

namespace millrace::sinks::testing {

// A DeliveryLog in memory that outlives sinks as data_dir does.
class MemoryDeliveryLog : public DeliveryLog {
 public:
  Result<State> Load() override { return state_; }
  Status SavePlan(Offset delivered, std::string_view plan) override {
    if (fail_plans) {
      return ResourceExhausted("the disk is full");
    }
    state_ = {delivered, std::string(plan)};
    ++plans;
    return Status::Ok();
  }
  Status SavePosition(Offset delivered) override {
    if (fail_positions) {
      return Unavailable("the process died before the position was durable");
    }
    state_ = {delivered, ""};
    return Status::Ok();
  }

  bool fail_plans = false;
  bool fail_positions = false;
  int plans = 0;

 private:
  State state_;
};

}  // namespace millrace::sinks::testing
