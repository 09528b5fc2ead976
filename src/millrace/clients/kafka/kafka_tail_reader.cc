// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/kafka/kafka_tail_reader.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "millrace/clients/kafka/kafka_error.h"
#include "millrace/clients/kafka/kafka_handle.h"

namespace millrace::kafka {

using internal::CheckGoOn;
using internal::Handle;
using internal::ListPtr;
using internal::MessagePtr;
using internal::SliceMs;

namespace {

// A transaction takes two offsets, its record and its marker; an aborted one counts too.
constexpr int64_t kFirstStep = 256;
constexpr int64_t kStepFactor = 16;

// A time-out of reading leaves nothing unknown.
Status AsUnavailable(const Status& status) {
  return status.code() == Code::kTimedOut ? Unavailable(status.message()) : status;
}

}  // namespace

KafkaTailReader::KafkaTailReader(std::unique_ptr<Handle> handle, std::string topic)
    : handle_(std::move(handle)), topic_(std::move(topic)) {}

KafkaTailReader::~KafkaTailReader() {
  if (handle_ != nullptr) {
    rd_kafka_consumer_close(handle_->get());
  }
}

Result<std::unique_ptr<KafkaTailReader>> KafkaTailReader::Make(const KafkaOptions& options,
                                                               std::string topic,
                                                               telemetry::Logger log) {
  // A group id is asked for by librdkafka; nothing joins it and nothing is committed.
  MR_ASSIGN_OR_RETURN(auto handle, Handle::Make(RD_KAFKA_CONSUMER, options,
                                                {{"group.id", topic},
                                                 {"enable.auto.commit", "false"},
                                                 {"isolation.level", "read_committed"},
                                                 {"enable.partition.eof", "true"},
                                                 {"auto.offset.reset", "earliest"},
                                                 {"fetch.wait.max.ms", "50"}},
                                                std::move(log)));
  rd_kafka_poll_set_consumer(handle->get());
  return std::unique_ptr<KafkaTailReader>(new KafkaTailReader(std::move(handle), std::move(topic)));
}

Result<KafkaTailReader::Range> KafkaTailReader::QueryRange(Deadline deadline,
                                                           const std::stop_token& stop) {
  const std::string attempted = fmt::format("read the end of topic '{}'", topic_);
  while (true) {
    Range range;
    const auto error = rd_kafka_query_watermark_offsets(
        handle_->get(), topic_.c_str(), 0, &range.low, &range.high, SliceMs(deadline) * 5);
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
      return range;
    }
    // A topic that was made a moment ago has no leader yet.
    if (CodeOfKafkaError(error) != Code::kUnavailable) {
      return KafkaErrorStatus(error, attempted);
    }
    const Status status = CheckGoOn(deadline, stop, attempted);
    if (!status.ok()) {
      return status.code() == Code::kCancelled ? status : KafkaErrorStatus(error, attempted);
    }
  }
}

Status KafkaTailReader::Assign(int64_t offset) {
  const ListPtr list(rd_kafka_topic_partition_list_new(1));
  rd_kafka_topic_partition_list_add(list.get(), topic_.c_str(), 0)->offset = offset;
  const auto error = rd_kafka_assign(handle_->get(), list.get());
  return error == RD_KAFKA_RESP_ERR_NO_ERROR
             ? Status::Ok()
             : KafkaErrorStatus(error, fmt::format("read topic '{}'", topic_));
}

Result<KafkaTailReader::Found> KafkaTailReader::ReadFrom(int64_t offset, std::string_view key,
                                                         Deadline deadline,
                                                         const std::stop_token& stop) {
  const std::string attempted = fmt::format("read topic '{}'", topic_);
  MR_RETURN_IF_ERROR(Assign(offset));
  Found found;
  while (true) {
    const MessagePtr message(rd_kafka_consumer_poll(handle_->get(), SliceMs(deadline)));
    if (message == nullptr) {
      MR_RETURN_IF_ERROR(AsUnavailable(CheckGoOn(deadline, stop, attempted)));
      continue;
    }
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
      return found;
    }
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      if (CodeOfKafkaError(message->err) != Code::kUnavailable) {
        return KafkaErrorStatus(message->err, attempted);
      }
      MR_RETURN_IF_ERROR(AsUnavailable(CheckGoOn(deadline, stop, attempted)));
      continue;
    }
    const std::string_view message_key(static_cast<const char*>(message->key), message->key_len);
    if (message_key != key) {
      continue;
    }
    found.any = true;
    found.value.reset();
    if (message->payload != nullptr) {
      found.value.emplace(static_cast<const char*>(message->payload), message->len);
    }
  }
}

Result<std::optional<std::string>> KafkaTailReader::ReadLast(std::string_view key,
                                                             Deadline deadline,
                                                             std::stop_token stop) {
  MR_ASSIGN_OR_RETURN(const Range range, QueryRange(deadline, stop));
  Result<Found> found = Found{};
  for (int64_t step = kFirstStep;; step *= kStepFactor) {
    const int64_t from = std::max(range.low, range.high - step);
    found = ReadFrom(from, key, deadline, stop);
    if (!found.ok() || found->any || from == range.low) {
      break;
    }
  }
  rd_kafka_assign(handle_->get(), nullptr);
  MR_RETURN_IF_ERROR(found.status());
  return std::move(found->value);
}

}  // namespace millrace::kafka
