// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "millrace/clients/redis/redis_client.h"
#include "millrace/common/buffer.h"
#include "millrace/sinks/redis/redis_config.h"
#include "millrace/sinks/redis/redis_encoder.h"
#include "millrace/sinks/sink.h"

namespace millrace::sinks {

SinkType RedisSinkType();

// Delivers rows to one Redis server, each exactly once: a delivery is one MULTI ... EXEC that holds
// the data and `millrace:<pipeline>:<sink>:position`, so that the position tells, after a lost
// reply too, whether the delivery happened.
//
// Fencing: Open() writes a random owner to `millrace:<pipeline>:<sink>:owner`. A delivery watches
// owner and position, reads them, and EXEC does nothing if either changed since: a process that was
// replaced, or a delivery of our own whose reply was lost and that arrives late, writes nothing.
//
// EXEC does not roll back a command that fails when it runs. Streams are therefore watched, and
// their type and last id read, before each delivery, so that an XADD can fail neither by its key's
// type nor by an id that does not grow; other commands cannot fail on a key of another type, and
// the type is looked at once for each key so that no foreign key is overwritten.
//
// Bounds: one delivery is in memory, as rows and as commands.
class RedisSink : public Sink {
 public:
  RedisSink(RedisOptions options, SinkContext context);
  ~RedisSink() override;

  // Connects and looks whether the server can take our rows; writes nothing.
  Status CheckTarget(std::stop_token stop);

  Result<SinkPosition> Open(std::stop_token stop) override;
  Status Deliver(const DeliveryBatch& batch, std::stop_token stop) override;
  RefusedRows TakeRefused() override { return std::exchange(refused_, {}); }
  Result<std::optional<Offset>> ReadPosition() override;
  void Close() override;

 private:
  Status Execute(const Buffer& commands, size_t count, const std::stop_token& stop);
  Status CheckServer(std::string_view info) const;
  Result<std::optional<Offset>> ParsePosition(const redis::RedisReply& reply) const;

  Status WatchAndLook(const std::stop_token& stop);
  Status CheckOwnership() const;
  // What was read of `key`; false if it has another type than its commands need.
  Result<bool> LookAt(RedisEncoder::Key& key, const redis::RedisReply& reply);

  // True if it happened; false if EXEC did nothing because a watched key changed.
  Result<bool> ExecuteDelivery(const DeliveryBatch& batch, const std::stop_token& stop);
  Status QueueFailure() const;
  Status CheckResults(const redis::RedisReply& results);

  // Constant after construction.
  const RedisOptions options_;
  const SinkContext context_;
  const std::string position_key_;
  const std::string owner_key_;
  const std::string owner_;

  // Used by the writer thread only.
  RedisEncoder encoder_;
  std::unique_ptr<redis::RedisClient> client_;  // null: not open
  std::optional<std::string> position_;         // what position_key_ holds, as we know it
  Buffer commands_;
  RefusedRows refused_;
  // Hashes of keys whose type was seen to be right since Open().
  std::unordered_set<size_t> looked_at_;
};

}  // namespace millrace::sinks
