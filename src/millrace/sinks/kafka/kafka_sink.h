// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "millrace/clients/kafka/kafka_producer.h"
#include "millrace/clients/kafka/kafka_tail_reader.h"
#include "millrace/sinks/kafka/kafka_config.h"
#include "millrace/sinks/kafka/kafka_encoder.h"
#include "millrace/sinks/sink.h"

namespace millrace::sinks {

SinkType KafkaSinkType();

// Delivers rows to topics of Kafka or Redpanda, each exactly once for consumers that read with
// isolation.level=read_committed: a delivery is one transaction that holds the messages and the
// position, the newest record of the compacted topic `millrace-<pipeline>-<sink>-positions`.
//
// Fencing: the stable transactional.id. Open() ends what an earlier producer left open and fences
// it, and only then reads the position, so that a commit whose answer was lost is settled by then.
//
// Bounds: librdkafka's queue (a million messages, 1 GiB); a delivery waits while it is full.
class KafkaSink : public Sink {
 public:
  KafkaSink(KafkaSinkOptions options, SinkContext context);
  ~KafkaSink() override;

  Result<SinkPosition> Open(std::stop_token stop) override;
  Status Deliver(const DeliveryBatch& batch, std::stop_token stop) override;
  RefusedRows TakeRefused() override { return std::exchange(refused_, {}); }
  Result<std::optional<Offset>> ReadPosition() override;
  void Close() override;

 private:
  // An entry of `topics:` with what is known of its topic.
  struct Target {
    explicit Target(KafkaTopicEntry entry) : encoder(std::move(entry)) {}
    KafkaEncoder encoder;
    size_t topic = 0;  // of the producer
    size_t message_bytes_max = 0;
  };

  Result<SinkPosition> Connect(const std::stop_token& stop);
  Status PrepareTopics(kafka::KafkaProducerOptions& producer, const std::stop_token& stop);
  Status StartProducer(const kafka::KafkaProducerOptions& options, const std::stop_token& stop);
  Result<std::optional<Offset>> ReadPositionUntil(kafka::Deadline deadline,
                                                  const std::stop_token& stop);
  Status ProduceSlice(const OutputSlice& slice, Target& target, const std::stop_token& stop);

  // Constant after construction.
  const KafkaSinkOptions options_;
  const SinkContext context_;
  const std::string transactional_id_;
  const std::string position_topic_;

  // Used by the writer thread only.
  std::vector<Target> targets_;
  std::unique_ptr<kafka::KafkaProducer> producer_;  // null: not open
  std::unique_ptr<kafka::KafkaTailReader> reader_;
  size_t position_topic_number_ = 0;
  RefusedRows refused_;
};

}  // namespace millrace::sinks
