// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/common/result.h"
#include "millrace/config/pipeline_spec.h"
#include "millrace/config/section.h"
#include "millrace/model/stream.h"
#include "millrace/telemetry/log.h"

namespace millrace::sinks {

// Rows [begin, end) of one output batch.
struct OutputSlice {
  OutputBatchPtr batch;
  size_t begin = 0;
  size_t end = 0;

  size_t row_count() const { return end - begin; }
};

// The outputs at offsets [first, end), in order, restricted to the streams that a sink takes. May
// hold no rows: the sink then only moves its position.
struct DeliveryBatch {
  Offset first;
  Offset end;
  SourcePosition position;  // of the newest record in it
  std::vector<OutputSlice> slices;

  size_t row_count() const;
};

// Where a sink goes on.
struct SinkPosition {
  // Everything before it is durable in the target. Nothing: the target has never had a position of
  // ours.
  std::optional<Offset> delivered;
  // A delivery from `delivered` to here was begun and its outcome is unknown: the next Deliver()
  // must be of exactly these rows.
  std::optional<Offset> pending_end;
};

// What a delivery did not bring into the target because the target cannot hold it.
struct RefusedRows {
  std::map<Offset, std::string> rows;  // with one sentence why, without the row's values
  // The other rows and the position are there; otherwise nothing is.
  bool is_rest_delivered = false;
};

// Keeps a sink's plan durably in data_dir, for targets that cannot keep a position with the data.
class DeliveryLog {
 public:
  virtual ~DeliveryLog() = default;
  // What was saved last. `delivered` is nothing before the first SavePosition() or SavePlan().
  struct State {
    std::optional<Offset> delivered;
    std::string plan;  // empty: none open
  };
  virtual Result<State> Load() = 0;
  // Durable when it returns. `plan` is the sink's own text of a delivery that begins at
  // `delivered`.
  virtual Status SavePlan(Offset delivered, std::string_view plan) = 0;
  // Closes the open plan. Becomes durable with the next SavePlan() or commit of the engine.
  virtual Status SavePosition(Offset delivered) = 0;
};

// A Sink delivers output rows to one external system, each exactly once.
//
// A delivery whose outcome is unknown is offered again after a crash or an error, and a Sink must
// leave the target as if it had met it once: by a position that changes in one transaction with the
// data, by a token under which the target knows a repeat, or by absolute values under deterministic
// keys.
//
// Lifecycle: Open(), then Prepare() and Deliver() any number of times, then Close(). After an error
// the pipeline calls Close() and, by pipeline/error_policy.h, starts again from Open().
//
// Threads: one writer thread makes every call, one at a time. A Sink needs no lock of its own.
class Sink {
 public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;

  // Connects; checks that we may write; creates what is missing in the target (tables, topics);
  // fences off other writers where the target can; reads the position. kUnavailable when the
  // target cannot be reached, kFailedPrecondition with the remedy when it cannot take our rows.
  virtual Result<SinkPosition> Open(std::stop_token stop) = 0;

  // `stream` is the newest version of one of the sink's streams: alters in the target what rows of
  // it need. Comes after Open(), before the first rows of a version, and again after an error; rows
  // of older versions may still follow. kFailedPrecondition with the remedy where the target cannot
  // follow. REQUIRES: there is no pending_end.
  virtual Status Prepare(const StreamPtr& stream, std::stop_token stop) {
    (void)stream;
    (void)stop;
    return Status::Ok();
  }

  // Delivers `batch` as one unit, in row order, and returns when it is durable in the target
  // together with the position batch.end. Soon after `stop` it returns kCancelled. After another
  // failure TakeRefused() says whether rows of it are the reason.
  // REQUIRES: batch.first is the position; batch.end is pending_end where there is one. A batch
  // that is offered again, after a failure or a restart, has the same rows but for those that were
  // refused.
  virtual Status Deliver(const DeliveryBatch& batch, std::stop_token stop) = 0;

  // The rows of the last batch for which Deliver() failed; none if it failed for another reason.
  // Once a call: they are empty behind it.
  virtual RefusedRows TakeRefused() { return {}; }

  // Reads the position from the target: tells an idle sink that the target is alive and has not
  // lost what it had acknowledged.
  virtual Result<std::optional<Offset>> ReadPosition() = 0;

  // Drops the connection. May be called more than once.
  virtual void Close() = 0;
};

// What a sink's configuration asks of one stream.
struct StreamUse {
  std::string stream;
  // Columns besides the key by which the sink addresses a row: sorting keys, templates, message
  // keys. The engine keeps their values so that a delete can carry them.
  std::vector<std::string> address_columns;
  // Sets of columns by which the target keeps the newest row only, besides the stream's key.
  std::vector<std::vector<std::string>> newest_by;
};

// What a Sink is made with; all of it outlives the Sink.
struct SinkContext {
  std::string pipeline;
  std::string name;
  std::string instance_id;  // of data_dir; see storage::Store
  // Those that it uses, by name, as they are at the start. What the configuration says of others is
  // left out: their tables are not there yet.
  std::map<std::string, StreamPtr> streams;
  // Any version of them; null if there is none.
  std::function<StreamPtr(StreamId, SchemaVersion)> find_stream;
  DeliveryLog* delivery_log = nullptr;
  telemetry::Logger log;
};

// One kind of sink; components/registry.cc lists them.
struct SinkType {
  // Its name, its fields in the configuration file, its defaults and its own rules for lint.
  config::SinkTypeSpec spec;
  // The streams that a configuration names; pure.
  std::function<std::vector<StreamUse>(const config::Section&)> uses;
  // kInvalidArgument if configuration and streams do not fit.
  std::function<Result<std::unique_ptr<Sink>>(const config::Section&, SinkContext)> make;
  // Connects and asks for what delivery needs, for `millrace check`; changes nothing. The failure
  // says the remedy.
  std::function<Status(const config::Section&, const telemetry::Logger&)> check;
};

}  // namespace millrace::sinks
