// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "millrace/common/buffer.h"
#include "millrace/common/result.h"
#include "millrace/model/json_text.h"
#include "millrace/sinks/json_row.h"
#include "millrace/sinks/redis/redis_config.h"
#include "millrace/sinks/redis/xadd_id.h"
#include "millrace/sinks/sink.h"

namespace millrace::sinks {

// Turns a delivery into Redis commands, in two steps: Begin() finds the keys that it touches, so
// that the sink can look at them in Redis; Encode() writes the commands with the entry ids that
// follow from what was seen.
//
//   xadd     upsert  XADD key id field value ... _version v
//            delete  the same with the values that are known and _deleted 1
//   hset     upsert  DEL key; HSET key field value ... _version v; [PEXPIRE key ttl]
//            delete  DEL key; the old key too when it changed
//   set      upsert  SET key json [PX ttl]; deletes as with hset
//   publish  all     PUBLISH channel json
//
// Fields that are NULL are absent. An xadd key gets one XTRIM MAXLEN ~ n and one PEXPIRE at the
// end, where the entry has a maxlen or a ttl: cheaper for Redis than with each XADD.
//
// Pure: no I/O. Not thread-safe.
class RedisEncoder {
 public:
  explicit RedisEncoder(std::vector<RedisWrite> writes);

  // Takes `batch`, which must live until Encode(). kInvalidArgument for a template that does not
  // fit the stream's columns, kFailedPrecondition where two entries write the same key by commands
  // that need different types.
  Status Begin(const DeliveryBatch& batch);

  // A key or a channel that the delivery writes to.
  struct Key {
    std::string_view name;
    size_t write = 0;  // index of the entry of `writes:` that named it first
    XaddId last_id;    // for xadd: the newest id in Redis, set by the sink before Encode()
  };
  std::vector<Key>& keys() { return keys_; }

  // Where the rows stand that write to `key`.
  std::vector<Offset> RowsOf(const Key& key) const;

  // Appends the commands of the delivery. Runs() says whose they are. kInvalidArgument if a value
  // is longer than Redis takes: `refused` then has the rows, each with the reason. May be called
  // again, after last ids have been set anew.
  Status Encode(Buffer& to, std::map<Offset, std::string>& refused);

  // `count` commands of entry `write`, in the order of the commands.
  struct Run {
    size_t write = 0;
    size_t count = 0;
  };
  const std::vector<Run>& runs() const { return runs_; }
  size_t command_count() const;
  // The row that a command is of, by its place among all; nothing if it is of its key.
  std::optional<Offset> RowOfCommand(size_t command) const;

  const RedisWrite& write(size_t i) const { return writes_[i]; }

 private:
  // What is prepared once for an entry and a version of its stream.
  struct Layout {
    struct Field {
      std::string name;  // as a RESP argument
      ValueWriter write;
    };
    StreamPtr stream;
    BoundKeyTemplate key;
    std::vector<Field> fields;
  };
  // The rows of one slice for one entry of `writes:`.
  struct Job {
    const OutputSlice* slice;
    size_t write;
    std::vector<uint32_t> keys;  // for each row: index into keys_, or kLeftOut
  };
  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  using NameIndex = std::unordered_map<std::string, uint32_t, TextHash, std::equal_to<>>;

  static constexpr uint32_t kLeftOut = UINT32_MAX;

  static Offset OffsetOf(const Job& job, size_t i);
  Status PrepareLayout(size_t write, const StreamPtr& stream);
  Status AddJob(const OutputSlice& slice, size_t write);
  Result<uint32_t> FindKey(std::string_view name, size_t write);

  Status EncodeJob(const Job& job, Buffer& to, std::map<Offset, std::string>& refused);
  Status AppendXadd(const Job& job, size_t row, Key& key, Buffer& to);
  void AppendHset(const Job& job, size_t row, std::string_view key, Buffer& to);
  void AppendSet(const Job& job, size_t row, std::string_view key, Buffer& to);
  void AppendPublish(const Job& job, size_t row, std::string_view channel, Buffer& to);
  // The row's values that are not NULL, and `_version`.
  void AppendFields(const Job& job, size_t row, Buffer& to);
  size_t FieldCount(const Job& job, size_t row) const;
  void AppendTrimsAndExpires(Buffer& to);

  // Constant after construction.
  const std::vector<RedisWrite> writes_;

  std::vector<Layout> layouts_;  // one for each of writes_
  std::vector<JsonRowEncoder> json_;
  // Of the delivery at hand.
  std::vector<Job> jobs_;
  std::vector<Key> keys_;
  NameIndex key_index_;
  NameIndex channel_index_;
  std::vector<Run> runs_;
  std::vector<Offset> rows_;  // of each command but the last ones, of keys
  Buffer scratch_;
  size_t longest_argument_ = 0;
};

}  // namespace millrace::sinks
