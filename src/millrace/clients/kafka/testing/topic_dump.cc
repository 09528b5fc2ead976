// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/kafka/testing/topic_dump.h"

#include <chrono>
#include <utility>

#include "millrace/clients/kafka/kafka_error.h"
#include "millrace/clients/kafka/kafka_handle.h"

namespace millrace::kafka::testing {

Result<std::vector<Record>> DumpTopic(const KafkaOptions& options, const std::string& topic,
                                      int partitions) {
  MR_ASSIGN_OR_RETURN(const auto handle,
                      internal::Handle::Make(RD_KAFKA_CONSUMER, options,
                                             {{"group.id", "millrace-test-dump"},
                                              {"enable.auto.commit", "false"},
                                              {"isolation.level", "read_committed"},
                                              {"enable.partition.eof", "true"},
                                              {"auto.offset.reset", "earliest"},
                                              {"fetch.wait.max.ms", "20"}},
                                             {}));
  rd_kafka_poll_set_consumer(handle->get());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::vector<Record> records;
  for (int partition = 0; partition < partitions; ++partition) {
    const internal::ListPtr list(rd_kafka_topic_partition_list_new(1));
    rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), partition)->offset =
        RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(handle->get(), list.get());
    while (true) {
      const internal::MessagePtr message(rd_kafka_consumer_poll(handle->get(), 100));
      if (std::chrono::steady_clock::now() > deadline) {
        return TimedOut("read topic '" + topic + "'");
      }
      if (message == nullptr) {
        continue;
      }
      if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        break;
      }
      if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        continue;
      }
      Record record{.partition = partition, .key = std::nullopt, .value = std::nullopt};
      if (message->key != nullptr) {
        record.key.emplace(static_cast<const char*>(message->key), message->key_len);
      }
      if (message->payload != nullptr) {
        record.value.emplace(static_cast<const char*>(message->payload), message->len);
      }
      records.push_back(std::move(record));
    }
  }
  rd_kafka_consumer_close(handle->get());
  return records;
}

}  // namespace millrace::kafka::testing
