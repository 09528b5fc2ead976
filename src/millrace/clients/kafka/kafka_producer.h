// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/clients/kafka/kafka_options.h"
#include "millrace/common/result.h"
#include "millrace/telemetry/log.h"

struct rd_kafka_topic_s;

namespace millrace::kafka {

namespace internal {
class Handle;
}

struct KafkaProducerOptions {
  KafkaOptions kafka;
  std::string transactional_id;
  size_t message_bytes_max = 1'000'000;  // the longest message that any topic takes
  size_t batch_bytes_max = 1'000'000;    // the longest batch that every topic takes
  std::chrono::milliseconds linger{2};
  std::chrono::milliseconds transaction_timeout{60'000};
};

// A transactional producer. Lifecycle: Make(), AddTopic() for each topic, InitTransactions(), then
// Begin(), Produce()..., Commit() or Abort() any number of times. After an error of Begin(),
// Produce() or Commit() it is of no more use: a new one settles, in InitTransactions(), what became
// of an open transaction.
//
// Partitions are chosen by the murmur2 hash of the key, as Java clients do; messages without a key
// all go to one partition, so that their order stays.
//
// Threads: one thread makes every call.
//
// Errors: kFenced when another producer has taken over, kInvalidArgument for a message
// that is too large, kUnavailable and kTimedOut as they say, kCancelled soon after `stop`.
class KafkaProducer {
 public:
  static Result<std::unique_ptr<KafkaProducer>> Make(const KafkaProducerOptions& options,
                                                     telemetry::Logger log);
  // Does not wait: an open transaction is ended by the next InitTransactions() or the broker.
  ~KafkaProducer();

  // Gives the topic's number for Produce().
  Result<size_t> AddTopic(const std::string& name);

  // Fences every earlier producer with the same transactional.id and waits until its last
  // transaction is committed or aborted.
  Status InitTransactions(Deadline deadline, std::stop_token stop);

  Status Begin();

  // Queues a message; its bytes are copied. No key and no value are nothing, not empty. Blocks
  // while the queue is full.
  Status Produce(size_t topic, std::optional<std::string_view> key,
                 std::optional<std::string_view> value, const std::stop_token& stop);

  // Sends what is queued and commits. kTimedOut or kCancelled: the outcome is unknown. kUnavailable
  // and kInvalidArgument: nothing of it will be seen.
  Status Commit(Deadline deadline, std::stop_token stop);

  // Best effort, until `deadline`: what fails here is settled by the next producer.
  void Abort(Deadline deadline);

 private:
  explicit KafkaProducer(std::chrono::milliseconds transaction_timeout);

  struct Topic {
    std::string name;
    rd_kafka_topic_s* handle;
  };

  // The status of an error of a transaction call; `code` is librdkafka's.
  Status Classify(int code, bool is_fatal, std::string_view attempted) const;
  Status FirstFailedMessage() const;

  // Constant after Make().
  const std::chrono::milliseconds transaction_timeout_;
  std::unique_ptr<internal::Handle> handle_;

  std::vector<Topic> topics_;
  std::chrono::steady_clock::time_point begun_at_;
  bool in_transaction_ = false;
  size_t produced_ = 0;
  // The first message of the transaction that was not delivered.
  int failed_error_ = 0;
  std::string failed_topic_;
};

}  // namespace millrace::kafka
