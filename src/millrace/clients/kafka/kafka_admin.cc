// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/kafka/kafka_admin.h"

#include <array>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "millrace/clients/kafka/kafka_error.h"
#include "millrace/clients/kafka/kafka_handle.h"

namespace millrace::kafka {

using internal::CheckGoOn;
using internal::EventPtr;
using internal::Handle;
using internal::QueuePtr;
using internal::SliceMs;

namespace {

struct DestroyOptions {
  void operator()(rd_kafka_AdminOptions_t* options) const {
    rd_kafka_AdminOptions_destroy(options);
  }
};
struct DestroyNewTopic {
  void operator()(rd_kafka_NewTopic_t* topic) const { rd_kafka_NewTopic_destroy(topic); }
};
struct DestroyResource {
  void operator()(rd_kafka_ConfigResource_t* resource) const {
    rd_kafka_ConfigResource_destroy(resource);
  }
};
using OptionsPtr = std::unique_ptr<rd_kafka_AdminOptions_t, DestroyOptions>;
using NewTopicPtr = std::unique_ptr<rd_kafka_NewTopic_t, DestroyNewTopic>;
using ResourcePtr = std::unique_ptr<rd_kafka_ConfigResource_t, DestroyResource>;

Result<OptionsPtr> MakeOptions(rd_kafka_t* handle, rd_kafka_admin_op_t operation,
                               Deadline deadline) {
  OptionsPtr options(rd_kafka_AdminOptions_new(handle, operation));
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::steady_clock::now());
  std::array<char, 256> error{};
  const int timeout = static_cast<int>(std::max<int64_t>(left.count(), 1));
  if (rd_kafka_AdminOptions_set_request_timeout(options.get(), timeout, error.data(),
                                                error.size()) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return Internal(fmt::format("set the time-out of a Kafka request: {}", error.data()));
  }
  return options;
}

// Waits for the answer of an admin request.
Result<EventPtr> AwaitEvent(rd_kafka_queue_t* queue, Deadline deadline, const std::stop_token& stop,
                            std::string_view attempted) {
  while (true) {
    EventPtr event(rd_kafka_queue_poll(queue, SliceMs(deadline)));
    if (event == nullptr) {
      const Status status = CheckGoOn(deadline, stop, attempted);
      if (!status.ok()) {
        // Nothing depends on whether an admin request came through.
        return status.code() == Code::kTimedOut ? Unavailable(status.message()) : status;
      }
      continue;
    }
    if (const auto error = rd_kafka_event_error(event.get()); error != 0) {
      return KafkaErrorStatus(error, attempted);
    }
    return event;
  }
}

std::optional<size_t> FindMessageBytesMax(const rd_kafka_ConfigResource_t* resource) {
  size_t count = 0;
  const rd_kafka_ConfigEntry_t** entries = rd_kafka_ConfigResource_configs(resource, &count);
  for (size_t i = 0; i < count; ++i) {
    const std::string_view name = rd_kafka_ConfigEntry_name(entries[i]);
    const char* value = rd_kafka_ConfigEntry_value(entries[i]);
    if (name != "max.message.bytes" || value == nullptr) {
      continue;
    }
    const std::string_view digits = value;
    size_t bytes = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), bytes).ec == std::errc()) {
      return bytes;
    }
  }
  return std::nullopt;
}

}  // namespace

KafkaAdmin::KafkaAdmin(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}

KafkaAdmin::~KafkaAdmin() = default;

Result<std::unique_ptr<KafkaAdmin>> KafkaAdmin::Make(const KafkaOptions& options,
                                                     telemetry::Logger log) {
  MR_ASSIGN_OR_RETURN(auto handle, Handle::Make(RD_KAFKA_PRODUCER, options, {}, std::move(log)));
  return std::unique_ptr<KafkaAdmin>(new KafkaAdmin(std::move(handle)));
}

Status KafkaAdmin::CheckBroker(Deadline deadline) {
  const rd_kafka_metadata_t* metadata = nullptr;
  const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::steady_clock::now());
  const rd_kafka_resp_err_t error =
      rd_kafka_metadata(handle_->get(), /*all_topics=*/0, /*only_rkt=*/nullptr, &metadata,
                        static_cast<int>(std::max<int64_t>(1, wait.count())));
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return KafkaErrorStatus(error, "ask Kafka which brokers there are");
  }
  rd_kafka_metadata_destroy(metadata);
  return Status::Ok();
}

