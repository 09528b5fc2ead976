// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/kafka/kafka_producer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "millrace/clients/kafka/kafka_error.h"
#include "millrace/clients/kafka/kafka_handle.h"

namespace millrace::kafka {

using internal::CheckGoOn;
using internal::ErrorPtr;
using internal::Handle;
using internal::SliceMs;

namespace {

// Delivery reports are looked at every so many messages.
constexpr size_t kMessagesPerPoll = 1024;
constexpr int kFullQueuePollMs = 20;
// What a stop waits for at most. A commit whose answer has not come by then is left to the next
// producer.
constexpr std::chrono::seconds kCommitWait{2};

}  // namespace

KafkaProducer::KafkaProducer(std::chrono::milliseconds transaction_timeout)
    : transaction_timeout_(transaction_timeout) {}

KafkaProducer::~KafkaProducer() {
  if (handle_ != nullptr) {
    rd_kafka_purge(handle_->get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  }
  for (const Topic& topic : topics_) {
    rd_kafka_topic_destroy(topic.handle);
  }
}

Result<std::unique_ptr<KafkaProducer>> KafkaProducer::Make(const KafkaProducerOptions& options,
                                                           telemetry::Logger log) {
  std::unique_ptr<KafkaProducer> producer(new KafkaProducer(options.transaction_timeout));
  const internal::DeliveryReport report = [](const rd_kafka_message_t& message, void* owner) {
    auto* self = static_cast<KafkaProducer*>(owner);
    if (message.err != RD_KAFKA_RESP_ERR_NO_ERROR && self->failed_error_ == 0) {
      self->failed_error_ = message.err;
      self->failed_topic_ = rd_kafka_topic_name(message.rkt);
    }
  };
  MR_ASSIGN_OR_RETURN(
      producer->handle_,
      Handle::Make(RD_KAFKA_PRODUCER, options.kafka,
                   {{"transactional.id", options.transactional_id},
                    {"enable.idempotence", "true"},
                    {"acks", "all"},
                    {"compression.codec", "lz4"},
                    {"linger.ms", std::to_string(options.linger.count())},
                    {"transaction.timeout.ms", std::to_string(options.transaction_timeout.count())},
                    {"message.max.bytes", std::to_string(options.message_bytes_max)},
                    {"batch.size", std::to_string(options.batch_bytes_max)},
                    {"queue.buffering.max.messages", "1000000"},
                    {"queue.buffering.max.kbytes", "1048576"}},
                   std::move(log), report, producer.get()));
  return producer;
}

Result<size_t> KafkaProducer::AddTopic(const std::string& name) {
  rd_kafka_topic_conf_t* conf = rd_kafka_topic_conf_new();
  std::array<char, 256> error{};
  if (rd_kafka_topic_conf_set(conf, "partitioner", "murmur2", error.data(), error.size()) !=
      RD_KAFKA_CONF_OK) {
    rd_kafka_topic_conf_destroy(conf);
    return Internal(fmt::format("set the partitioner of topic '{}': {}", name, error.data()));
  }
  rd_kafka_topic_t* topic = rd_kafka_topic_new(handle_->get(), name.c_str(), conf);
  if (topic == nullptr) {
    return KafkaErrorStatus(rd_kafka_last_error(), fmt::format("open topic '{}'", name));
  }
  topics_.push_back({name, topic});
  return topics_.size() - 1;
}

Status KafkaProducer::Classify(int code, bool is_fatal, std::string_view attempted) const {
  int cause = code;
  if (is_fatal) {
    // The error that made the producer unusable, rather than "fatal".
    std::array<char, 512> text{};
    const auto first = rd_kafka_fatal_error(handle_->get(), text.data(), text.size());
    cause = first == RD_KAFKA_RESP_ERR_NO_ERROR ? code : first;
  }
  const bool took_too_long = in_transaction_ && std::chrono::steady_clock::now() - begun_at_ >=
                                                    transaction_timeout_ * 9 / 10;
  if (IsFenced(cause) && took_too_long) {
    // The broker ended our own transaction: nobody else is there.
    return Unavailable(fmt::format(
        "{}: the transaction took longer than {} s and Kafka has ended it", attempted,
        std::chrono::duration_cast<std::chrono::seconds>(transaction_timeout_).count()));
  }
  return KafkaErrorStatus(cause, attempted);
}

Status KafkaProducer::InitTransactions(Deadline deadline, std::stop_token stop) {
  constexpr std::string_view kAttempted = "begin to write to Kafka in transactions";
  while (true) {
    const ErrorPtr error(rd_kafka_init_transactions(handle_->get(), SliceMs(deadline)));
    if (error == nullptr) {
      return Status::Ok();
    }
    const int code = rd_kafka_error_code(error.get());
    if (rd_kafka_error_is_fatal(error.get()) != 0 ||
        rd_kafka_error_is_retriable(error.get()) == 0) {
      return Classify(code, rd_kafka_error_is_fatal(error.get()) != 0, kAttempted);
    }
    const Status status = CheckGoOn(deadline, stop, kAttempted);
    if (!status.ok()) {
      return status.code() == Code::kCancelled ? status : KafkaErrorStatus(code, kAttempted);
    }
  }
}

Status KafkaProducer::Begin() {
  begun_at_ = std::chrono::steady_clock::now();
  failed_error_ = 0;
  failed_topic_.clear();
  const ErrorPtr error(rd_kafka_begin_transaction(handle_->get()));
  if (error != nullptr) {
    return Classify(rd_kafka_error_code(error.get()), rd_kafka_error_is_fatal(error.get()) != 0,
                    "begin a Kafka transaction");
  }
  in_transaction_ = true;
  return Status::Ok();
}

Status KafkaProducer::Produce(size_t topic, std::optional<std::string_view> key,
                              std::optional<std::string_view> value, const std::stop_token& stop) {
  rd_kafka_topic_t* const handle = topics_[topic].handle;
  if (++produced_ % kMessagesPerPoll == 0) {
    rd_kafka_poll(handle_->get(), 0);
  }
  // librdkafka takes a null pointer for "nothing", and does not write to what F_COPY copies.
  const auto pointer = [](const std::optional<std::string_view>& bytes) {
    const char* at = !bytes.has_value() ? nullptr : bytes->empty() ? "" : bytes->data();
    return const_cast<char*>(at);
  };
  while (true) {
    const int result = rd_kafka_produce(handle, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
                                        pointer(value), value.has_value() ? value->size() : 0,
                                        pointer(key), key.has_value() ? key->size() : 0, nullptr);
    if (result == 0) {
      return Status::Ok();
    }
    const auto error = rd_kafka_last_error();
    if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
      if (failed_error_ != 0) {
        return FirstFailedMessage();
      }
      return Classify(error, error == RD_KAFKA_RESP_ERR__FATAL,
                      fmt::format("write to topic '{}'", topics_[topic].name));
    }
    MR_RETURN_IF_ERROR(CheckGoOn(begun_at_ + transaction_timeout_, stop, "write to Kafka"));
    rd_kafka_poll(handle_->get(), kFullQueuePollMs);
  }
}

Status KafkaProducer::FirstFailedMessage() const {
  return Classify(failed_error_, failed_error_ == RD_KAFKA_RESP_ERR__FATAL,
                  fmt::format("write to topic '{}'", failed_topic_));
}

Status KafkaProducer::Commit(Deadline deadline, std::stop_token stop) {
  constexpr std::string_view kAttempted = "commit a Kafka transaction";
  while (rd_kafka_flush(handle_->get(), SliceMs(deadline)) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    MR_RETURN_IF_ERROR(CheckGoOn(deadline, stop, kAttempted));
  }
  // Asked for once, not in slices: a further call that librdkafka does not begin in time makes it
  // forget what its producer is at, and an answer that comes just then ends the process (2.0: it
  // takes the commit for an abort).
  const auto limit = std::min(deadline, std::chrono::steady_clock::now() + kCommitWait);
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      limit - std::chrono::steady_clock::now());
  const ErrorPtr error(rd_kafka_commit_transaction(
      handle_->get(), static_cast<int>(std::max(left, std::chrono::milliseconds(1)).count())));
  if (error == nullptr) {
    in_transaction_ = false;
    return Status::Ok();
  }
  const int code = rd_kafka_error_code(error.get());
  if (rd_kafka_error_is_fatal(error.get()) != 0) {
    return Classify(code, /*is_fatal=*/true, kAttempted);
  }
  if (rd_kafka_error_txn_requires_abort(error.get()) == 0) {
    return TimedOut(KafkaErrorStatus(code, kAttempted).message() + "; its outcome is unknown");
  }
  if (failed_error_ == 0) {
    // The commit may be under way, and an abort beside it takes its answer for one of its own:
    // librdkafka 2.0 ends the process then (pull request 3331). The next producer settles it.
    return Classify(code, false, kAttempted);
  }
  Abort(deadline);
  return FirstFailedMessage();
}

void KafkaProducer::Abort(Deadline deadline) {
  while (in_transaction_) {
    const ErrorPtr error(rd_kafka_abort_transaction(handle_->get(), SliceMs(deadline)));
    if (error == nullptr || rd_kafka_error_is_fatal(error.get()) != 0 ||
        rd_kafka_error_is_retriable(error.get()) == 0 ||
        std::chrono::steady_clock::now() >= deadline) {
      in_transaction_ = false;
    }
  }
}

}  // namespace millrace::kafka
