// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/kafka/kafka_error.h"

#include <string>

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

namespace millrace::kafka {
namespace {

TEST(KafkaError, Codes) {
  struct Case {
    int error;
    Code code;
  };
  for (const Case c : {
           Case{RD_KAFKA_RESP_ERR__FENCED, Code::kFenced},
           Case{RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, Code::kFenced},
           Case{RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Code::kPermissionDenied},
           Case{RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, Code::kPermissionDenied},
           Case{RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Code::kInvalidArgument},
           Case{RD_KAFKA_RESP_ERR__TIMED_OUT, Code::kUnavailable},
           Case{RD_KAFKA_RESP_ERR__TRANSPORT, Code::kUnavailable},
           Case{RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, Code::kUnavailable},
           Case{RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, Code::kUnavailable},
           Case{RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, Code::kUnavailable},
           Case{RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, Code::kUnsupported},
       }) {
    EXPECT_EQ(CodeOfKafkaError(c.error), c.code) << c.error;
  }
}

TEST(KafkaError, SaysWhatToDo) {
  const Status status = KafkaErrorStatus(RD_KAFKA_RESP_ERR__FENCED, "commit");
  EXPECT_EQ(status.message().rfind("commit: ", 0), 0U);
  EXPECT_NE(status.message().find("another process with this transactional.id"), std::string::npos);
  EXPECT_TRUE(IsFenced(RD_KAFKA_RESP_ERR_PRODUCER_FENCED));
  EXPECT_FALSE(IsFenced(RD_KAFKA_RESP_ERR__TIMED_OUT));
}

}  // namespace
}  // namespace millrace::kafka