Result<std::map<std::string, KafkaAdmin::Described>> KafkaAdmin::Describe(
    const std::vector<KafkaTopic>& topics, Deadline deadline, const std::stop_token& stop) {
  MR_ASSIGN_OR_RETURN(const OptionsPtr options,
                      MakeOptions(handle_->get(), RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, deadline));
  std::vector<ResourcePtr> owned;
  std::vector<rd_kafka_ConfigResource_t*> resources;
  for (const KafkaTopic& topic : topics) {
    owned.emplace_back(rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic.name.c_str()));
    resources.push_back(owned.back().get());
  }
  const QueuePtr queue(rd_kafka_queue_new(handle_->get()));
  rd_kafka_DescribeConfigs(handle_->get(), resources.data(), resources.size(), options.get(),
                           queue.get());
  MR_ASSIGN_OR_RETURN(const EventPtr event,
                      AwaitEvent(queue.get(), deadline, stop, "look at the topics in Kafka"));
  size_t count = 0;
  const rd_kafka_ConfigResource_t** results = rd_kafka_DescribeConfigs_result_resources(
      rd_kafka_event_DescribeConfigs_result(event.get()), &count);
  std::map<std::string, Described> described;
  for (size_t i = 0; i < count; ++i) {
    const std::string name = rd_kafka_ConfigResource_name(results[i]);
    const auto error = rd_kafka_ConfigResource_error(results[i]);
    if (error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) {
      described[name].is_missing = true;
    } else if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
      described[name].message_bytes_max = FindMessageBytesMax(results[i]);
    } else if (CodeOfKafkaError(error) == Code::kPermissionDenied) {
      described[name];  // we may not ask; writing tells the rest
    } else {
      return KafkaErrorStatus(error, fmt::format("look at topic '{}'", name));
    }
  }
  return described;
}

Status KafkaAdmin::Create(const std::vector<KafkaTopic>& topics, Deadline deadline,
                          const std::stop_token& stop) {
  MR_ASSIGN_OR_RETURN(const OptionsPtr options,
                      MakeOptions(handle_->get(), RD_KAFKA_ADMIN_OP_CREATETOPICS, deadline));
  std::vector<NewTopicPtr> owned;
  std::vector<rd_kafka_NewTopic_t*> requests;
  for (const KafkaTopic& topic : topics) {
    std::array<char, 256> error{};
    owned.emplace_back(rd_kafka_NewTopic_new(topic.name.c_str(), topic.partitions,
                                             topic.replication_factor, error.data(), error.size()));
    if (owned.back() == nullptr) {
      return InvalidArgument(fmt::format("topic '{}': {}", topic.name, error.data()));
    }
    for (const auto& [name, value] : topic.settings) {
      rd_kafka_NewTopic_set_config(owned.back().get(), name.c_str(), value.c_str());
    }
    requests.push_back(owned.back().get());
  }
  const QueuePtr queue(rd_kafka_queue_new(handle_->get()));
  rd_kafka_CreateTopics(handle_->get(), requests.data(), requests.size(), options.get(),
                        queue.get());
  MR_ASSIGN_OR_RETURN(const EventPtr event,
                      AwaitEvent(queue.get(), deadline, stop, "create topics in Kafka"));
  size_t count = 0;
  const rd_kafka_topic_result_t** results =
      rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
  for (size_t i = 0; i < count; ++i) {
    const auto error = rd_kafka_topic_result_error(results[i]);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR && error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) {
      return KafkaErrorStatus(
          error, fmt::format("create topic '{}'", rd_kafka_topic_result_name(results[i])));
    }
  }
  return Status::Ok();
}

Result<std::map<std::string, std::optional<size_t>>> KafkaAdmin::EnsureTopics(
    const std::vector<KafkaTopic>& topics, Deadline deadline, std::stop_token stop) {
  MR_ASSIGN_OR_RETURN(auto described, Describe(topics, deadline, stop));
  std::vector<KafkaTopic> missing;
  for (const KafkaTopic& topic : topics) {
    if (described[topic.name].is_missing) {
      missing.push_back(topic);
    }
  }
  if (!missing.empty()) {
    MR_RETURN_IF_ERROR(Create(missing, deadline, stop));
    // A new topic may be unknown to the broker that answers next: its limit is then the default.
    MR_ASSIGN_OR_RETURN(described, Describe(topics, deadline, stop));
  }
  std::map<std::string, std::optional<size_t>> limits;
  for (const KafkaTopic& topic : topics) {
    limits[topic.name] = described[topic.name].message_bytes_max;
  }
  return limits;
}

}  // namespace millrace::kafka
