// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/kafka/kafka_error.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <librdkafka/rdkafka.h>

namespace millrace::kafka {

namespace {

struct Meaning {
  int error;
  Code code;
  std::string_view remedy;
};

constexpr std::string_view kFencedRemedy =
    "another process with this transactional.id has taken over: stop one of them";
constexpr std::string_view kAclRemedy = "give the Kafka user the missing permission";
constexpr std::string_view kSizeRemedy =
    "raise max.message.bytes of the topic, or treat it as a bad row";

constexpr std::array<Meaning, 22> kMeanings = {{
    {RD_KAFKA_RESP_ERR__FENCED, Code::kFenced, kFencedRemedy},
    {RD_KAFKA_RESP_ERR_PRODUCER_FENCED, Code::kFenced, kFencedRemedy},
    {RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, Code::kFenced, kFencedRemedy},
    {RD_KAFKA_RESP_ERR__AUTHENTICATION, Code::kPermissionDenied, "check `properties`"},
    {RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, Code::kPermissionDenied, "check `properties`"},
    {RD_KAFKA_RESP_ERR__SSL, Code::kFailedPrecondition, "check the ssl.* `properties`"},
    {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Code::kPermissionDenied, kAclRemedy},
    {RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, Code::kPermissionDenied, kAclRemedy},
    {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, Code::kPermissionDenied, kAclRemedy},
    {RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Code::kPermissionDenied, kAclRemedy},
    {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Code::kInvalidArgument, kSizeRemedy},
    {RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, Code::kInvalidArgument, kSizeRemedy},
    {RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT, Code::kFailedPrecondition,
     "raise the broker's transaction.max.timeout.ms to 60000 or more"},
    {RD_KAFKA_RESP_ERR_POLICY_VIOLATION, Code::kFailedPrecondition,
     "create the topic by hand as the cluster's policy wants it"},
    {RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR, Code::kFailedPrecondition,
     "set `replication_factor` to at most the number of brokers"},
    {RD_KAFKA_RESP_ERR_INVALID_PARTITIONS, Code::kFailedPrecondition, "check `partitions`"},
    {RD_KAFKA_RESP_ERR_INVALID_CONFIG, Code::kFailedPrecondition, "create the topic by hand"},
    {RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, Code::kFailedPrecondition,
     "choose a topic name of letters, digits, '.', '_' and '-'"},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, Code::kUnsupported, "a newer broker is needed"},
    {RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE, Code::kUnsupported, "a newer broker is needed"},
    {RD_KAFKA_RESP_ERR__TIMED_OUT, Code::kUnavailable, ""},
    {RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, Code::kUnavailable, ""},
}};

const Meaning* FindMeaning(int error) {
  const auto* found = std::find_if(kMeanings.begin(), kMeanings.end(),
                                   [&](const Meaning& m) { return m.error == error; });
  return found == kMeanings.end() ? nullptr : found;
}

}  // namespace

Code CodeOfKafkaError(int error) {
  const Meaning* meaning = FindMeaning(error);
  return meaning == nullptr ? Code::kUnavailable : meaning->code;
}

Status KafkaErrorStatus(int error, std::string_view attempted) {
  const Meaning* meaning = FindMeaning(error);
  const char* text = rd_kafka_err2str(static_cast<rd_kafka_resp_err_t>(error));
  if (meaning == nullptr || meaning->remedy.empty()) {
    return {CodeOfKafkaError(error), fmt::format("{}: {}", attempted, text)};
  }
  return {meaning->code, fmt::format("{}: {}: {}", attempted, text, meaning->remedy)};
}

bool IsFenced(int error) {
  return error == RD_KAFKA_RESP_ERR__FENCED || error == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
         error == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
}

}  // namespace millrace::kafka
