// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/kafka/kafka_handle.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <syslog.h>

namespace millrace::kafka {

bool IsReservedProperty(std::string_view name) {
  constexpr std::array<std::string_view, 17> kReserved = {
      "bootstrap.servers",
      "metadata.broker.list",
      "transactional.id",
      "transaction.timeout.ms",
      "enable.idempotence",
      "acks",
      "request.required.acks",
      "max.in.flight",
      "max.in.flight.requests.per.connection",
      "retries",
      "message.send.max.retries",
      "partitioner",
      "isolation.level",
      "enable.partition.eof",
      "enable.auto.commit",
      "group.id",
      "plugin.library.paths",
  };
  return std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end();
}

namespace internal {

namespace {

constexpr std::chrono::milliseconds kSlice{200};

struct DestroyConf {
  void operator()(rd_kafka_conf_t* conf) const { rd_kafka_conf_destroy(conf); }
};

}  // namespace

Result<std::unique_ptr<Handle>> Handle::Make(
    rd_kafka_type_t type, const KafkaOptions& options,
    const std::vector<std::pair<std::string, std::string>>& properties, telemetry::Logger log,
    DeliveryReport report, void* owner) {
  std::unique_ptr<rd_kafka_conf_t, DestroyConf> conf(rd_kafka_conf_new());
  std::vector<std::pair<std::string, std::string>> all = {
      {"bootstrap.servers", options.brokers},
      {"client.id", options.client_id},
      {"log.connection.close", "false"},
  };
  all.insert(all.end(), options.properties.begin(), options.properties.end());
  all.insert(all.end(), properties.begin(), properties.end());
  for (const auto& [name, value] : all) {
    // librdkafka's own sentence would show the value.
    std::array<char, 512> ignored{};
    if (rd_kafka_conf_set(conf.get(), name.c_str(), value.c_str(), ignored.data(),
                          ignored.size()) != RD_KAFKA_CONF_OK) {
      return InvalidArgument(
          fmt::format("librdkafka does not know the property '{}' or accept its value", name));
    }
  }
  std::unique_ptr<Handle> handle(new Handle(std::move(log)));
  handle->report_ = report;
  handle->owner_ = owner;
  rd_kafka_conf_set_opaque(conf.get(), handle.get());
  rd_kafka_conf_set_log_cb(conf.get(), Log);
  rd_kafka_conf_set_error_cb(conf.get(), OnError);
  if (report != nullptr) {
    rd_kafka_conf_set_dr_msg_cb(conf.get(), Report);
  }
  std::array<char, 512> error{};
  handle->handle_ = rd_kafka_new(type, conf.get(), error.data(), error.size());
  if (handle->handle_ == nullptr) {
    return FailedPrecondition(fmt::format("make a Kafka client: {}", error.data()));
  }
  (void)conf.release();  // rd_kafka_new() took it
  return handle;
}

Handle::~Handle() {
  if (handle_ != nullptr) {
    rd_kafka_destroy(handle_);
  }
}

void Handle::Log(const rd_kafka_t* handle, int level, const char* facility, const char* text) {
  const auto* self = static_cast<const Handle*>(rd_kafka_opaque(handle));
  if (self == nullptr) {
    return;
  }
  // What is an error to librdkafka is retried by it or by the pipeline.
  if (level <= LOG_WARNING) {
    self->log_.Warn("Kafka client warning", {{"facility", facility}, {"text", text}});
  } else if (level <= LOG_INFO) {
    self->log_.Debug("Kafka client message", {{"facility", facility}, {"text", text}});
  } else {
    self->log_.Trace("Kafka client message", {{"facility", facility}, {"text", text}});
  }
}

void Handle::OnError(rd_kafka_t* /*handle*/, int error, const char* reason, void* opaque) {
  const auto* self = static_cast<const Handle*>(opaque);
  const char* name = rd_kafka_err2name(static_cast<rd_kafka_resp_err_t>(error));
  self->log_.Warn("Kafka client error", {{"error", name}, {"text", reason}});
}

void Handle::Report(rd_kafka_t* /*handle*/, const rd_kafka_message_t* message, void* opaque) {
  const auto* self = static_cast<const Handle*>(opaque);
  self->report_(*message, self->owner_);
}

Status CheckGoOn(Deadline deadline, const std::stop_token& stop, std::string_view attempted) {
  if (stop.stop_requested()) {
    return Cancelled("asked to stop");
  }
  if (std::chrono::steady_clock::now() >= deadline) {
    return TimedOut(fmt::format("{}: no answer from Kafka in time", attempted));
  }
  return Status::Ok();
}

int SliceMs(Deadline deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp(left, std::chrono::milliseconds(1), kSlice).count());
}

}  // namespace internal

}  // namespace millrace::kafka
