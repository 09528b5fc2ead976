// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include <librdkafka/rdkafka.h>

#include "millrace/clients/kafka/kafka_options.h"
#include "millrace/common/result.h"
#include "millrace/telemetry/log.h"

// What the classes of this folder share of librdkafka. Private to it.
namespace millrace::kafka::internal {

struct DestroyError {
  void operator()(rd_kafka_error_t* error) const { rd_kafka_error_destroy(error); }
};
using ErrorPtr = std::unique_ptr<rd_kafka_error_t, DestroyError>;

struct DestroyQueue {
  void operator()(rd_kafka_queue_t* queue) const { rd_kafka_queue_destroy(queue); }
};
using QueuePtr = std::unique_ptr<rd_kafka_queue_t, DestroyQueue>;

struct DestroyEvent {
  void operator()(rd_kafka_event_t* event) const { rd_kafka_event_destroy(event); }
};
using EventPtr = std::unique_ptr<rd_kafka_event_t, DestroyEvent>;

struct DestroyList {
  void operator()(rd_kafka_topic_partition_list_t* list) const {
    rd_kafka_topic_partition_list_destroy(list);
  }
};
using ListPtr = std::unique_ptr<rd_kafka_topic_partition_list_t, DestroyList>;

struct DestroyMessage {
  void operator()(rd_kafka_message_t* message) const { rd_kafka_message_destroy(message); }
};
using MessagePtr = std::unique_ptr<rd_kafka_message_t, DestroyMessage>;

// A message as delivery reports show it, to whoever made the handle.
using DeliveryReport = void (*)(const rd_kafka_message_t& message, void* owner);

// One librdkafka instance with its log. Movable in a unique_ptr only: librdkafka points to it.
class Handle {
 public:
  // `properties` come after those of `options`, and win. kInvalidArgument names the property that
  // librdkafka does not accept, never its value.
  static Result<std::unique_ptr<Handle>> Make(
      rd_kafka_type_t type, const KafkaOptions& options,
      const std::vector<std::pair<std::string, std::string>>& properties, telemetry::Logger log,
      DeliveryReport report = nullptr, void* owner = nullptr);
  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  rd_kafka_t* get() const { return handle_; }

 private:
  explicit Handle(telemetry::Logger log) : log_(std::move(log)) {}

  static void Log(const rd_kafka_t* handle, int level, const char* facility, const char* text);
  static void Report(rd_kafka_t* handle, const rd_kafka_message_t* message, void* opaque);
  static void OnError(rd_kafka_t* handle, int error, const char* reason, void* opaque);

  // Constant after Make().
  const telemetry::Logger log_;
  rd_kafka_t* handle_ = nullptr;
  DeliveryReport report_ = nullptr;
  void* owner_ = nullptr;
};

// kCancelled after `stop`, kTimedOut after `deadline`, else ok.
Status CheckGoOn(Deadline deadline, const std::stop_token& stop, std::string_view attempted);

// The time until `deadline`, at most a slice of 200 ms, after which a stop is looked for.
int SliceMs(Deadline deadline);

}  // namespace millrace::kafka::internal
