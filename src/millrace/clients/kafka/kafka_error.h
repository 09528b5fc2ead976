// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "millrace/common/status.h"

namespace millrace::kafka {

// The Code of a librdkafka error (rd_kafka_resp_err_t as a number): see the table in
// kafka_error.cc. What is not in it is kUnavailable: worth another try from the start, and shown
// meanwhile.
Code CodeOfKafkaError(int error);

// "`attempted`: <librdkafka's sentence>", with the remedy where there is one.
Status KafkaErrorStatus(int error, std::string_view attempted);

// True if another producer with the same transactional.id has taken over (or the broker has ended
// our transaction because it took too long).
bool IsFenced(int error);

}  // namespace millrace::kafka
