// SPDX-License-Identifier: Apache-2.0
#include "millrace/sinks/kafka/kafka_sink.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "millrace/clients/kafka/kafka_admin.h"
#include "millrace/common/failpoint.h"
#include "millrace/sinks/position_record.h"

namespace millrace::sinks {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr seconds kReadTimeout{10};
constexpr milliseconds kAbortTimeout{5'000};
constexpr milliseconds kStopAbortTimeout{500};

// What Kafka takes where we may not ask a topic for its limit: the broker's default.
constexpr size_t kMessageBytesDefault = 1'000'000;
// librdkafka's bounds of message.max.bytes.
constexpr size_t kMessageBytesLeast = 1'000;
constexpr size_t kMessageBytesMost = 1'000'000'000;
// Of a message that is alone in its batch: the batch's header and the record's.
constexpr size_t kMessageOverhead = 128;

// Small segments, so that compaction keeps the topic short.
const std::vector<std::pair<std::string, std::string>> kPositionTopicSettings = {
    {"cleanup.policy", "compact"},
    {"segment.bytes", "16777216"},
    {"min.cleanable.dirty.ratio", "0.1"}};

Status CheckStreams(const KafkaSinkOptions& options, const SinkContext& context) {
  for (const KafkaTopicEntry& entry : options.topics) {
    MR_RETURN_IF_ERROR(KafkaEncoder(entry).Prepare(context.streams.at(entry.stream)));
  }
  return Status::Ok();
}

Result<std::unique_ptr<Sink>> MakeKafkaSink(const config::Section& section, SinkContext context) {
  MR_ASSIGN_OR_RETURN(KafkaSinkOptions options, ParseKafkaOptions(section));
  std::erase_if(options.topics, [&](const KafkaTopicEntry& entry) {
    return !context.streams.contains(entry.stream);
  });
  MR_RETURN_IF_ERROR(CheckStreams(options, context));
  return std::unique_ptr<Sink>(std::make_unique<KafkaSink>(std::move(options), std::move(context)));
}

Status CheckKafkaTarget(const config::Section& section, const telemetry::Logger& log) {
  MR_ASSIGN_OR_RETURN(const KafkaSinkOptions options, ParseKafkaOptions(section));
  MR_ASSIGN_OR_RETURN(const auto admin, kafka::KafkaAdmin::Make(options.kafka, log));
  return admin->CheckBroker(steady_clock::now() + kReadTimeout)
      .WithContext(fmt::format("Kafka at {}", options.kafka.brokers));
}

}  // namespace

SinkType KafkaSinkType() {
  // Rows do not wait for company: while one delivery is under way the next one gathers.
  return {.spec = {.type = "kafka",
                   .description = "Topics of Kafka or Redpanda, exactly once in transactions.",
                   .fields = KafkaFields(),
                   .batch_defaults = {.rows_max = 10'000,
                                      .bytes_max = uint64_t{8} << 20,
                                      .wait_max = std::chrono::milliseconds(0)},
                   .lint = LintKafka},
          .uses = KafkaUses,
          .make = MakeKafkaSink,
          .check = CheckKafkaTarget};
}

KafkaSink::KafkaSink(KafkaSinkOptions options, SinkContext context)
    : options_(std::move(options)),
      context_(std::move(context)),
      transactional_id_(fmt::format("millrace-{}-{}", context_.pipeline, context_.name)),
      position_topic_(transactional_id_ + "-positions") {
  for (const KafkaTopicEntry& entry : options_.topics) {
    targets_.emplace_back(entry);
  }
}

KafkaSink::~KafkaSink() = default;

void KafkaSink::Close() {
  producer_.reset();
  reader_.reset();
}

// Makes what is missing and learns how long messages may be.
Status KafkaSink::PrepareTopics(kafka::KafkaProducerOptions& producer,
                                const std::stop_token& stop) {
  std::map<std::string, kafka::KafkaTopic> topics;
  int replication_factor = -1;
  for (const KafkaTopicEntry& entry : options_.topics) {
    topics[entry.topic] = {.name = entry.topic,
                           .partitions = entry.partitions,
                           .replication_factor = entry.replication_factor,
                           .settings = {}};
    replication_factor = std::max(replication_factor, entry.replication_factor);
  }
  topics[position_topic_] = {.name = position_topic_,
                             .partitions = 1,
                             .replication_factor = replication_factor,
                             .settings = kPositionTopicSettings};
  std::vector<kafka::KafkaTopic> list;
  for (const auto& entry : topics) {
    list.push_back(entry.second);
  }
  MR_ASSIGN_OR_RETURN(const auto admin, kafka::KafkaAdmin::Make(options_.kafka, context_.log));
  MR_ASSIGN_OR_RETURN(const auto limits,
                      admin->EnsureTopics(list, steady_clock::now() + options_.open_timeout, stop));
  producer.message_bytes_max = kMessageBytesLeast;
  producer.batch_bytes_max = kMessageBytesMost;
  for (Target& target : targets_) {
    const size_t limit =
        std::clamp(limits.at(target.encoder.entry().topic).value_or(kMessageBytesDefault),
                   kMessageBytesLeast, kMessageBytesMost);
    target.message_bytes_max = limit;
    producer.message_bytes_max = std::max(producer.message_bytes_max, limit);
    producer.batch_bytes_max = std::min(producer.batch_bytes_max, limit);
  }
  // A larger batch is no faster.
  producer.batch_bytes_max = std::min(producer.batch_bytes_max, kMessageBytesDefault);
  return Status::Ok();
}

Status KafkaSink::StartProducer(const kafka::KafkaProducerOptions& options,
                                const std::stop_token& stop) {
  MR_ASSIGN_OR_RETURN(producer_, kafka::KafkaProducer::Make(options, context_.log));
  for (Target& target : targets_) {
    MR_ASSIGN_OR_RETURN(target.topic, producer_->AddTopic(target.encoder.entry().topic));
  }
  MR_ASSIGN_OR_RETURN(position_topic_number_, producer_->AddTopic(position_topic_));
  return producer_->InitTransactions(steady_clock::now() + options_.open_timeout, stop);
}

Result<SinkPosition> KafkaSink::Open(std::stop_token stop) {
  Close();
  Result<SinkPosition> position = Connect(stop);
  if (!position.ok()) {
    return position.status().WithContext(fmt::format("Kafka at {}", options_.kafka.brokers));
  }
  return position;
}

Result<SinkPosition> KafkaSink::Connect(const std::stop_token& stop) {
  kafka::KafkaProducerOptions options{.kafka = options_.kafka,
                                      .transactional_id = transactional_id_,
                                      .transaction_timeout = options_.transaction_timeout};
  MR_RETURN_IF_ERROR(PrepareTopics(options, stop));
  MR_ASSIGN_OR_RETURN(reader_,
                      kafka::KafkaTailReader::Make(options_.kafka, position_topic_, context_.log));
  // Before anybody is fenced: a pipeline of another data_dir is left alone.
  MR_RETURN_IF_ERROR(ReadPositionUntil(steady_clock::now() + options_.open_timeout, stop).status());
  MR_RETURN_IF_ERROR(StartProducer(options, stop));
  // What an earlier producer had begun is committed or aborted by now.
  MR_ASSIGN_OR_RETURN(const std::optional<Offset> delivered,
                      ReadPositionUntil(steady_clock::now() + options_.open_timeout, stop));
  context_.log.Info("Kafka sink opened", {{"transactional_id", transactional_id_}});
  return SinkPosition{.delivered = delivered, .pending_end = std::nullopt};
}

Result<std::optional<Offset>> KafkaSink::ReadPositionUntil(kafka::Deadline deadline,
                                                           const std::stop_token& stop) {
  MR_ASSIGN_OR_RETURN(const std::optional<std::string> text,
                      reader_->ReadLast(transactional_id_, deadline, stop));
  if (!text.has_value()) {
    return std::optional<Offset>();
  }
  MR_ASSIGN_OR_RETURN(const PositionRecord record,
                      ReadOwnPosition(*text, context_.instance_id,
                                      fmt::format("Kafka topic '{}'", position_topic_)));
  return std::optional<Offset>(record.end);
}

Result<std::optional<Offset>> KafkaSink::ReadPosition() {
  if (reader_ == nullptr) {
    return Unavailable("the connection to Kafka is closed");
  }
  return ReadPositionUntil(steady_clock::now() + kReadTimeout, {});
}

Status KafkaSink::ProduceSlice(const OutputSlice& slice, Target& target,
                               const std::stop_token& stop) {
  const OutputBatch& batch = *slice.batch;
  MR_RETURN_IF_ERROR(target.encoder.Prepare(batch.stream));
  for (size_t row = slice.begin; row < slice.end; ++row) {
    if (!target.encoder.Takes(batch.ops[row])) {
      continue;
    }
    const KafkaEncoder::Message message = target.encoder.Encode(batch, row);
    const size_t bytes =
        message.value.size() + (message.key ? message.key->size() : 0) + kMessageOverhead;
    if (bytes > target.message_bytes_max) {
      refused_.rows.emplace(
          Offset(batch.first_offset.value() + row),
          fmt::format("stream '{}': a row is a message of {} bytes, topic '{}' takes at most {}: "
                      "raise its max.message.bytes",
                      batch.stream->name, bytes, target.encoder.entry().topic,
                      target.message_bytes_max));
      continue;
    }
    MR_RETURN_IF_ERROR(producer_->Produce(target.topic, message.key, message.value, stop));
    if (message.needs_tombstone) {
      MR_RETURN_IF_ERROR(producer_->Produce(target.topic, message.key, std::nullopt, stop));
    }
  }
  return Status::Ok();
}

Status KafkaSink::Deliver(const DeliveryBatch& batch, std::stop_token stop) {
  if (producer_ == nullptr) {
    return Unavailable("the connection to Kafka is closed");
  }
  refused_ = {};
  const auto produce = [&]() -> Status {
    for (const OutputSlice& slice : batch.slices) {
      for (Target& target : targets_) {
        if (target.encoder.entry().stream == slice.batch->stream->name) {
          MR_RETURN_IF_ERROR(ProduceSlice(slice, target, stop));
        }
      }
    }
    if (!refused_.rows.empty()) {
      return InvalidArgument(refused_.rows.begin()->second);
    }
    return producer_->Produce(position_topic_number_, transactional_id_,
                              FormatPositionRecord(PositionAfter(batch, context_.instance_id)),
                              stop);
  };
  MR_RETURN_IF_ERROR(producer_->Begin());
  const Status produced = produce();
  if (!produced.ok()) {
    const bool is_stop = produced.code() == Code::kCancelled;
    producer_->Abort(steady_clock::now() + (is_stop ? kStopAbortTimeout : kAbortTimeout));
    return produced;
  }
  MR_FAILPOINT("kafka.before_commit");
  MR_RETURN_IF_ERROR(producer_->Commit(steady_clock::now() + options_.commit_timeout, stop));
  MR_FAILPOINT("kafka.after_commit");
  return Status::Ok();
}

}  // namespace millrace::sinks
